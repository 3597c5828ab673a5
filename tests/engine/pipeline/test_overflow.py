"""What becomes of tiles that overflow: an error that names them, or the answers of the network in float32."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sennet_engine.device.host import HostDevice
from sennet_engine.device.streams import Streams
from sennet_engine.errors import DeviceError, OverflowedError
from sennet_engine.pipeline.overflow import OverflowWatch
from sennet_engine.planning.layout import Layout, Rectangle, Tile
from sennet_engine.planning.passes import PassPlan

TILE = Tile((64, 0), (4, 6), (Rectangle(64, 0, 68, 6),))
ONE = PassPlan("mine fp16", "a pass", (1.0, 1.0), (Layout((70, 8), (70, 8), (TILE,)),), "none", 1, 1)
GREY = np.arange(24, dtype=np.uint8).reshape(4, 6)
NAMED = r"mine fp16: answers the tile of 4 x 6 at \(64, 0\) of plane y = 7 with NaN or infinity"


class Float32:
    """Answers a grey level more than it is shown, in a buffer that the next call overwrites; overflows at 200."""

    runtime, threads, contexts, watches_overflow = "test", 1, 1, True

    def __init__(self):
        self.opened, self.closed, self.shown = 0, 0, []
        self._alone = threading.Lock()
        self._answers = np.zeros((1, 1, 4, 6), np.uint8)

    def predict(self, tiles, *, context=0):
        assert context == 0
        assert self._alone.acquire(blocking=False), "two calls of one context at once"
        try:
            assert tiles.flags.c_contiguous
            self.shown.append(tiles.copy())
            np.add(tiles, 1, out=self._answers)
            if tiles.max() >= 200:
                raise OverflowedError("model.onnx: overflowed", tiles=(0,), answers=self._answers)
            return self._answers
        finally:
            self._alone.release()

    def __enter__(self):
        self.opened += 1
        return self

    def __exit__(self, *_):
        self.closed += 1


def test_without_a_network_in_float32_the_error_names_model_plane_and_tile():
    """And what a person can do; nothing counts as computed."""
    watch = OverflowWatch()
    with pytest.raises(OverflowedError, match=NAMED + ".*--on-overflow fp32.*--precision fp32"):
        watch.answer(ONE, 7, TILE, GREY, axis="y")
    assert not watch.tiles


def test_a_network_in_float32_is_opened_once_it_is_needed_and_closed_in_the_end(caplog):
    """Its answers stay when it is asked again; the first tile of a model is logged, and all are counted."""
    fp32, other = Float32(), Float32()
    with OverflowWatch({"mine fp16": lambda: fp32, "other fp16": lambda: other}) as watch:
        assert fp32.opened == 0
        first = watch.answer(ONE, 7, TILE, GREY, axis="y")
        second = watch.answer(ONE, 8, TILE, GREY + 100, axis="y")
        assert (first == GREY + 1).all()
        assert (second == GREY + 101).all()
        assert (fp32.opened, fp32.closed, other.opened) == (1, 0, 0)
    assert (fp32.closed, other.closed) == (1, 0)
    assert watch.tiles == {"mine fp16": 2}
    assert len(caplog.messages) == 1
    assert "plane y = 7" in caplog.text


def test_float32_overflowing_too_is_an_error_that_names_the_tile():
    """The tile is not counted as computed."""
    with OverflowWatch({"mine fp16": Float32}) as watch:
        with pytest.raises(OverflowedError, match=NAMED + ", in float32 too"):
            watch.answer(ONE, 7, TILE, GREY + 180, axis="y")
        assert not watch.tiles


def test_a_network_that_cannot_be_opened_is_tried_again():
    """Its own error comes out, and the watch still works."""
    ways = [lambda: 1 / 0, Float32]
    with OverflowWatch({"mine fp16": lambda: ways.pop(0)()}) as watch:
        with pytest.raises(ZeroDivisionError):
            watch.answer(ONE, 7, TILE, GREY, axis="y")
        assert (watch.answer(ONE, 7, TILE, GREY, axis="y") == GREY + 1).all()
        assert watch.tiles.total() == 1


def test_a_closed_watch_opens_nothing_any_more():
    """What it opened then nobody would close."""
    fp32 = Float32()
    with OverflowWatch({"mine fp16": lambda: fp32}) as watch:
        pass
    with pytest.raises(ValueError, match="closed"):
        watch.answer(ONE, 7, TILE, GREY, axis="y")
    assert fp32.opened == 0


def test_threads_ask_one_after_the_other_and_none_is_lost():
    """Also of flipped tiles, which are views."""
    fp32 = Float32()
    with OverflowWatch({"mine fp16": lambda: fp32}) as watch, ThreadPoolExecutor(8) as pool:
        asked = [(GREY + number)[:: 1 - 2 * (number % 2)] for number in range(100)]
        found = list(pool.map(lambda grey: watch.answer(ONE, 0, TILE, grey, axis="z"), asked))
    assert all((answer == grey + 1).all() for answer, grey in zip(found, asked, strict=True))
    assert watch.tiles.total() == 100
    assert fp32.opened == 1


def test_flags_of_an_earlier_batch_do_not_stay():
    """The host device sets those of tiles that overflowed, and clears those of the batch before."""
    tiles = np.stack([GREY, GREY])[:, None]
    device = HostDevice()
    buffers = [device.buffer(tiles.size), device.buffer(tiles.size), device.buffer(2)]
    buffers = [one.shaped(shape) for one, shape in zip(buffers, (tiles.shape, tiles.shape, (2,)), strict=True)]

    class Second(Float32):
        """Overflows at the second tile."""

        def predict(self, tiles, *, context=0):  # noqa: ARG002 (the protocol's)
            if tiles.max() >= 200:
                raise OverflowedError("second", tiles=(1,), answers=tiles)
            return tiles

    network, flags = Second(), []
    with Streams(device) as streams:
        stream = streams.on_device("compute")
        for shown in (tiles, tiles + 180, tiles):
            np.copyto(buffers[0].array, shown)
            device.compute(stream, network, *buffers, context=0)
            stream.record().synchronize()
            flags.append(buffers[2].array.tolist())
            assert (buffers[1].array == shown).all()
    assert flags == [[0, 0], [0, 1], [0, 0]]


def test_a_network_whose_gpu_is_lost_is_opened_again_elsewhere():
    """Once for a tile: where that one is lost too, the error is told."""

    class Lost(Float32):
        def predict(self, *_, **__):
            raise DeviceError("cuda:0: failed")

    opened = []

    def opener(*networks):
        left = iter(networks)

        def opens():
            opened.append(next(left))
            return opened[-1]

        return {ONE.model: opens}

    with OverflowWatch(opener(Lost(), Float32())) as watch:
        assert (watch.answer(ONE, 7, TILE, GREY, axis="y") == GREY + 1).all()
        assert watch.tiles == {ONE.model: 1}
    assert [(one.opened, one.closed) for one in opened] == [(1, 1), (1, 1)]
    with OverflowWatch(opener(Lost(), Lost())) as watch, pytest.raises(DeviceError, match="failed"):
        watch.answer(ONE, 7, TILE, GREY, axis="y")
