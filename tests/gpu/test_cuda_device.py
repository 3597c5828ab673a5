"""CudaDevice on a GPU: copies, the order that events make, and the pipeline on its streams."""

import numpy as np
import pytest

from sennet_engine.device.meter import Meter
from sennet_engine.errors import DeviceMemoryError
from sennet_engine.gpu.present import census
from sennet_engine.pipeline.plane_source import VolumePlanes
from sennet_engine.pipeline.stream_pipeline import run_axis
from sennet_engine.planning.cells import Occupancy
from sennet_engine.planning.layout import Layout, Rectangle, Tile
from sennet_engine.planning.passes import AxisPlan, PassPlan, Slab
from sennet_engine.volumes.volume import ArrayVolume
from sennet_engine.window import Window

pytestmark = pytest.mark.gpu

SHAPE, SIDE, LARGE = (24, 256, 320), 64, 64 << 20


class Copies:
    """A GpuPredictor whose answers are the tiles: nothing but the device layer is at work."""

    runtime, threads, contexts, watches_overflow = "copy", 1, 2, False

    def enqueue(self, stream, tiles, answers, _overflowed, *, context):  # noqa: ARG002 - of a GpuPredictor
        from cuda.bindings import driver

        size = int(np.prod(tiles.shape))
        (code,) = driver.cuMemcpyDtoDAsync(answers.address, tiles.address, size, int(stream.handle))
        assert int(code) == 0


@pytest.fixture
def streams(device):
    """Opens device streams, and closes them."""
    opened = []

    def stream(name):
        opened.append(device.device_stream(name, meter=Meter()))
        return opened[-1]

    yield stream
    for one in opened:
        one.close()


def test_bytes_come_back_as_they_went_in(device, streams):
    """From pinned memory to the GPU and back, 64 MiB of them."""
    source, target = device.pinned(LARGE), device.pinned(LARGE)
    source[:] = np.random.default_rng(0).integers(0, 256, LARGE, dtype=np.uint8)
    target[:] = 0
    buffer, stream = device.buffer(LARGE).shaped((LARGE,)), streams("copy")
    device.copy_in(stream, source, buffer)
    device.copy_out(stream, buffer, target)
    stream.record().synchronize()
    assert np.array_equal(source, target)


def test_an_event_orders_the_work_of_two_streams(device, streams):
    """What a stream copies in and another copies out, round after round through one buffer, is what came last."""
    first, second = streams("in"), streams("out")
    buffer = device.buffer(LARGE).shaped((LARGE,))
    sources = [device.pinned(LARGE) for _ in range(2)]
    targets = [device.pinned(LARGE) for _ in range(8)]
    for number, source in enumerate(sources):
        source[:] = number + 1
    for number, target in enumerate(targets):
        device.copy_in(first, sources[number % 2], buffer)
        second.wait(first.record())
        device.copy_out(second, buffer, target)
        first.wait(second.record())
    second.record().synchronize()
    assert [np.unique(target).tolist() for target in targets] == [[number % 2 + 1] for number in range(8)]


def test_memory_that_is_not_there_is_an_error_and_leaves_the_gpu_usable(device, streams):
    """DeviceMemoryError, and the next small buffer is fine."""
    with pytest.raises(DeviceMemoryError, match=device.name):
        device.buffer(1 << 46)
    test_bytes_come_back_as_they_went_in(device, streams)


def test_memory_is_given_back(device):
    """Ten times a quarter of what is free."""
    quarter = device.free_memory() // 4
    for _ in range(10):
        device.buffer(quarter)


class Sums:
    """Keeps the sums of slabs, whose canvas is used again."""

    def __init__(self, kept):
        self.kept = kept

    def __call__(self, slab):
        self.kept.append(slab.canvas.sums.copy())


def plan_over(shape):
    """One pass with square tiles over all of the volume."""
    depth, rows, columns = shape
    tiles = tuple(
        Tile((top, left), (SIDE, SIDE), (Rectangle(top, left, top + SIDE, left + SIDE),))
        for top in range(0, rows, SIDE)
        for left in range(0, columns, SIDE)
    )
    occupancy = Occupancy(shape, np.ones([-(-size // 16) for size in shape], bool))
    layouts = tuple(Layout((rows, columns), (rows, columns), tiles) for _ in occupancy.layers("z"))
    slabs = tuple(Slab(start, min(start + 4, depth)) for start in range(0, depth, 4))
    return AxisPlan("z", shape, slabs, (PassPlan("a", "a", (1.0, 1.0), layouts, "none", 1, 3),), occupancy, 1, None)


def test_the_pipeline_on_the_gpu_cuts_and_stitches_to_the_identity(device):
    """Answers that are the tiles give the volume back, several times over."""
    volume = np.random.default_rng(1).integers(0, 256, SHAPE, dtype=np.uint8)
    source = VolumePlanes(ArrayVolume(volume), Window(0, 255))
    for _ in range(5):
        slabs = []
        run_axis(source, plan_over(SHAPE), {"a": Copies()}, Sums(slabs), device=device)
        assert np.array_equal(np.concatenate(slabs), volume)


def test_every_gpu_can_be_opened(gpu):
    """Each with memory of its own."""
    from sennet_engine.device.cuda import CudaDevice

    for one in census().gpus:
        assert 0 < CudaDevice(one.index).free_memory() <= one.memory_bytes
