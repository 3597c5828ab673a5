"""Keep freed memory in the process: glibc hands large blocks back, and every step faults them in again."""

import ctypes
import logging

logger = logging.getLogger(__name__)

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the C library to reuse large blocks; True if it did. Only glibc (Linux) knows how, others need not.

    For the main program to call, since it holds for the whole process.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        logger.info("this system's C library has no mallopt")
        return False
    return all(mallopt(option, LARGEST_INT) == 1 for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD))
