"""Make the plan: which tiles every pass computes on every plane, in which slabs, and why."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from sennet_engine.card import Tiling
from sennet_engine.ensemble_file import Pass
from sennet_engine.errors import ConfigError
from sennet_engine.planning.axes import AXES, Axis, axis_first
from sennet_engine.planning.cells import Occupancy
from sennet_engine.planning.memory import text_from_bytes
from sennet_engine.planning.pass_layouts import layouts_of_pass
from sennet_engine.planning.passes import AxisPlan, Cascade, PassPlan, Plan, Slab

DEFAULT_BATCH = 1
# Planes in a slab, best first. Thicker ones save nothing; thinner ones leave the runtime waiting at their ends.
SLABS = (16, 8, 4, 2, 1)
# Bricks of 32 voxels are 32 KiB: large enough for a disk, and planes along y and x come 32 at a time.
BRICKS = (32, 16, 8)
# Pixels of a tile at most, best first: the others are for little memory. Beyond the first nothing is gained.
LARGEST_TILES = (2**22, 2**20, 2**19, 2**18, 2**17)


@dataclass(frozen=True)
class PlanRequest:
    """What is asked of a plan, beyond the passes.

    Attributes:
        threshold: probability from which a voxel is vessel.
        min_voxels: smaller components are removed.
        cascade_bound: tiles go on to the later passes where the first one gave this probability; None: all do.
        batch: tiles in a call of a model.
        sides: by the keys of models, where what is loaded takes square tiles alone, their sides.
        slab_planes: planes in memory at a time; by default 16, or fewer where `memory_bytes` asks for it.
        memory_bytes: the run's peak memory is to stay below it.
    """

    threshold: float
    min_voxels: int = 0
    cascade_bound: float | None = None
    batch: int = DEFAULT_BATCH
    sides: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    slab_planes: int | None = None
    memory_bytes: int | None = None

    def refuse_bad(self) -> None:
        """Raise ConfigError where a value is out of its range."""
        if not 0.001 <= self.threshold <= 0.999:
            raise ConfigError(f"threshold: got {self.threshold}, expected a probability from 0.001 to 0.999")
        for name, value in (("batch", self.batch), ("slab", self.slab_planes)):
            if value is not None and value < 1:
                raise ConfigError(f"{name}: got {value}, expected at least 1")
        if self.cascade_bound is not None and self.cascade_bound > self.threshold:
            raise ConfigError(
                f"cascade: got low_bound {self.cascade_bound} above the threshold {self.threshold}: vessels would be "
                f"lost; lower it"
            )
        if self.min_voxels < 0:
            raise ConfigError(f"min-voxels: got {self.min_voxels}, expected 0 or more")


def make_plan(
    passes: Sequence[Pass],
    occupancy: Occupancy,
    request: PlanRequest,
    *,
    memory_needed: Callable[[Plan], int] | None = None,
) -> Plan:
    """Plan the volume of `occupancy` for `passes`.

    Args:
        memory_needed: the peak in bytes of a run of a plan; None does not look at the memory.

    Raises:
        ConfigError: a value out of its range, a tile that a model does not take, or too little memory for one plane.
    """
    request.refuse_bad()
    if memory_needed is None or request.memory_bytes is None:
        return _plan(passes, occupancy, request, step=_steps(request, passes)[0], largest_pixels=LARGEST_TILES[0])
    least: int | None = None
    for largest_pixels in LARGEST_TILES:
        for step in _steps(request, passes):
            try:
                plan = _plan(passes, occupancy, request, step=step, largest_pixels=largest_pixels)
            except ConfigError:
                if least is None:  # not for the size of the tiles
                    raise
                continue  # a model has no tiles as small as that
            needed = memory_needed(plan)
            if needed <= request.memory_bytes:
                return plan
            least = min(needed, least or needed)
    raise ConfigError(
        f"memory: got {text_from_bytes(request.memory_bytes)}, expected at least {text_from_bytes(least or 0)} for the "
        f"models and planes of {occupancy.shape_zyx[1]} × {occupancy.shape_zyx[2]} voxels; give more, or smaller tiles "
        f"by --tile"
    )


def smallest_plan(passes: Sequence[Pass], occupancy: Occupancy, request: PlanRequest) -> Plan:
    """The plan of the smallest tiles and slabs: what a model is measured by where memory is short.

    Raises:
        ConfigError: as `make_plan`, but for the memory.
    """
    request.refuse_bad()
    step = _steps(request, passes)[-1]
    for largest_pixels in reversed(LARGEST_TILES[1:]):
        with suppress(ConfigError):  # a model has no tiles as small as that
            return _plan(passes, occupancy, request, step=step, largest_pixels=largest_pixels)
    return _plan(passes, occupancy, request, step=step, largest_pixels=LARGEST_TILES[0])


def _plan(
    passes: Sequence[Pass], occupancy: Occupancy, request: PlanRequest, *, step: int, largest_pixels: int
) -> Plan:
    layouts = [layouts_of_pass(one, occupancy, largest_pixels, request.sides.get(one.key)) for one in passes]
    pass_plans = [
        PassPlan(
            model=one.key,
            name=one.name,
            scale=one.scale,
            layouts=layouts_of_pass,
            flip=one.flip,
            weight=one.weight,
            batch=request.batch,
        )
        for one, layouts_of_pass in zip(passes, layouts, strict=True)
    ]
    weight = sum(one.weight for one in passes)
    bound = request.cascade_bound
    axes = tuple(
        AxisPlan(
            axis=axis,
            shape=axis_first(occupancy.shape_zyx, axis),
            slabs=_slabs(axis_first(occupancy.shape_zyx, axis)[0], step),
            passes=tuple(plan for one, plan in zip(passes, pass_plans, strict=True) if one.axis == axis),
            occupancy=occupancy,
            total_weight=weight,
            cascade=None if bound is None else Cascade(level=max(1, round(255 * bound))),
        )
        for axis in _axes_in_order(passes)
    )
    return Plan(
        shape_zyx=occupancy.shape_zyx,
        axes=axes,
        occupancy=occupancy,
        total_weight=weight,
        threshold_milli=round(1000 * request.threshold),
        min_voxels=request.min_voxels,
        brick=0 if _along_z_alone(passes) else step,
        reasons=tuple(_reasons(passes, pass_plans, occupancy)),
    )


def refuse_tile(side: int, tiling: Tiling, *, model: str) -> None:
    """Raise ConfigError unless the network takes tiles of `side`."""
    if side not in tiling.sides:
        allowed = ", ".join(map(str, tiling.sides))
        raise ConfigError(f"tile: got {side}, expected one of the sides that {model} takes: {allowed}")


def _axes_in_order(passes: Sequence[Pass]) -> list[Axis]:
    """z comes first, since volumes are read along it; it may have no passes of its own."""
    used = {one.axis for one in passes}
    return [axis for axis in AXES if axis in used or axis == "z"]


def _along_z_alone(passes: Sequence[Pass]) -> bool:
    return all(one.axis == "z" for one in passes)


def _slabs(planes: int, step: int) -> tuple[Slab, ...]:
    return tuple(Slab(start, min(start + step, planes)) for start in range(0, planes, step))


def _steps(request: PlanRequest, passes: Sequence[Pass]) -> Sequence[int]:
    """The numbers of planes in a slab that may be taken, best first."""
    if not _along_z_alone(passes):
        if request.slab_planes is not None:
            raise ConfigError(
                f"slab: got {request.slab_planes} with passes along y or x, which go through blocks of the plan's own; "
                f"leave it out, or set the memory with --memory"
            )
        return BRICKS
    return [request.slab_planes] if request.slab_planes is not None else SLABS


def _reasons(passes: Sequence[Pass], plans: Sequence[PassPlan], occupancy: Occupancy) -> Iterator[str]:
    """Each once, in the order of the passes."""
    skipped = 1 - occupancy.share
    yield occupancy.reason or f"{skipped:.0%} of the volume is background and left out"
    yield from dict.fromkeys(one.scale_reason for one in passes)
    for one, plan in zip(passes, plans, strict=True):
        fullest = max(plan.layouts, key=lambda layout: layout.computed_pixels)
        how = "overlap by the halo" if one.bundle.card.tiling.exact else "are blended"
        yield f"{one.name}: {fullest.description} on the fullest plane; tiles {how}"
