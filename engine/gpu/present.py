"""Which GPU is there, asked of the driver itself: no package has to be installed for the answer."""

import ctypes
import sys

MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h
LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def present_compute_capability() -> str | None:
    """The compute capability of the first GPU, "8.6"; None where there is no GPU or no driver."""
    try:
        driver = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    count, device = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or count.value < 1:
        return None
    if driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    numbers = []
    for attribute in (MAJOR, MINOR):
        number = ctypes.c_int()
        if driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, device):
            return None
        numbers.append(number.value)
    return ".".join(map(str, numbers))
