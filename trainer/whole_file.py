"""A file appears under its name only when it is whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, then put it in its place in one step. An OSError names `path`."""
    partial = path.with_name(path.name + ".partial")
    try:
        with writing_to(path):
            partial.write_bytes(content)
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """An OSError within carries `path`: what a full disk raises names no file."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise
