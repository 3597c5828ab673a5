"""One axis of a plane in blocks, and which sides of tiles answer for which of them."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

# Blocks are coarser on planes that would have more of them: it bounds the time that packing takes.
_MOST_BLOCKS = 128


@dataclass(frozen=True)
class Blocks:
    """Rows or columns of the plane in blocks, the grain in which it is parted: of one stride, they lose nothing.

    Attributes:
        padded: pixels of the plane with its padding.
        sides: of tiles along the axis, ascending, none longer than the padded plane.
        block: pixels of a block; the last one may be shorter.
    """

    size: int
    padded: int
    sides: tuple[int, ...]
    halo: int
    stride: int
    block: int

    @cached_property
    def edges(self) -> list[int]:
        """Where blocks begin and end, in pixels."""
        return [*range(0, self.size, self.block), self.size]

    @property
    def blocks(self) -> int:
        return len(self.edges) - 1

    def origins(self, first: int, stop: int, side: int) -> tuple[int, int]:
        """The lowest and the highest origin at which a tile answers for blocks `first` to `stop`, if it can."""
        flush = self.padded - side
        lowest = min(max(0, -(-(self.edges[stop] + self.halo - side) // self.stride) * self.stride), flush)
        highest = min(max(0, (self.edges[first] - self.halo) // self.stride * self.stride), flush)
        return lowest, highest

    def origin(self, first: int, stop: int, side: int) -> int:
        """In the middle between the two, for as much context on one side as on the other."""
        return sum(self.origins(first, stop, side)) // 2 // self.stride * self.stride

    @cached_property
    def reach(self) -> Integers:
        """[blocks, sides]: where a tile must stop whose first block is given."""
        reach = np.empty((self.blocks, len(self.sides)), np.int64)
        for first in range(self.blocks):
            for index, side in enumerate(self.sides):
                origin = self.origins(first, first, side)[1]
                end = self.size if origin + side == self.padded else origin + side - self.halo
                reach[first, index] = np.searchsorted(self.edges, end, "right") - 1
        return reach

    @cached_property
    def needed(self) -> Integers:
        """[blocks + 1, blocks + 1]: the index of the shortest side for blocks from the first to the second index."""
        needed = np.zeros((self.blocks + 1, self.blocks + 1), np.int64)
        stops = np.arange(self.blocks + 1)
        # Beyond the reach of all sides it is one too many.
        needed[:-1] = (self.reach[:, None, :] < stops[:, None]).sum(axis=2)
        return needed

    def overlaps(self, cell_edges: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """[blocks, cells]: 1 where they have pixels in common."""
        edges, cells = np.array(self.edges), np.array(cell_edges)
        starts, stops = np.maximum.outer(edges[:-1], cells[:-1]), np.minimum.outer(edges[1:], cells[1:])
        both: npt.NDArray[np.float32] = np.less(starts, stops).astype(np.float32)
        return both


@lru_cache(maxsize=64)
def blocks_of_axis(size: int, sides: tuple[int, ...], halo: int, stride: int, whole_planes: bool) -> Blocks:
    own = -(-size // stride) * stride
    padded = own if whole_planes else max(own, sides[0])
    fitting = [side for side in sides if side <= padded]
    if whole_planes and own not in fitting:
        fitting.append(own)
    # A tile of any side must answer for a block at least.
    largest_block = max(stride, min(side - 2 * halo for side in sides) // stride * stride)
    block = min(-(-max(stride, size // _MOST_BLOCKS) // stride) * stride, largest_block)
    return Blocks(size, padded, tuple(fitting), halo, stride, block)
