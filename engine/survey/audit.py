"""Compute a random sample of what was left out as background after all, and count what was missed by that."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from sennet_engine.card import Tiling
from sennet_engine.errors import ConfigError, OverflowedError
from sennet_engine.pipeline.overflow import OverflowWatch
from sennet_engine.pipeline.resize import resized_grey
from sennet_engine.planning.cells import CELL, Occupancy
from sennet_engine.planning.layout import Rectangle, Tile, mirrored
from sennet_engine.planning.passes import AxisPlan, PassPlan, Plan
from sennet_engine.planning.scale import network_shape
from sennet_engine.predictor import Predictor, Tiles
from sennet_engine.volumes.volume import Volume
from sennet_engine.window import Window

logger = logging.getLogger(__name__)

DEFAULT_SHARE = 0.01
LEVELS = 256
# The smallest tile of which at least a quarter is far enough from the edge is the cheapest way to see a place.
SIDE_IN_HALOS = 4


@dataclass(frozen=True)
class Place:
    """A tile of plane `z` to be computed after all; one rectangle of it is kept."""

    z: int
    tile: Tile


@dataclass(frozen=True)
class Audit:
    """What a sample of the background would have been.

    Attributes:
        tiles: computed for the audit.
        voxels: looked at, all of them in cells that had been left out.
        vessel_voxels: those of them at or above the threshold.
        highest_probability: among them, 0 to 1.
        tiles_overflowed: of `tiles`, those to which nothing had a finite answer; none of their voxels was looked at.
    """

    tiles: int
    voxels: int
    vessel_voxels: int
    highest_probability: float
    tiles_overflowed: int = 0

    @property
    def sentence(self) -> str:
        """For people, without a full stop."""
        found = f"{self.vessel_voxels:,}" if self.vessel_voxels else "none"
        unknown = f"; {self.tiles_overflowed} of {self.tiles} tiles overflowed" if self.tiles_overflowed else ""
        return (
            f"of {self.voxels:,} voxels of background computed after all {found} would have been vessel, "
            f"highest probability {self.highest_probability:.2f}{unknown}"
        )


def audited(
    volume: Volume,
    window: Window,
    plan: Plan,
    predictors: Mapping[str, Predictor],
    *,
    tilings: Mapping[str, Tiling],
    sides: Mapping[str, Sequence[int]] = MappingProxyType({}),
    share: float = DEFAULT_SHARE,
    seed: int = 0,
    overflows: OverflowWatch | None = None,
) -> Audit | None:
    """Show the plan's first network places along z that were left out; None where nothing was, or with a share of 0.

    Flips are left aside. Of a plan without a pass along z, the first network is shown planes along z all the same.

    Args:
        predictors, tilings: by the keys of the plan's models.
        sides: likewise, where what is loaded takes tiles of these sides alone.
        share: of the pixels that the first pass computes, at most so many are spent; but one tile always is.
        overflows: as in `audit`.

    Raises:
        ConfigError: the share is not in [0, 1].
        VolumeError: a plane cannot be read.
        ModelError: the network fails.
    """
    axis = next(axis for axis in plan.axes if axis.passes)
    one = axis.passes[0]
    tiling = tilings[one.model]
    tiling = tiling.model_copy(update={"sides": sorted(sides.get(one.model, tiling.sides))})
    places = audit_places(axis, one, tiling=tiling, share=share, seed=seed)
    if not places:
        return None
    return audit(
        volume, window, predictors[one.model], places,
        occupancy=plan.occupancy, one=one, threshold_milli=plan.threshold_milli, overflows=overflows,
    )  # fmt: skip


def audit_places(
    axis: AxisPlan, one: PassPlan, *, tiling: Tiling, share: float = DEFAULT_SHARE, seed: int = 0
) -> tuple[Place, ...]:
    """Tiles around random cells that were left out, in network pixels of planes along z; ordered by plane.

    One cell is drawn from each of as many equal parts of the volume, from the first plane to the last, as there are
    tiles. The same seed gives the same places.

    Raises:
        ConfigError: the share is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"audit share: got {share}, expected 0 to 1; 0.01 spends a hundredth of the computing on it")
    occupancy = axis.occupancy
    skipped = np.argwhere(~occupancy.cells)
    if not share or not len(skipped):
        return ()
    side = _side(one, tiling)
    computed = sum(one.layout_of(plane).computed_pixels for plane in range(axis.shape[0]))
    count = min(max(1, int(share * computed) // side**2), len(skipped))
    draw = np.random.default_rng(seed)
    parts = np.linspace(0, len(skipped), count + 1).astype(np.int64)
    depth, *plane_shape = occupancy.shape_zyx
    places = set()
    for layer, *cell in skipped[draw.integers(parts[:-1], parts[1:])].tolist():
        z = int(draw.integers(CELL * layer, min(CELL * (layer + 1), depth)))
        spans = [
            _span((CELL * index + min(CELL * (index + 1), size)) / (2 * size), pixels, side, tiling)
            for index, size, pixels in zip(cell, plane_shape, _seen_shape(occupancy, one), strict=True)
        ]
        (row, top, bottom), (column, left, right) = spans
        places.add(Place(z, Tile((row, column), (side, side), (Rectangle(top, left, bottom, right),))))
    return tuple(sorted(places, key=lambda place: (place.z, place.tile.origin)))


def audit(
    volume: Volume,
    window: Window,
    predictor: Predictor,
    places: Sequence[Place],
    *,
    occupancy: Occupancy,
    one: PassPlan,
    threshold_milli: int,
    overflows: OverflowWatch | None = None,
) -> Audit:
    """Compute `places` by the network of pass `one` and count the voxels of cells that were left out.

    The mask is made by then and does not depend on them: a place to which nothing has a finite answer is logged and
    counted, and ends nothing.

    Args:
        overflows: answers in place of a network that overflows; by default nothing does.

    Raises:
        VolumeError: a plane cannot be read.
        ModelError: the network fails.
    """
    shape = _seen_shape(occupancy, one)
    counts = np.zeros(LEVELS, np.int64)
    overflows, without_answer = overflows or OverflowWatch(), 0
    cut = _tiles_of_places(volume, window, places, shape)
    for start in range(0, len(places), one.batch):
        some = places[start : start + one.batch]
        tiles = np.zeros((one.batch, 1, *some[0].tile.shape), np.uint8)
        tiles[: len(some), 0] = list(islice(cut, len(some)))
        answers = _answers(predictor, tiles, some, one, overflows)
        without_answer += sum(answer is None for answer in answers)
        for place, answer in zip(some, answers, strict=True):
            if answer is None:
                continue
            counts += np.bincount(_skipped_levels(answer, place, occupancy, shape), minlength=LEVELS)
    levels = np.arange(LEVELS)
    return Audit(
        tiles=len(places),
        voxels=int(counts.sum()),
        vessel_voxels=int(counts[levels * 1000 >= threshold_milli * 255].sum()),
        highest_probability=int(levels[counts > 0].max(initial=0)) / 255,
        tiles_overflowed=without_answer,
    )


def _answers(
    predictor: Predictor, tiles: Tiles, places: Sequence[Place], one: PassPlan, overflows: OverflowWatch
) -> list[Tiles | None]:
    """The answers [rows, columns] to `places`, with which `tiles` [B, 1, rows, columns] begin; None for no answer."""
    try:
        return list(predictor.predict(tiles)[: len(places), 0])
    except OverflowedError as error:
        found: list[Tiles | None] = list(error.answers[: len(places), 0])
        for index in (index for index in error.tiles if index < len(places)):
            place = places[index]
            try:
                found[index] = overflows.answer(one, place.z, place.tile, tiles[index, 0], axis="z")
            except OverflowedError as without:
                logger.warning("the audit leaves out a tile of background: %s", without)
                found[index] = None
        return found


def _side(one: PassPlan, tiling: Tiling) -> int:
    if not tiling.exact:  # it answers differently on tiles of another side
        return next((layout.tiles[0].shape[0] for layout in one.layouts if layout.tiles), tiling.default_side)
    return next((side for side in tiling.sides if side >= SIDE_IN_HALOS * tiling.halo), tiling.sides[-1])


def _seen_shape(occupancy: Occupancy, one: PassPlan) -> tuple[int, int]:
    """Rows and columns of planes along z as the network sees them."""
    return network_shape(occupancy.shape_zyx[1:], one.scale)


def _span(middle: float, pixels: int, side: int, tiling: Tiling) -> tuple[int, int, int]:
    """Origin, and first and last (exclusive) kept pixel of a tile around `middle`, a share of the axis."""
    last = -(-max(0, pixels - side) // tiling.stride) * tiling.stride
    wanted = round((middle * pixels - side / 2) / tiling.stride) * tiling.stride
    origin = min(max(0, wanted), last)
    stop = origin + side
    return origin, origin + tiling.halo if origin else 0, pixels if stop >= pixels else stop - tiling.halo


def _tiles_of_places(
    volume: Volume, window: Window, places: Sequence[Place], shape: tuple[int, int]
) -> Iterator[Tiles]:
    """The [rows, columns] of each place; a plane that holds several is read once."""
    for z, on_plane in groupby(places, key=lambda place: place.z):
        plane = resized_grey(window.to_uint8(volume.read_planes(z, z + 1)), shape)
        for place in on_plane:
            rows, columns = place.tile.slices
            padded = mirrored(plane, (max(shape[0], rows.stop), max(shape[1], columns.stop)))
            yield padded[0, rows, columns]


def _skipped_levels(answer: Tiles, place: Place, occupancy: Occupancy, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The answers [n] at those voxels of cells left out whose middle lies in what is kept of the place."""
    (kept,), (row, column) = place.tile.kept, place.tile.origin
    rows, columns = (
        np.floor((np.arange(size) + 0.5) * pixels / size).astype(np.intp)
        for size, pixels in zip(occupancy.shape_zyx[1:], shape, strict=True)
    )
    row_span = slice(*np.searchsorted(rows, (kept.top, kept.bottom)))
    column_span = slice(*np.searchsorted(columns, (kept.left, kept.right)))
    skipped = ~occupancy.voxels_of_plane("z", place.z)[row_span, column_span]
    levels: npt.NDArray[np.uint8] = answer[np.ix_(rows[row_span] - row, columns[column_span] - column)][skipped]
    return levels
