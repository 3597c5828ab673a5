"""What has to survive a run that is killed, or a machine that goes down: written out, and errors that name the file."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Not every system knows the lighter of the two, which leaves out the file's times.
fdatasync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


def write_durably(path: Path, data: bytes) -> None:
    """Write `data` to `path`, which exists only when whole, and return when it is on the disk.

    Raises:
        OSError: the disk is full, or fails; it names the file.
    """
    unfinished = path.with_name(f"{path.name}.new")
    with naming(path):
        try:
            with unfinished.open("wb") as file:
                file.write(data)
                file.flush()
                fdatasync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    """Write all of `data` at `offset`, and return where it ends; the system may need several calls."""
    rest = memoryview(data)
    while rest:
        count = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[count:], offset + count
    return offset


def sync_folder(folder: Path) -> None:
    """Return when the names in `folder` are on the disk: without it a new file may be lost with the machine."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the system inside say that it was `path`: a full disk does not tell which file it met."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
