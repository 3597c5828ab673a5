"""How much memory a run of a plan needs at its peak."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from sennet_engine.errors import ConfigError, OverflowedError
from sennet_engine.pipeline.canvas import accumulator
from sennet_engine.planning.passes import AxisPlan, PassPlan, Plan
from sennet_engine.predictor import Predictor
from sennet_engine.resident import resident_bytes
from sennet_engine.tile_timing import timed_tiles

UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
# Windowing floats holds the scaled levels three times at once; windowing integers is a look-up in small pieces.
WINDOW_BYTES = {"f": 12, "u": 0}
# Per pixel of a plane that is blended: its sums for a slab, and what dividing one plane takes.
BLENDED_BYTES, BLENDING_BYTES = 4, 20
# A batch lies in four buffers: cut, on the device, answered there, and back.
BATCH_BUFFERS = 4
# Weighted sums become probabilities in 64 bits, three times at once.
PROBABILITY_BYTES = 24
# Runtimes take memory in steps: calls larger than the one that was measured may need so much more a pixel.
LARGER_CALLS = 1.5
# Pieces of brick files, compressed planes, the preview.
SMALL_BYTES = 16 * 2**20


@dataclass(frozen=True)
class ModelMemory:
    """What a loaded model holds, in bytes.

    Attributes:
        model: of itself.
        per_pixel: for each pixel of a call, of each context, while it computes; it is kept for the next call.
        contexts: calls at a time.
        measured_pixels: of the call that was measured; larger ones are taken to need half as much again. None: all
            are taken to need the same.
    """

    model: int
    per_pixel: float
    contexts: int
    measured_pixels: int | None = None

    def of_calls(self, pixels: int) -> float:
        """Bytes when the largest calls have so many pixels."""
        larger = self.measured_pixels is not None and pixels > self.measured_pixels
        return self.model + self.contexts * self.per_pixel * pixels * (LARGER_CALLS if larger else 1)


@dataclass(frozen=True)
class MemoryFacts:
    """What a plan does not say of the memory of its run.

    Attributes:
        base: bytes that the process holds before it loads a model.
        models: by the passes' `model`.
        dtype: of the volume's voxels.
        ring: slabs under way, and batches under way for each context.
        probability: whether probabilities are written too.
    """

    base: int
    models: Mapping[str, ModelMemory]
    dtype: np.dtype[np.generic]
    ring: int
    probability: bool = False


def memory_needed(plan: Plan, facts: MemoryFacts) -> int:
    """Bytes at the peak of a run. It does not grow with the number of planes."""
    models = 0.0
    for key, held in facts.models.items():
        largest = max((_largest_call(one) for axis in plan.axes for one in axis.passes if one.model == key), default=0)
        models += held.of_calls(largest)
    return int(facts.base + models + max(_axis_bytes(axis, plan, facts) for axis in plan.axes) + SMALL_BYTES)


def model_memory(predictor: Predictor, *, before: int, shape: tuple[int, int], batch: int) -> ModelMemory:
    """Measure what `predictor` holds: let one of its contexts compute tiles of `shape`, and then all at once.

    Contexts may share what they hold, but in a run each of them will once need what one needs alone.

    0 bytes where the system does not tell (see `resident_bytes`). Later models may seem smaller than they are, since
    they begin in memory that was let go of but is still held.

    Args:
        before: what `resident_bytes` told before it was loaded.
    """
    loaded, pixels = resident_bytes(), batch * shape[0] * shape[1]
    with suppress(OverflowedError):
        predictor.predict(np.zeros((batch, 1, *shape), np.uint8))
    alone = resident_bytes() - loaded
    timed_tiles(predictor, shape, batch=batch, rounds=1, seconds=0, give_up_above=0)
    together = resident_bytes() - loaded
    return ModelMemory(
        model=max(0, loaded - before),
        per_pixel=max(0, alone, together / predictor.contexts) / pixels,
        contexts=predictor.contexts,
        measured_pixels=pixels,
    )


def bytes_from_text(text: str) -> int:
    """`8GB`, `512 MB`, `1.5G`: bytes, in steps of 1024. Raises ConfigError where it is no such size."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text, re.IGNORECASE)
    size = int(float(found[1]) * UNITS[found[2].lower()]) if found else 0
    if not size:
        raise ConfigError(f"memory: got {text!r}, expected a size such as 8GB or 512MB")
    return size


def text_from_bytes(size: float) -> str:
    """For people: `1.4 GB`, in steps of 1024."""
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GB"


def _axis_bytes(axis: AxisPlan, plan: Plan, facts: MemoryFacts) -> int:
    planes = max(len(slab) for slab in axis.slabs)
    voxels = planes * axis.shape[1] * axis.shape[2]
    dtype = facts.dtype if axis.axis == "z" else np.dtype(np.uint8)
    sums = np.dtype(accumulator(plan.total_weight)).itemsize
    a_slab = voxels * (dtype.itemsize + 1 + sums + (1 if axis.cascade else 0)) + planes * _resized_pixels(axis)
    a_batch = BATCH_BUFFERS * max((_largest_call(one) for one in axis.passes), default=0)
    contexts = max((facts.models[one.model].contexts for one in axis.passes if one.model in facts.models), default=1)
    windowing = voxels * WINDOW_BYTES[dtype.kind] if axis.axis == "z" else 0
    writing = voxels + (voxels * (PROBABILITY_BYTES if plan.total_weight > 1 else 1) if facts.probability else 0)
    return facts.ring * (a_slab + contexts * a_batch) + windowing + writing + _scratch_bytes(axis, planes)


def _largest_call(one: PassPlan) -> int:
    """Pixels of a call's batch."""
    sizes = (tile.shape[0] * tile.shape[1] for layout in set(one.layouts) for tile in layout)
    return one.batch * max(sizes, default=0)


def _resized_pixels(axis: AxisPlan) -> int:
    """Of one plane at every size other than its own that networks see it in."""
    padded: dict[tuple[int, int], tuple[int, int]] = {}
    for layout in {layout for one in axis.passes for layout in one.layouts if layout.tiles}:
        rows, columns = padded.get(layout.plane_shape, (0, 0))
        padded[layout.plane_shape] = max(rows, layout.padded_shape[0]), max(columns, layout.padded_shape[1])
    untouched = axis.shape[1:]
    return sum(rows * columns for shape, (rows, columns) in padded.items() if {shape, (rows, columns)} != {untouched})


def _scratch_bytes(axis: AxisPlan, planes: int) -> int:
    """Of answers that wait for the rest of their plane: one pass after the other uses the same."""
    needed = [0]
    for one in axis.passes:
        for layout in set(one.layouts):
            pixels = layout.plane_shape[0] * layout.plane_shape[1]
            if layout.blended:
                needed.append(pixels * (planes * BLENDED_BYTES + BLENDING_BYTES))
            elif layout.plane_shape != axis.shape[1:] or axis.cascade:
                needed.append(pixels * planes)
    return max(needed)
