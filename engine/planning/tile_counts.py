"""How many tiles of which shape a plan holds."""

from collections import Counter
from collections.abc import Sequence

from sennet_engine.planning.cells import CELL
from sennet_engine.planning.passes import AxisPlan, Plan

Shape = tuple[int, int]


def tile_counts(plan: Plan, *, axes: Sequence[AxisPlan] | None = None) -> Counter[tuple[str, Shape]]:
    """Tiles of `axes` (of all) by their pass's model and their (rows, columns), as if no cascade left any out."""
    counts: Counter[tuple[str, Shape]] = Counter()
    for axis in plan.axes if axes is None else axes:
        planes_of_layer = Counter(plane // CELL for plane in range(axis.shape[0]))
        for one in axis.passes:
            for layer, planes in planes_of_layer.items():
                for tile in one.layouts[layer]:
                    counts[one.model, tile.shape] += planes
    return counts


def costliest_shape(plan: Plan, model: str) -> Shape | None:
    """The (rows, columns) in which most pixels go through `model`; None where none do."""
    pixels = {
        shape: count * shape[0] * shape[1] for (key, shape), count in tile_counts(plan).items() if key == model
    }  # fmt: skip
    return max(pixels, key=lambda shape: (pixels[shape], shape)) if pixels else None


def largest_shape(plan: Plan, model: str) -> Shape | None:
    """(rows, columns) of the largest tile that goes through `model`; None where none does."""
    shapes = (shape for key, shape in tile_counts(plan) if key == model)
    return max(shapes, key=lambda shape: (shape[0] * shape[1], shape), default=None)
