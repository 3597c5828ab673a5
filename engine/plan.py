"""What will be done, before it is done: slabs of planes, tiles of a plane, batches, threshold."""

from dataclasses import dataclass

from sennet_engine.card import ModelCard, Tiling
from sennet_engine.errors import ConfigError
from sennet_engine.tiles import TileGrid, tile_grid

DEFAULT_SLAB_PLANES = 16
DEFAULT_BATCH = 1


@dataclass(frozen=True)
class Slab:
    """A run of planes, `start` to `stop` (exclusive): the unit of memory and of output."""

    start: int
    stop: int


@dataclass(frozen=True)
class Plan:
    """How a volume goes through a model.

    Attributes:
        shape_zyx: the volume's shape.
        grid: the tiles of every plane.
        slabs: runs of planes that cover the volume in order.
        batch: tiles a call of the predictor; the last batch is padded to it.
        threshold_milli: a voxel is vessel where its probability times 1000 is at or above it.
    """

    shape_zyx: tuple[int, int, int]
    grid: TileGrid
    slabs: tuple[Slab, ...]
    batch: int
    threshold_milli: int

    @property
    def tile_count(self) -> int:
        """Tiles of the whole volume."""
        return self.shape_zyx[0] * len(self.grid)


@dataclass(frozen=True)
class PlanRequest:
    """What a person may ask for; None leaves it to the model card."""

    tile: int | None = None
    threshold: float | None = None
    batch: int = DEFAULT_BATCH
    slab_planes: int = DEFAULT_SLAB_PLANES


def make_plan(shape_zyx: tuple[int, int, int], card: ModelCard, request: PlanRequest) -> Plan:
    """Plan a volume of `shape_zyx` for the model of `card`.

    Raises:
        ConfigError: a tile side that the model does not take, or a value out of its range.
    """
    tiling = card.tiling
    if request.tile is not None and request.tile not in tiling.sides:
        allowed = ", ".join(map(str, tiling.sides))
        raise ConfigError(f"tile: got {request.tile}, expected one of the sides that {card.name} takes: {allowed}")
    # A network that is not exact on tiles keeps its own side: another would change its answer.
    own = tiling.sides if tiling.exact else [tiling.default_side]
    sides = own if request.tile is None else [request.tile]
    threshold = card.threshold.value if request.threshold is None else request.threshold
    if not 0.001 <= threshold <= 0.999:
        raise ConfigError(f"threshold: got {threshold}, expected a probability from 0.001 to 0.999")
    for name, value in (("batch", request.batch), ("slab", request.slab_planes)):
        if value < 1:
            raise ConfigError(f"{name}: got {value}, expected at least 1")
    depth, step = shape_zyx[0], request.slab_planes
    return Plan(
        shape_zyx=shape_zyx,
        grid=_cheapest_grid(shape_zyx[1:], tiling, sides),
        slabs=tuple(Slab(start, min(start + step, depth)) for start in range(0, depth, step)),
        batch=request.batch,
        threshold_milli=round(1000 * threshold),
    )


def _cheapest_grid(plane_shape: tuple[int, int], tiling: Tiling, sides: list[int]) -> TileGrid:
    """The grid that computes the fewest pixels for a plane; of equals the one of smaller tiles."""
    grids = [tile_grid(plane_shape, side=side, halo=tiling.halo, stride=tiling.stride) for side in sides]
    return min(grids, key=lambda grid: (len(grid) * grid.side**2, grid.side))
