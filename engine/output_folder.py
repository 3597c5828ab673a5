"""An output folder that appears under its final name only when everything in it is whole."""

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from sennet_engine.errors import OutputError


@contextmanager
def output_folder(path: Path, *, overwrite: bool, owned: Collection[str]) -> Iterator[Path]:
    """Yield a folder to write into; it becomes `path` at the end, or is removed if anything fails.

    Args:
        path: the final name. A folder that exists is refused, or replaced with `overwrite`.
        owned: the names of all files that a folder of this kind may hold. A folder that holds anything else is never
            replaced, so that a mistyped name costs nobody their data.

    Raises:
        OutputError: `path` exists and may not be replaced, or its parent cannot be written.
    """
    refuse_existing(path, overwrite=overwrite, owned=owned)
    partial, former = (path.with_name(path.name + suffix) for suffix in (".partial", ".former"))
    try:
        # What a killed run left behind is worth nothing.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made ({error.strerror}); choose another place") from error
    try:
        yield partial
        # Renamed, not deleted first: at no moment is there half of either.
        if path.exists():
            path.rename(former)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def refuse_existing(path: Path, *, overwrite: bool, owned: Collection[str]) -> None:
    """Raise OutputError if `path` exists and may not be replaced: to be called before any work is done."""
    if not path.exists():
        return
    if not overwrite:
        raise OutputError(f"{path}: exists already; choose another place or replace it with --overwrite")
    foreign = sorted(file.name for file in path.iterdir() if file.name not in owned) if path.is_dir() else [path.name]
    if foreign:
        raise OutputError(
            f"{path}: holds {', '.join(foreign[:3])}, which no run of this command wrote, and is not replaced; "
            f"choose another place"
        )
