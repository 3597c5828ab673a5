"""The way of the data: read, window, cut into tiles, predict, add up, threshold; slab by slab."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from time import perf_counter

import numpy as np
import numpy.typing as npt

from sennet_engine.canvas import Canvas
from sennet_engine.plan import Plan, Slab
from sennet_engine.predictor import Predictor
from sennet_engine.volumes.volume import Volume
from sennet_engine.window import Window


@dataclass(frozen=True)
class SlabResult:
    """A slab that is done: its windowed grey levels and its canvas, both [n, Y, X], and where its time went."""

    slab: Slab
    grey: npt.NDArray[np.uint8]
    canvas: Canvas
    stage_seconds: dict[str, float]


def predicted_slabs(volume: Volume, predictor: Predictor, plan: Plan, *, window: Window) -> Iterator[SlabResult]:
    """Run `volume` through `predictor` as `plan` says, and yield each slab when it is done.

    Memory holds one slab: its grey levels (padded), its canvas, and one batch of tiles.

    Raises:
        VolumeError: a plane cannot be read.
    """
    for slab in plan.slabs:
        started = perf_counter()
        planes = volume.read_planes(slab.start, slab.stop)
        read = perf_counter()
        grey = window.to_uint8(planes)
        windowed = perf_counter()
        canvas = Canvas(grey.shape)
        _predict_slab(grey, canvas, predictor, plan)
        predicted = perf_counter()
        seconds = {"read": read - started, "window": windowed - read, "predict": predicted - windowed}
        yield SlabResult(slab, grey, canvas, seconds)


def _predict_slab(grey: npt.NDArray[np.uint8], canvas: Canvas, predictor: Predictor, plan: Plan) -> None:
    padded = plan.grid.padded(grey)
    work = ((plane, tile) for plane in range(len(grey)) for tile in plan.grid)
    batch = np.zeros((plan.batch, 1, plan.grid.side, plan.grid.side), np.uint8)
    while chunk := list(islice(work, plan.batch)):
        for place, (plane, tile) in enumerate(chunk):
            batch[place, 0] = plan.grid.cut(padded[plane], tile)
        # The last batch is filled up with the tiles of the one before: shapes never change within a plan.
        probabilities = predictor.predict(batch)
        for place, (plane, tile) in enumerate(chunk):
            canvas.add(plane, tile.kept, probabilities[place, 0][tile.kept_in_tile])
