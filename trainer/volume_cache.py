"""Images and labels on disk as training reads them: windowed to uint8 once, each in a folder of its own.

Images and labels are cached apart, so that other labels of a volume do not copy its images. A folder belongs to its
inputs by their paths, sizes and times of change, and appears under its name only when whole; so runs may share a cache.
"""

import hashlib
import json
import logging
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import VolumeError
from sennet_engine.window import surveyed_window
from sennet_trainer.growing_array import GrowingArray
from sennet_trainer.volume_pair import VolumePair
from sennet_trainer.whole_file import writing_to

# Part of the names: raise it when what is cached changes its meaning.
CACHE_VERSION = 2
IMAGES, LABELS, LABELLED, FACTS = "images.npy", "labels.npy", "labelled.npy", "facts.json"

PSEUDO_LABEL = 2
REAL_LABELS = (1, 255)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cached:
    """A cached folder.

    Attributes:
        folder: holds the arrays, and facts.json with what they were made of and their hash.
        sha256: of the images or labels in it, whatever file they came from.
    """

    folder: Path
    sha256: str


def cached_images(pair: VolumePair, cache: Path) -> Cached:
    """The used planes of `pair` as uint8 [Z, Y, X] in images.npy, found under `cache` or put there.

    Raises:
        VolumeError: the images cannot be read.
        OSError: the cache cannot be written; what there is of it is deleted.
    """
    settings, planes = pair.settings, pair.planes
    name = _hashed([fingerprint_of(settings.images), planes.start, planes.stop, settings.invert])

    def write(folder: Path) -> str:
        # The window is that of the whole volume, as the engine takes it, whatever planes are used.
        window = surveyed_window(pair.images)
        with GrowingArray(folder / IMAGES, np.uint8, pair.shape_zyx[1:]) as array:
            for z in planes:
                grey = window.to_uint8(pair.images.read_planes(z, z + 1))
                array.append(255 - grey if settings.invert else grey)
        return array.sha256

    return _cached(cache / f"images-{name}", write, source=settings.images)


def cached_labels(pair: VolumePair, cache: Path) -> Cached:
    """The labels of the used planes as 0/1 uint8 [Z, Y, X] in labels.npy, found under `cache` or put there.

    Beside them labelled.npy holds the flat indices of the labelled voxels, ascending int64.

    Raises:
        VolumeError: the labels cannot be read, or hold other values than 0/1 or 0/255, and 2 for pseudo-labels where
            the settings count these.
        OSError: the cache cannot be written; what there is of it is deleted.
    """
    settings, planes = pair.settings, pair.label_planes
    source = [fingerprint_of(settings.labels), settings.pseudo_labels] if settings.labels else []
    name = _hashed([pair.shape_zyx, planes.start, planes.stop, *source])

    def write(folder: Path) -> str:
        values = _LabelValues(pair)
        plane_voxels = pair.shape_zyx[1] * pair.shape_zyx[2]
        with (
            GrowingArray(folder / LABELS, np.uint8, pair.shape_zyx[1:]) as array,
            GrowingArray(folder / LABELLED, np.int64) as labelled,
        ):
            for index, z in enumerate(planes):
                plane = _plane_of(pair, z)
                values.check(plane, z)
                array.append((plane != 0)[None].astype(np.uint8))
                labelled.append(np.flatnonzero(plane) + index * plane_voxels)
        return array.sha256

    return _cached(cache / f"labels-{name}", write, source=settings.labels)


def fingerprint_of(path: Path) -> str:
    """Changes when the file `path`, or one of a folder `path`, gets another name, size or time of change.

    Raises:
        VolumeError: there is nothing at `path`.
    """
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        facts = [str(path.resolve()), *([file.name, *_size_and_time(file)] for file in files)]
    except FileNotFoundError as error:
        raise VolumeError(f"{path}: no such file or folder; give a TIFF, a .npy file or a folder of slices") from error
    return _hashed(facts)


class _LabelValues:
    """The values of a label volume, held against those it may have."""

    def __init__(self, pair: VolumePair) -> None:
        self._path, self._counts_pseudo = pair.settings.labels, pair.settings.pseudo_labels
        self._seen: set[float] = set()

    def check(self, plane: npt.NDArray[Any], z: int) -> None:
        values = set(np.unique(plane[plane != 0]).tolist())
        self._seen |= values
        real = self._seen - {PSEUDO_LABEL} if self._counts_pseudo else self._seen
        if not real or (len(real) == 1 and real <= set(REAL_LABELS)):
            return
        found = ", ".join(f"{value:g}" for value in sorted(values)[:8])
        expected, advice = "0/1 or 0/255 throughout", "convert the labels first"
        if self._counts_pseudo:
            expected += f", and {PSEUDO_LABEL} for pseudo-labels"
        elif PSEUDO_LABEL in real and len(real) == 2 and real & set(REAL_LABELS):
            advice = f"where {PSEUDO_LABEL} means a pseudo-label, set pseudo_labels = true, else {advice}"
        raise VolumeError(
            f"{self._path}: got labels with the values 0, {found} in plane {z}, expected {expected}; {advice}"
        )


def _plane_of(pair: VolumePair, z: int) -> npt.NDArray[Any]:
    return np.zeros(pair.shape_zyx[1:], np.uint8) if pair.labels is None else pair.labels.read_planes(z, z + 1)[0]


def _cached(folder: Path, write: Callable[[Path], str], *, source: Path | None) -> Cached:
    """What `folder` holds, after `write` has filled it where it was missing; `write` returns the content's hash."""
    if folder.exists() and not _sha256_in(folder):
        logger.warning("%s is damaged and is made again", folder)
        shutil.rmtree(folder)
    if not folder.exists():
        # A name of its own: another process may be at the same work.
        partial = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.partial")
        made = [parent for parent in partial.parents if not parent.exists()]
        try:
            partial.mkdir(parents=True)
            _warn_of_others(partial, folder)
            sha256 = write(partial)
            facts = {"of": source and str(source), "sha256": sha256}
            with writing_to(partial / FACTS):
                (partial / FACTS).write_text(json.dumps(facts, indent=2), encoding="utf-8")
            _put_in_place(partial, folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            for parent in made:  # innermost first
                with suppress(OSError):
                    parent.rmdir()
            raise
        logger.info("%s: cached in %s", source, folder)
    return Cached(folder, _sha256_in(folder))


def _sha256_in(folder: Path) -> str:
    """The hash of the content of a cached array; empty where its file is damaged."""
    try:
        return str(json.loads((folder / FACTS).read_text(encoding="utf-8"))["sha256"])
    except (ValueError, KeyError, TypeError, FileNotFoundError):
        return ""


def _warn_of_others(partial: Path, folder: Path) -> None:
    for left in sorted(set(folder.parent.glob(f"{folder.name}.*.partial")) - {partial}):
        logger.warning("%s was left by a run that was killed or is still at work; delete it in the first case", left)


def _put_in_place(partial: Path, folder: Path) -> None:
    """Rename; where another process was faster, its result stands, for it holds the same."""
    try:
        partial.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        shutil.rmtree(partial)


def _hashed(facts: list[Any]) -> str:
    return hashlib.sha256(json.dumps([CACHE_VERSION, *facts]).encode()).hexdigest()[:16]


def _size_and_time(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns
