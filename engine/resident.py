"""How much memory this process holds, where the system tells (Linux)."""

import ctypes
import re
from contextlib import suppress
from pathlib import Path

STATUS = Path("/proc/self/status")


def resident_bytes() -> int:
    """Memory that is held now; 0 where the system does not tell."""
    return _status_bytes("VmRSS")


def peak_resident_bytes() -> int:
    """The most that was ever held; 0 where the system does not tell."""
    return _status_bytes("VmHWM")


def release_freed_memory() -> None:
    """Give back to the system what was freed but is still held, where the C library can (glibc)."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _status_bytes(name: str) -> int:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", STATUS.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return 0
    return 1024 * int(found[1]) if found else 0
