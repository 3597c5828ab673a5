"""Labels with what networks found added to them, as label files in which both can be told apart."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sennet_engine.config import Config
from sennet_engine.results.stack_writer import StackWriter
from sennet_trainer.labelled_volume import LabelledVolume
from sennet_trainer.prediction.mean_probability import MeanProbability
from sennet_trainer.prediction.passes import Observer
from sennet_trainer.volume_cache import PSEUDO_LABEL
from sennet_trainer.volume_pair import VolumePair, opened_pair
from sennet_trainer.whole_file import writing_to

PARTIAL = "labels.partial"
# The names of label files: labels_0.150.tif.
PATTERN = "labels_[0-9].[0-9][0-9][0-9].tif"


class LabelFile(Config):
    """A label file: 0 background, 1 real label, 2 pseudo-label.

    Attributes:
        name: in the folder.
        threshold: of the mean probability.
        added_voxels: with a pseudo-label.
    """

    name: str
    threshold: float
    added_voxels: int


@dataclass(frozen=True)
class Merged:
    """Label files by ascending threshold, and the plane (of those used) to which the first of them adds most."""

    files: list[LabelFile]
    fullest_plane: int


def merge_labels(
    volume: LabelledVolume, mean: MeanProbability, thresholds_milli: Sequence[int], folder: Path, *, observer: Observer
) -> Merged:
    """Write a label file into `folder` for each threshold: the real labels as 1, and as 2 what is found beside them.

    A real label is never changed. A file has all planes of the volume; those that are not used keep their real labels.
    Where the labels cover a part of the planes, it has the used planes alone: the others are unlabelled, not
    background. Files appear under their names when all of them are whole.

    Raises:
        VolumeError: the labels cannot be read.
        OSError: a file cannot be written.
    """
    names = [f"labels_{milli / 1000:.3f}.tif" for milli in thresholds_milli]
    levels = [mean.level(milli) for milli in thresholds_milli]
    partial = folder / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with writing_to(partial):
            partial.mkdir(parents=True)
        with opened_pair(volume.settings) as pair, writing_to(partial):
            added = _write_files([partial / name for name in names], levels, pair, mean, observer)
        for name in names:
            (partial / name).replace(folder / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    files = [
        LabelFile(name=name, threshold=milli / 1000, added_voxels=sum(by_plane))
        for name, milli, by_plane in zip(names, thresholds_milli, added, strict=True)
    ]
    return Merged(files, fullest_plane=int(np.argmax(added[0])))


def _write_files(
    paths: Sequence[Path], levels: Sequence[int], pair: VolumePair, mean: MeanProbability, observer: Observer
) -> list[list[int]]:
    """Returns the added voxels of each file by used plane."""
    planes = _written_planes(pair)
    shape_zyx = (len(planes), *pair.images.shape_zyx[1:])
    given_um = pair.settings.voxel_size_um
    voxel_size_um = pair.images.voxel_size_um if given_um is None else (given_um, given_um, given_um)
    sums, used = mean.sums, pair.label_planes
    added: list[list[int]] = [[] for _ in paths]
    with ExitStack() as stack:
        writers = [
            stack.enter_context(StackWriter(path, shape_zyx=shape_zyx, voxel_size_um=voxel_size_um)) for path in paths
        ]
        for done, (z, real) in enumerate(_real_labels(pair, planes), start=1):
            for writer, level, counts in zip(writers, levels, added, strict=True):
                labels = real.astype(np.uint8)
                if z in used:
                    new = (sums[z - used.start] >= level) & ~real
                    labels[new] = PSEUDO_LABEL
                    counts.append(int(np.count_nonzero(new)))
                writer.append(labels[None])
            observer("merging", done, len(planes))
    return added


def _written_planes(pair: VolumePair) -> range:
    """As the labels count them."""
    assert pair.labels is not None  # else no voxel would be labelled
    covers_all = pair.labels.shape_zyx[0] == pair.images.shape_zyx[0]
    return range(pair.labels.shape_zyx[0]) if covers_all else pair.label_planes


def _real_labels(pair: VolumePair, planes: range) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    assert pair.labels is not None
    for z in planes:
        yield z, pair.labels.read_planes(z, z + 1)[0] != 0
