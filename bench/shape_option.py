"""The option `--shape Z,Y,X`, or another of such a shape."""

from sennet_engine.errors import ConfigError


def shape_from_text(text: str, *, option: str = "--shape") -> tuple[int, int, int]:
    """Planes, rows and columns from `64,512,512`.

    Raises:
        ConfigError: other than three whole numbers.
    """
    try:
        z, y, x = (int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{option}: got {text!r}, expected three whole numbers Z,Y,X such as 64,512,512") from error
    return z, y, x
