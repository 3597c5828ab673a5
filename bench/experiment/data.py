"""The volumes of the experiment: a dense one, two whose labels lose branches, and others to score on."""

import json
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sennet_bench.branches import dropped_branches
from sennet_bench.stack_files import read_stack, write_stack
from sennet_engine.errors import VolumeError
from sennet_engine.storage.output_folder import FolderKind, output_folder
from sennet_trainer.phantom import PhantomSettings, make_phantom
from sennet_trainer.phantom.look import Kidney
from sennet_trainer.recipe.settings import RecipeSettings

FACTS = "data.json"
PHANTOM_SHAPE_ZYX = (72, 256, 256)
KIDNEYS: dict[str, Kidney] = {"dense": 1, "sparse_85": 1, "sparse_65": 2, "unseen": 3}
"""The phantoms of the experiment, and whose look each has."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labelled:
    """An image, uint8 [Z, Y, X], and its dense labels, bool of the same shape."""

    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Stack:
    """A two-photon stack and its columns that are used, from the first to the second (exclusive)."""

    name: str
    columns: tuple[int, int] = (0, 512)


# The first two show the same tissue before and after, so halves of them are used. The third is parted along its
# columns, since its vessels differ with depth.
STACKS = {
    "dense": Stack("poon2015_BBB_noLeakage", (0, 256)),
    "sparse_85": Stack("poon2015_BBB_Leakage", (256, 512)),
    "sparse_65": Stack("burgess2014_bbbDisruption", (0, 330)),
    "held_out_65": Stack("burgess2014_bbbDisruption", (350, 512)),
    "unseen": Stack("santos2015_lowContrastVessels"),
}


def phantom_volume(name: str, seed: int) -> Labelled:
    """The phantom `name` of the experiment; every seed has other kidneys."""
    settings = PhantomSettings(PHANTOM_SHAPE_ZYX, KIDNEYS[name], seed=100 * seed + list(KIDNEYS).index(name), bits=8)
    phantom = make_phantom(settings)
    return Labelled(phantom.image.astype(np.uint8), phantom.labels > 0)


def two_photon_volume(name: str, folder: Path) -> Labelled:
    """The two-photon stack `name` of the experiment, from `NAME_image.tif` and `NAME_label.tif` in `folder`.

    Raises:
        VolumeError: a file is missing or cannot be read.
    """
    stack = STACKS[name]
    image, labels = (
        _read(folder / f"{stack.name}_{kind}.tif")[..., slice(*stack.columns)] for kind in ("image", "label")
    )
    return Labelled(image, labels > 0)


def make_data(
    folder: Path, names: Collection[str], *, seed: int, recipe: RecipeSettings, volume: Callable[[str], Labelled]
) -> None:
    """Write the volumes `names` into `folder`, each with image.tif and labels.tif, unless they are there already.

    A volume of `recipe` that states a share below 1 gets labels_sparse.tif too: of the planes that the recipe trains
    on, that share of the labelled voxels; the other planes have no labels.

    Raises:
        OutputError: the folder cannot be written, or holds something else.
        VolumeError: a volume cannot be read, or has no labelled voxel.
    """
    if (folder / FACTS).exists():
        return
    facts: dict[str, dict[str, Any]] = {}
    kind = FolderKind(marker=FACTS, others=tuple(names))
    with output_folder(folder, kind, overwrite=True) as whole:
        for name in names:
            made = volume(name)
            (whole / name).mkdir()
            write_stack(whole / name / "image.tif", made.image)
            write_stack(whole / name / "labels.tif", made.labels.astype(np.uint8))
            facts[name] = {"shape_zyx": made.image.shape, "labelled_voxels": int(np.count_nonzero(made.labels))}
            used = recipe.volumes[name]
            if used.label_fraction < 1:
                sparse, share = _sparse(made.labels, used.slices, keep=used.label_fraction, seed=seed)
                write_stack(whole / name / "labels_sparse.tif", sparse)
                facts[name]["kept_share"] = share
        (whole / FACTS).write_text(json.dumps(facts, indent=2), encoding="utf-8")


def _sparse(
    labels: npt.NDArray[np.bool_], planes: tuple[int, int] | None, *, keep: float, seed: int
) -> tuple[npt.NDArray[np.uint8], float]:
    used = slice(*planes) if planes else slice(None)
    dropped = dropped_branches(labels[used], keep=keep, seed=seed)
    if not dropped.meets(keep):
        logger.warning("kept %.1f %% of the labels, %.0f %% were asked for", 100 * dropped.kept_share, 100 * keep)
    sparse = np.zeros(labels.shape, np.uint8)
    sparse[used] = dropped.mask
    return sparse, dropped.kept_share


def _read(path: Path) -> npt.NDArray[np.uint8]:
    stack = read_stack(path)
    if stack.dtype != np.uint8:
        raise VolumeError(f"{path}: got voxels of type {stack.dtype}, expected uint8 as in the two-photon stacks")
    return stack
