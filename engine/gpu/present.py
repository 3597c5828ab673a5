"""Which GPUs are there, asked of the driver itself: no package has to be installed for the answer."""

import ctypes
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

# CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h
MAJOR, MINOR = 75, 76
LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
LONGEST_NAME = 256


@dataclass(frozen=True)
class Gpu:
    """A GPU that the driver tells of.

    Attributes:
        index: the driver's, as CUDA_VISIBLE_DEVICES leaves it.
        name: as the driver says: "NVIDIA H100 80GB HBM3".
        compute_capability: "9.0".
        memory_bytes: in all, used or not.
    """

    index: int
    name: str
    compute_capability: str
    memory_bytes: int


@dataclass(frozen=True)
class Census:
    """The GPUs that are there.

    Attributes:
        why_none: why there is none, for people.
        driver: the newest version of CUDA that the driver knows: "13.0"; empty where there is no driver.
    """

    gpus: tuple[Gpu, ...]
    why_none: str = ""
    driver: str = ""


class _DriverError(Exception):
    """A call of the driver did not succeed."""


@cache
def census() -> Census:
    """Ask the driver once: what it says does not change within a process."""
    try:
        driver = ctypes.CDLL(LIBRARY)
    except OSError:
        return Census((), f"no NVIDIA driver was found ({LIBRARY})")
    try:
        _call(driver, "cuInit", 0)
        count, version = ctypes.c_int(), ctypes.c_int()
        _call(driver, "cuDriverGetVersion", ctypes.byref(version))
        _call(driver, "cuDeviceGetCount", ctypes.byref(count))
        gpus = tuple(_gpu(driver, index) for index in range(count.value))
    except _DriverError as error:
        return Census((), f"the NVIDIA driver finds no GPU: {error}")
    why_none = "" if gpus else "the NVIDIA driver finds no GPU; is CUDA_VISIBLE_DEVICES empty?"
    return Census(gpus, why_none, f"{version.value // 1000}.{version.value % 1000 // 10}")


def present_compute_capability() -> str | None:
    """The compute capability of the first GPU, "8.6"; None where there is no GPU or no driver."""
    gpus = census().gpus
    return gpus[0].compute_capability if gpus else None


def _gpu(driver: Any, index: int) -> Gpu:
    device, memory, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(LONGEST_NAME)
    _call(driver, "cuDeviceGet", ctypes.byref(device), index)
    _call(driver, "cuDeviceGetName", name, LONGEST_NAME, device)
    _call(driver, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    numbers = [_attribute(driver, device, attribute) for attribute in (MAJOR, MINOR)]
    return Gpu(index, name.value.decode(errors="replace"), ".".join(map(str, numbers)), memory.value)


def _attribute(driver: Any, device: ctypes.c_int, attribute: int) -> int:
    number = ctypes.c_int()
    _call(driver, "cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
    return number.value


def _call(driver: Any, name: str, *arguments: Any) -> None:
    code = getattr(driver, name)(*arguments)
    if code:
        text = ctypes.c_char_p()
        driver.cuGetErrorName(code, ctypes.byref(text))
        raise _DriverError(f"{name} said {(text.value or b'error').decode()} ({code})")
