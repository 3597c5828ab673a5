"""What becomes of tiles to which a network has no finite answer: the run stops, or they are computed in float32."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import numpy as np

from sennet_engine.device.stream import Bytes
from sennet_engine.errors import DeviceError, OverflowedError
from sennet_engine.planning.axes import Axis
from sennet_engine.planning.layout import Tile
from sennet_engine.planning.passes import PassPlan
from sennet_engine.predictor import Predictor

logger = logging.getLogger(__name__)


class OverflowWatch:
    """A context manager that holds the networks which answer in place of those that overflow, once they are needed.

    Its methods may be called from any thread; one tile is computed at a time, so a network in float32 needs memory for
    no more than that. Each tile that overflows is computed again for itself, so the mask depends neither on the batch
    or the slab that it was in, nor on the order of the tiles. Where nothing stands in for the networks there is nothing
    to close, and it need not be entered.

    Args:
        in_fp32: by the passes' `model`, opens the same network in float32. Where there is none, an overflow is an
            error.

    Attributes:
        tiles: that were computed in float32 instead, counted by model.
    """

    def __init__(self, in_fp32: Mapping[str, Callable[[], Predictor]] | None = None) -> None:
        self.tiles: Counter[str] = Counter()
        self._in_fp32 = dict(in_fp32 or {})
        self._opened: dict[str, Predictor] = {}
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._closed = False

    def answer(self, one: PassPlan, plane: int, tile: Tile, grey: Bytes, *, axis: Axis) -> Bytes:
        """The answer [rows, columns] to `grey`, the tile as the network saw it.

        Raises:
            OverflowedError: there is no network in its place, or that one overflows too.
            ModelError, DeviceError: the one in its place cannot be opened, or fails.
            ValueError: the watch was left already.
        """
        where = f"the tile of {grey.shape[0]} x {grey.shape[1]} at {tile.origin} of plane {axis} = {plane}"
        shown = np.ascontiguousarray(grey)[None, None]  # a flipped tile is a view that not every runtime reads
        if one.model not in self._in_fp32:
            raise OverflowedError(
                f"{one.model}: answers {where} with NaN or infinity in its precision; compute such tiles in float32 "
                f"with --on-overflow fp32, or all of them with --precision fp32",
                tiles=(0,),
                answers=np.zeros_like(shown),
            )
        with self._lock:
            if self._closed:
                raise ValueError("the overflow watch is closed")
            if not self.tiles[one.model]:
                logger.warning("%s: answers %s with NaN or infinity; computed in float32", one.model, where)
            try:
                answer = self._answer(one.model, shown)
            except OverflowedError as error:
                raise OverflowedError(
                    f"{one.model}: answers {where} with NaN or infinity, in float32 too; it cannot answer this volume: "
                    f"look for broken values in that plane, or use another model",
                    tiles=error.tiles,
                    answers=error.answers,
                ) from error
            self.tiles[one.model] += 1
            return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            self._opened.clear()
            self._stack.close()

    def _answer(self, model: str, shown: Bytes) -> Bytes:
        network = self._fp32(model)
        try:
            answers = network.predict(shown)
        except DeviceError:
            # The network is lost with its GPU; another one may have room for it.
            del self._opened[model]
            answers = self._fp32(model).predict(shown)
        answer: Bytes = answers[0, 0].copy()
        return answer

    def _fp32(self, model: str) -> Predictor:
        if model not in self._opened:
            self._opened[model] = self._stack.enter_context(self._in_fp32[model]())
        return self._opened[model]
