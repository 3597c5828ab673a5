"""What a run will do and take, told before it: `--dry-run`."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from sennet_engine.pipeline.canvas import accumulator
from sennet_engine.planning.costs import Costs
from sennet_engine.planning.memory import text_from_bytes
from sennet_engine.planning.passes import AxisPlan, Plan
from sennet_engine.planning.tile_counts import tile_counts
from sennet_engine.storage.bricks import bytes_needed

# Bytes of compressed masks and probabilities by voxel: what phantoms and real slices give.
MASK_BYTES, PROBABILITY_BYTES = 0.01, 0.05
# Stages that take a slab whole, before and after its networks.
AROUND = ("read", "window", "resize", "write")


@dataclass(frozen=True)
class Estimate:
    """What is to be expected of a run.

    Attributes:
        slabs: units of work, over all axes.
        tiles: that go through networks, as if a cascade left none out.
        pixels: of these tiles.
        pixels_without_skipping: of the same plan with organ everywhere; None where it was not made.
        gflop: 2 for a multiply-add; None where a card does not tell.
        seconds_by_part: of each stage by itself, and of what is done before and after.
        seconds: in all: stages overlap.
        memory_bytes: at the peak.
        scratch_bytes: on the disk at the most, until the output is assembled.
        output_bytes: of what is written.
        has_cascade: whether a cascade may leave out tiles, and with them time.
    """

    slabs: int
    tiles: int
    pixels: int
    pixels_without_skipping: int | None
    gflop: float | None
    seconds_by_part: Mapping[str, float]
    seconds: float
    memory_bytes: int
    scratch_bytes: int
    output_bytes: int
    has_cascade: bool

    @property
    def skipped_share(self) -> float | None:
        """Of the pixels that would be computed were organ everywhere."""
        if not self.pixels_without_skipping:
            return None
        return 1 - self.pixels / self.pixels_without_skipping

    def table(self) -> list[tuple[str, str]]:
        """(name, value) lines for people."""
        skipped, limit = self.skipped_share, "at most " if self.has_cascade else ""
        rows = [
            ("slabs", f"{self.slabs:,}"),
            ("tiles", f"{limit}{self.tiles:,}"),
            ("pixels", f"{limit}{self.pixels / 1e6:,.1f} million through networks"),
        ]
        if skipped is not None:
            rows.append(("skipped", f"{skipped:.0%} of what a volume full of organ would take"))
        rows.append(("work", "unknown: a model's card does not tell" if self.gflop is None else _flop(self.gflop)))
        parts = sorted(self.seconds_by_part.items(), key=lambda one: -one[1])
        rows += [(f"  {name}", f"{seconds:.1f} s") for name, seconds in parts if seconds >= 0.05]
        return [
            *rows,
            ("time", f"{limit}{_time(self.seconds)}"),
            ("memory", text_from_bytes(self.memory_bytes) if self.memory_bytes else "unknown on this system"),
            ("scratch", f"{text_from_bytes(self.scratch_bytes)} on disk"),
            ("output", text_from_bytes(self.output_bytes)),
        ]


def estimated(
    plan: Plan,
    costs: Costs,
    *,
    memory_bytes: int,
    multiply_adds: Mapping[str, float | None],
    without_skipping: Plan | None = None,
    other_seconds: Mapping[str, float] | None = None,
    probability: bool = False,
) -> Estimate:
    """What running `plan` takes.

    Networks keep the processors busy, and the other stages take theirs from them: the whole is the sum of the work
    over the processors, or the longest stage, which has one thread, where that is more. Nothing overlaps with what
    comes before the first slab's networks and after the last one's.

    Args:
        costs: measured for `plan`.
        memory_bytes: see `memory_needed`.
        multiply_adds: of each model, per pixel, from its card.
        without_skipping: the same plan with organ everywhere.
        other_seconds: what comes before and after, by name: the survey, loading.
        probability: whether probabilities are written too.
    """
    parts: dict[str, float] = {"networks": 0.0}
    seconds = 0.0
    for axis in plan.axes:
        stages = _stage_seconds(axis, costs)
        networks = _network_seconds(axis, plan, costs)
        for name, value in stages.items():
            parts[name] = parts.get(name, 0.0) + value
        parts["networks"] += networks
        overlapped = max(networks + sum(stages.values()) / costs.processors, *stages.values())
        seconds += overlapped + sum(stages[name] for name in AROUND) / len(axis.slabs)
    voxels = prod(plan.shape_zyx)
    finish = {"add up": costs.sum_by_voxel * voxels, "assemble": costs.assembly_by_voxel * voxels + costs.preview}
    others = dict(other_seconds or {})
    output = int(voxels * (MASK_BYTES + (PROBABILITY_BYTES if probability else 0)))
    return Estimate(
        slabs=sum(len(axis.slabs) for axis in plan.axes),
        tiles=plan.tile_count,
        pixels=_pixels(plan),
        pixels_without_skipping=None if without_skipping is None else _pixels(without_skipping),
        gflop=_gflop(plan, multiply_adds),
        seconds_by_part=parts | finish | others,
        seconds=seconds + sum(finish.values()) + sum(others.values()),
        memory_bytes=memory_bytes,
        scratch_bytes=output + _brick_bytes(plan),
        output_bytes=output,
        has_cascade=any(axis.cascade for axis in plan.axes),
    )


def _pixels(plan: Plan) -> int:
    return sum(axis.computed_pixels for axis in plan.axes)


def _stage_seconds(axis: AxisPlan, costs: Costs) -> dict[str, float]:
    measured, voxels = costs.axes[axis.axis], prod(axis.shape)
    seconds = {name: one * voxels for name, one in measured.by_voxel.items()}
    return seconds | {name: one * axis.computed_pixels for name, one in measured.by_pixel.items()}


def _network_seconds(axis: AxisPlan, plan: Plan, costs: Costs) -> float:
    counts = tile_counts(plan, axes=(axis,))
    return sum(costs.network_seconds(model, shape, count) for (model, shape), count in counts.items())


def _gflop(plan: Plan, multiply_adds: Mapping[str, float | None]) -> float | None:
    total = 0.0
    for (model, (rows, columns)), count in tile_counts(plan).items():
        per_pixel = multiply_adds.get(model)
        if per_pixel is None:
            return None
        total += 2 * per_pixel * rows * columns * count / 1e9
    return total


def _brick_bytes(plan: Plan) -> int:
    """Grey levels and the sums of each axis, where they do not stay in memory."""
    if plan.along_z_alone:
        return 0
    sums = np.dtype(accumulator(plan.total_weight))
    grey = bytes_needed(plan.shape_zyx, np.uint8, plan.brick)
    return grey + len(plan.axes) * bytes_needed(plan.shape_zyx, sums, plan.brick)


def _flop(gflop: float) -> str:
    return f"{gflop / 1e3:,.1f} TFLOP" if gflop >= 1e3 else f"{gflop:,.1f} GFLOP"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
