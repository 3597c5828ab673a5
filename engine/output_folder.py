"""An output folder that appears under its final name only when everything in it is whole."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sennet_engine.errors import OutputError


@contextmanager
def output_folder(path: Path, *, overwrite: bool, marker: str) -> Iterator[Path]:
    """Yield a folder to write into; it becomes `path` at the end, or is removed if anything fails.

    Args:
        path: the final name. A folder that exists is refused, or replaced with `overwrite`.
        marker: a file that every finished folder of this kind holds. Only a folder that has it is ever replaced,
            so that a mistyped name costs nobody their data.

    Raises:
        OutputError: `path` exists and may not be replaced, or its parent cannot be written.
    """
    refuse_existing(path, overwrite=overwrite, marker=marker)
    partial = path.with_name(path.name + ".partial")
    try:
        # What a killed run left behind is worth nothing.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made ({error.strerror}); choose another place with --out") from error
    try:
        yield partial
        if path.exists():
            shutil.rmtree(path)
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def refuse_existing(path: Path, *, overwrite: bool, marker: str) -> None:
    """Raise OutputError if `path` exists and may not be replaced: to be called before any work is done."""
    if not path.exists():
        return
    if not overwrite:
        raise OutputError(f"{path}: exists already; choose another place with --out or replace it with --overwrite")
    if not path.is_dir() or (any(path.iterdir()) and not (path / marker).is_file()):
        raise OutputError(
            f"{path}: is not a finished result (it holds no {marker}) and is not replaced; choose another"
        )
