"""Memory of a simulated GPU: what is not allocated cannot be touched, and nothing is clean before it was written to."""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

# Far from all that the host could have mapped: who reads a device's address on the host does not get away with it.
DEVICE_BASE = 0x7FF0_0000_0000_0000
ALIGNMENT = 512


class IllegalAddressError(Exception):
    """An access to memory that is not allocated there and then."""


@dataclass
class Allocation:
    """A piece of memory.

    Attributes:
        device: whose memory it is; None for pinned memory of the host.
        live: between the moments at which its stream comes to the allocation and to the release.
    """

    address: int
    content: Bytes
    device: int | None
    live: bool

    @property
    def size(self) -> int:
        return self.content.size


class Memory:
    """All that a GPU can reach, by address: its own memory and pinned memory of the host.

    Addresses are never used twice, so that whoever uses memory after its release is found out.
    """

    def __init__(self, draw: np.random.Generator) -> None:
        self._draw = draw
        self._allocations: list[Allocation] = []  # by address; released ones as well
        self._next_address = DEVICE_BASE

    def read(self, address: int, size: int) -> Bytes:
        """A copy of `size` bytes."""
        return self._span(address, size).copy()

    def write(self, address: int, array: npt.NDArray[np.generic]) -> None:
        """Put the bytes of `array` there."""
        content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self._span(address, content.size)[:] = content

    def allocate(self, size: int, *, device: int | None, live: bool) -> Allocation:
        """Memory that is full of rubbish."""
        content = np.empty(max(size, 1), np.uint8)
        address = self._next_address if device is not None else content.ctypes.data
        if device is not None:
            self._next_address += -(-max(size, 1) // ALIGNMENT) * ALIGNMENT + ALIGNMENT
        allocation = Allocation(address, content, device, live)
        self._poison(allocation)
        self._allocations.insert(self._after(address), allocation)
        return allocation

    def release(self, allocation: Allocation) -> None:
        """Others have it now: it is full of rubbish again."""
        allocation.live = False
        self._poison(allocation)

    def _span(self, address: int, size: int) -> Bytes:
        index = self._after(address) - 1
        owner = self._allocations[index] if index >= 0 else None
        if owner is None or address + size > owner.address + owner.size:
            raise IllegalAddressError(f"{size} bytes at {address:#x} were never allocated")
        if not owner.live:
            raise IllegalAddressError(f"{size} bytes at {address:#x} are not allocated any more, or not yet")
        return owner.content[address - owner.address : address - owner.address + size]

    def _after(self, address: int) -> int:
        return bisect_right(self._allocations, address, key=lambda one: one.address)

    def _poison(self, allocation: Allocation) -> None:
        allocation.content[:] = self._draw.integers(0, 256, allocation.size, np.uint8)
