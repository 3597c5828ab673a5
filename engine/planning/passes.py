"""What is to be done with a volume, pass by pass: the plan's nouns. `planner.py` makes them."""

from dataclasses import dataclass

from sennet_engine.ensemble import Flip
from sennet_engine.planning.axes import Axis
from sennet_engine.planning.cells import CELL, Occupancy
from sennet_engine.planning.layout import Layout


@dataclass(frozen=True)
class Slab:
    """A run of planes, `start` to `stop` (exclusive): the unit of memory, of resume and of output."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class PassPlan:
    """One network over the planes along one axis, mirrored in one way.

    Attributes:
        model: key of the predictor that answers.
        name: for people: the model, its flip and its scale.
        scale: of rows and columns: network pixels a voxel. (1, 1) is not resized.
        layouts: the tiles, one layout for each layer of cells along the axis; in the network's pixels.
        flip: tiles are mirrored before and after the network.
        weight: its answers count so often.
        batch: tiles in a call of the predictor; all of one shape, the last batch is filled up.
    """

    model: str
    name: str
    scale: tuple[float, float]
    layouts: tuple[Layout, ...]
    flip: Flip
    weight: int
    batch: int

    def layout_of(self, plane: int) -> Layout:
        """The tiles of one plane."""
        return self.layouts[plane // CELL]


@dataclass(frozen=True)
class Cascade:
    """Tiles of all passes but the first go on only where the first pass answered `level` (1..255) or more."""

    level: int


@dataclass(frozen=True)
class AxisPlan:
    """All passes over the planes along one axis.

    Attributes:
        shape: planes, rows, columns of the volume seen along the axis, in voxels.
        slabs: runs of planes that cover it in order.
        passes: the first is that of a cascade, if there is one and the axis is the plan's first.
        total_weight: of the plan, not of the axis: what the sums are held for.
    """

    axis: Axis
    shape: tuple[int, int, int]
    slabs: tuple[Slab, ...]
    passes: tuple[PassPlan, ...]
    occupancy: Occupancy
    total_weight: int
    cascade: Cascade | None = None

    @property
    def tile_count(self) -> int:
        """Tiles of all passes over all planes, as if none was left out by a cascade."""
        return sum(len(one.layout_of(plane)) for one in self.passes for plane in range(self.shape[0]))

    @property
    def computed_pixels(self) -> int:
        """Pixels that go through networks, as if none was left out by a cascade."""
        return sum(one.layout_of(plane).computed_pixels for one in self.passes for plane in range(self.shape[0]))


@dataclass(frozen=True)
class Plan:
    """How a volume goes through an ensemble. It says all that a mask depends on, and is made before any work.

    Attributes:
        axes: in the order in which they are done.
        total_weight: of all passes: a voxel's sum is at most 255 times it.
        threshold_milli: a voxel is vessel where its mean probability times 1000 is at or above it.
        min_voxels: smaller components are removed; 0 keeps all.
        brick: voxels along each side of a brick of the scratch files, where there are passes along y or x.
        reasons: for people: what was decided, and why.
    """

    shape_zyx: tuple[int, int, int]
    axes: tuple[AxisPlan, ...]
    occupancy: Occupancy
    total_weight: int
    threshold_milli: int
    min_voxels: int
    brick: int
    reasons: tuple[str, ...]

    @property
    def tile_count(self) -> int:
        """Tiles of all passes."""
        return sum(axis.tile_count for axis in self.axes)

    @property
    def along_z_alone(self) -> bool:
        """Whether a slab is finished when it was computed, so that nothing but masks goes to the disk."""
        return all(axis.axis == "z" for axis in self.axes)
