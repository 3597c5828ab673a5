"""How long a predictor takes for a tile when all its contexts compute at once."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import perf_counter
from typing import NamedTuple

import numpy as np

from sennet_engine.errors import OverflowedError
from sennet_engine.predictor import Predictor


class TileTiming(NamedTuple):
    """Seconds a tile: of the first round, in which memory is taken and kernels are made, and of each further one."""

    first: float
    further: list[float]

    @property
    def best(self) -> float:
        """The least, which is the least disturbed by whatever else the machine does."""
        return min([self.first, *self.further])


def timed_tiles(
    predictor: Predictor, shape: tuple[int, int], *, batch: int, rounds: int, seconds: float, give_up_above: float
) -> TileTiming:
    """Let every context compute a batch of noise, again and again.

    The seconds are the wall clock over the tiles of all contexts: what a tile costs in a run that keeps all of them
    busy.

    Args:
        shape: rows and columns of the tiles.
        rounds: at most so many after the first, and one at least.
        seconds: no further round begins after so long.
        give_up_above: where the first round takes longer than that for a tile, it is the only one.

    Raises:
        ModelError: the model does not take such tiles.
    """
    tiles = np.random.default_rng(0).integers(0, 256, (batch, 1, *shape), dtype=np.uint8)
    began = perf_counter()
    with ThreadPoolExecutor(predictor.contexts, thread_name_prefix="sennet timing") as pool:

        def answer(context: int) -> None:
            with suppress(OverflowedError):  # only the time counts
                predictor.predict(tiles, context=context)

        def round_seconds() -> float:
            started = perf_counter()
            list(pool.map(answer, range(predictor.contexts)))
            return (perf_counter() - started) / (batch * predictor.contexts)

        first = round_seconds()
        further: list[float] = []
        while first <= give_up_above and len(further) < rounds:
            if further and perf_counter() - began > seconds:
                break
            further.append(round_seconds())
    return TileTiming(first, further)
