"""Folders that engines are kept in: one process at a time, under no other user's hands, and without leftovers."""

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sennet_engine.errors import OutputError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

OnStep = Callable[[str], None]
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
SCRATCH = ".building-"


def is_writable(folder: Path) -> bool:
    """Whether files can be made in `folder`; asked by making one, since rights alone do not tell."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError as error:
        if error.errno in READ_ONLY:
            return False
        raise


@contextmanager
def scratch_folder(folder: Path, on_step: OnStep) -> Iterator[Path]:
    """Lock `folder` against other processes that build there, and yield a hidden folder in it which goes in the end.

    A killed process loses its lock; what it leaves of its hidden folder, the next one removes. Where the disk has no
    locks, as some network disks and Windows, nothing is removed: another process may be at work there.
    """
    descriptor = os.open(folder, os.O_RDONLY) if fcntl is not None else None
    try:
        if descriptor is not None and _locked(descriptor, folder, on_step):
            for left in folder.glob(f"{SCRATCH}*"):
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder) as scratch:
            yield Path(scratch)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def private_folder(folder: Path) -> None:
    """Make `folder` where it is missing, and shut it to other users: what lies in it is handed to the GPU.

    Raises:
        OutputError: it belongs to another user, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not is_own(folder):
            raise OutputError(f"{folder}: belongs to another user, expected a folder of your own for engines")
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise OutputError(f"{folder}: cannot hold engines ({error.strerror}); make it writable") from error


def is_own(path: Path) -> bool:
    """Whether `path`, and not only what it may link to, belongs to this user; true where files belong to nobody."""
    return not hasattr(os, "geteuid") or path.lstat().st_uid == os.geteuid()


def _locked(descriptor: int, folder: Path, on_step: OnStep) -> bool:
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_step(f"waiting for another process that builds an engine in {folder}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        logger.warning("%s: cannot be locked (%s); build an engine there by one process at a time", folder, error)
        return False
    return True
