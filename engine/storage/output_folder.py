"""An output folder that appears under its final name only when everything in it is whole."""

import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from sennet_engine.errors import OutputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderKind:
    """What a finished folder of one kind holds: `marker` always, `others` (or names like them) perhaps, nothing else.

    Only a folder like that is ever replaced, so that a mistyped name costs nobody their data.
    """

    marker: str
    others: tuple[str, ...]

    def foreign(self, folder: Path) -> list[str]:
        """What shows that `folder` is not of this kind: files that it would not hold, or the lack of the marker."""
        names = {file.name for file in folder.iterdir()}
        missing = [f"no {self.marker}"] if names and self.marker not in names else []
        known = (self.marker, *self.others)
        return sorted(name for name in names if not any(fnmatchcase(name, one) for one in known)) + missing


@contextmanager
def output_folder(path: Path, kind: FolderKind, *, overwrite: bool) -> Iterator[Path]:
    """Yield a folder to write into; it becomes `path` at the end, or is removed if anything fails.

    It lies beside `path` under a name of its own until then, so two runs never write into one. What stood at `path`
    is moved aside, and comes back if the new folder cannot take its place.

    Raises:
        OutputError: `path` exists and may not be replaced, or its parent cannot be written.
    """
    path = path.resolve()
    refuse_existing(path, kind, overwrite=overwrite)
    missing_parents = [parent for parent in path.parents if not parent.exists()]
    partial = beside(path, "partial")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        remove_empty(missing_parents)
        raise OutputError(f"{path}: cannot be made ({error.strerror}); choose another place") from error
    # What a work folder keeps for a resume has another name, and so has what belongs to a neighbour like NAME.old.
    name_of_ours = re.compile(rf"\.{re.escape(path.name)}\.\d+-[0-9a-f]{{6}}\.(partial|former)")
    for left in {one for one in path.parent.iterdir() if name_of_ours.fullmatch(one.name)} - {partial}:
        logger.warning("%s was left by a run that was killed or is still at work; delete it in the first case", left)
    try:
        yield partial
        # Again: another run may have put its result there in the meantime.
        refuse_existing(path, kind, overwrite=overwrite)
        _put_in_place(partial, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk does not say which
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        remove_empty(missing_parents)


def refuse_existing(path: Path, kind: FolderKind, *, overwrite: bool) -> None:
    """Raise OutputError if `path` exists and may not be replaced: to be called before any work is done."""
    path = path.resolve()
    if not path.exists():
        return
    if not overwrite:
        raise OutputError(f"{path}: exists already; choose another place or replace it with --overwrite")
    if not path.is_dir() or path.is_mount():
        raise OutputError(f"{path}: is a file or a mount point and cannot be replaced; give a folder below it")
    if foreign := kind.foreign(path):
        raise OutputError(
            f"{path}: is no earlier result of this command ({', '.join(foreign[:3])}) and is not replaced; choose "
            f"another place"
        )


def _put_in_place(partial: Path, path: Path) -> None:
    former = beside(path, "former") if path.exists() else None
    try:
        if former:
            path.rename(former)
        try:
            partial.rename(path)
        except BaseException:
            if former:
                former.rename(path)
            raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be replaced ({error.strerror}); choose another place") from error
    if former:
        shutil.rmtree(former, ignore_errors=True)


def beside(path: Path, role: str) -> Path:
    """A hidden name beside `path` that no other run takes: for a folder that is not finished, or is about to go."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(3)}.{role}")


def remove_empty(folders: list[Path]) -> None:
    """Remove those of `folders` that are empty, in their order: parents after what lies in them."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
