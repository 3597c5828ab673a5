"""The files of a report: whole or not at all, and nothing is replaced unasked."""

from collections.abc import Sequence
from pathlib import Path

from sennet_engine.errors import OutputError
from sennet_trainer.whole_file import write_whole


def refuse_existing(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Raises OutputError where one of them is a folder, or is there and shall not be replaced."""
    for path in paths:
        if path.is_dir() or (path.exists() and not overwrite):
            what = "is a folder; name a file" if path.is_dir() else "exists; --overwrite replaces it"
            raise OutputError(f"{path}: {what}")
    if len({path.resolve() for path in paths}) < len(paths):
        raise OutputError(f"{paths[0]}: is named for the page and for the tables; give two files")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`. Raises OutputError where that cannot be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
