"""What an engineer writes around a bare runtime: the bundle's ONNX file over overlapping tiles, or whole planes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from sennet_bench.peers.contestant import Job, Outcome
from sennet_bench.peers.in_memory import TILE, Grey, Predict, rounded_up, run_in_memory, tile_origins
from sennet_engine.bundle import Bundle

# Each uint8 [1, 1, y, x] in and out, in this order.
Answers = Callable[[Iterable[Grey]], Iterable[Grey]]
# The path of an ONNX file and the sides of what it will be shown, to a runtime.
LoadGraph = Callable[[str, tuple[int, int]], Answers]


@dataclass(frozen=True)
class Frame:
    """Planes of (`rows`, `columns`) padded at their ends to (`y`, `x`)."""

    rows: int
    columns: int
    y: int
    x: int

    def padded(self, plane: Grey) -> Grey:
        """The plane with zeros behind it."""
        return np.pad(plane, ((0, self.y - self.rows), (0, self.x - self.columns)))


def run_graph(job: Job, load: LoadGraph, *, whole_planes: bool) -> Outcome:
    """Do `job` by the runtime that `load` opens; its first answer counts as loading."""

    def loaded(bundle: Bundle, sides: tuple[int, int]) -> Predict:
        if whole_planes:
            frame = Frame(*sides, *rounded_up(sides, bundle.card.tiling.stride))
            shown, predict = (frame.y, frame.x), _by_planes
        else:
            frame = Frame(*sides, max(TILE, sides[0]), max(TILE, sides[1]))
            shown, predict = (TILE, TILE), _by_tiles
        answers = load(str(bundle.path / bundle.onnx_name("fp32")), shown)
        list(answers([np.zeros((1, 1, *shown), np.uint8)]))
        return partial(predict, answers, frame, bundle.card.threshold.value * 255)

    return run_in_memory(job, loaded)


def _by_planes(answers: Answers, frame: Frame, threshold: float, grey: Grey) -> Iterator[npt.NDArray[np.bool_]]:
    for found in answers(frame.padded(plane)[None, None] for plane in grey):
        yield found[0, 0, : frame.rows, : frame.columns] >= threshold


def _by_tiles(answers: Answers, frame: Frame, threshold: float, grey: Grey) -> Iterator[npt.NDArray[np.bool_]]:
    places = [
        (slice(top, top + TILE), slice(left, left + TILE))
        for top in tile_origins(frame.y)
        for left in tile_origins(frame.x)
    ]
    count = np.zeros((frame.y, frame.x), np.float32)
    for place in places:
        count[place] += 1
    padded = (frame.padded(plane) for plane in grey)
    found = iter(answers(np.ascontiguousarray(plane[place])[None, None] for plane in padded for place in places))
    for _ in grey:
        total = np.zeros_like(count)
        for place in places:
            total[place] += next(found)[0, 0]
        yield (total / count >= threshold)[: frame.rows, : frame.columns]
