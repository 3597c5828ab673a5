"""The GPUs of a driver are told with what is known of them, and where there is none the reason is."""

import ctypes

import pytest

from sennet_engine.gpu import present
from sennet_engine.gpu.present import Gpu, census, present_compute_capability


@pytest.fixture(autouse=True)
def asked_anew():
    census.cache_clear()
    yield
    census.cache_clear()


class Driver:
    """Answers as libcuda.so.1 does: through pointers, with 0 for success."""

    def __init__(self, capabilities, *, failing=None):
        self.capabilities, self.failing = capabilities, failing

    def __getattr__(self, name):
        if name == self.failing:
            return lambda *_: 100
        return object.__getattribute__(self, f"_{name}")

    def _cuInit(self, flags):
        return int(flags != 0)

    def _cuDriverGetVersion(self, version):
        version._obj.value = 13020
        return 0

    def _cuDeviceGetCount(self, count):
        count._obj.value = len(self.capabilities)
        return 0

    def _cuDeviceGet(self, device, index):
        device._obj.value = 70 + index
        return 0

    def _cuDeviceGetName(self, name, size, device):
        name.value = f"GPU {device.value - 70}".encode()[:size]
        return 0

    def _cuDeviceTotalMem_v2(self, memory, device):
        memory._obj.value = (device.value - 69) * 2**33
        return 0

    def _cuDeviceGetAttribute(self, number, attribute, device):
        number._obj.value = self.capabilities[device.value - 70][{75: 0, 76: 1}[attribute]]
        return 0

    def _cuGetErrorName(self, code, text):
        text._obj.value = b"CUDA_ERROR_NO_DEVICE" if code == 100 else None
        return 0


def test_every_gpu_is_told(monkeypatch):
    """Memory beyond 4 GiB is not cut off."""
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver([(9, 0), (8, 6)]))
    assert census().gpus == (Gpu(0, "GPU 0", "9.0", 2**33), Gpu(1, "GPU 1", "8.6", 2**34))
    assert census().driver == "13.2"
    assert present_compute_capability() == "9.0"


@pytest.mark.parametrize(
    ("driver", "why"),
    [
        (None, f"no NVIDIA driver was found ({present.LIBRARY})"),
        (Driver([], failing="cuInit"), "cuInit said CUDA_ERROR_NO_DEVICE (100)"),
        (Driver([(8, 6)], failing="cuDeviceGetName"), "cuDeviceGetName said"),
        (Driver([]), "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_without_a_gpu_the_reason_is_told(monkeypatch, driver, why):
    def load(_):
        if driver is None:
            raise OSError("cannot open shared object file")
        return driver

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert census().gpus == ()
    assert why in census().why_none
    assert present_compute_capability() is None
