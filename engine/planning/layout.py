"""Where the tiles of a plane lie, and which pixels each of them answers for."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Slices = tuple[slice, slice]


@dataclass(frozen=True)
class Rectangle:
    """Pixels of a plane: rows `top` to `bottom` and columns `left` to `right`, both exclusive at their end."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> Slices:
        """For indexing a plane."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def within(self, tile: "Tile") -> Slices:
        """For indexing the tile's own [rows, columns] pixels."""
        row, column = tile.origin
        return slice(self.top - row, self.bottom - row), slice(self.left - column, self.right - column)


@dataclass(frozen=True)
class Tile:
    """One tile of a plane.

    Attributes:
        origin: its first row and column in the padded plane; multiples of the network's stride.
        shape: its rows and columns; multiples of the stride.
        kept: the pixels of the plane that it answers for. In a layout that does not blend, those of all tiles are
            disjoint.
    """

    origin: tuple[int, int]
    shape: tuple[int, int]
    kept: tuple[Rectangle, ...]

    @property
    def slices(self) -> Slices:
        """For cutting the tile out of the padded plane."""
        (row, column), (rows, columns) = self.origin, self.shape
        return slice(row, row + rows), slice(column, column + columns)


@dataclass(frozen=True)
class Layout:
    """The tiles of a plane, those of one shape following one another.

    Attributes:
        plane_shape: rows and columns of the plane, in the network's pixels.
        padded_shape: rows and columns after the plane is mirrored at its lower and right edges, so that tiles fit.
        tiles: none of them where the plane has nothing to be computed.
        blended: whether tiles overlap in what they keep; each answer then counts with `blend_weights` of its shape.
    """

    plane_shape: tuple[int, int]
    padded_shape: tuple[int, int]
    tiles: tuple[Tile, ...]
    blended: bool = False

    def __iter__(self) -> Iterator[Tile]:
        return iter(self.tiles)

    def __len__(self) -> int:
        return len(self.tiles)

    @property
    def computed_pixels(self) -> int:
        """Pixels that go through the network for one plane."""
        return sum(tile.shape[0] * tile.shape[1] for tile in self.tiles)

    @property
    def description(self) -> str:
        """For people: how many tiles of which shapes, and how much of the plane goes through the network."""
        shapes = Counter(f"{rows} x {columns}" for rows, columns in (tile.shape for tile in self.tiles))
        each = [f"{count} of {shape}" for shape, count in shapes.items()]
        if not each:
            return "no tiles: nothing to be computed"
        if len(each) > 1:
            tiles = f"{len(self)} tiles, {', '.join(each[:-1])} and {each[-1]}"
        elif self.tiles[0].shape == self.padded_shape:
            tiles = f"the whole plane as 1 tile of {next(iter(shapes))}"
        else:
            tiles = f"{len(self)} tile{'s' if len(self) > 1 else ''} of {next(iter(shapes))}"
        whole = self.plane_shape[0] * self.plane_shape[1]
        return f"{tiles}: {self.computed_pixels / 1e6:.2f} Mpixel for a plane of {whole / 1e6:.2f}"

    @property
    def weight_sums(self) -> npt.NDArray[np.uint32]:
        """Of a blended layout: [rows, columns] of the plane, the blending weights that add up at each pixel.

        Made anew each time: kept for each layer of a volume, they would grow with it.
        """
        sums = np.zeros(self.plane_shape, np.uint32)
        for tile in self.tiles:
            weights = blend_weights(tile.shape)
            for kept in tile.kept:
                sums[kept.slices] += weights[kept.within(tile)]
        return sums


@lru_cache(maxsize=16)
def blend_weights(shape: tuple[int, int]) -> npt.NDArray[np.uint32]:
    """[rows, columns] integer weights of a tile's pixels: a pyramid, 1 at the edge, highest in the middle; read-only.

    The product of two ramps, each at most 128. So with uint8 answers twice a pixel's sum and its weight beside it, as
    rounding needs them, stay within 32 bits for up to 500 tiles over one pixel, wherever in them it lies.
    """
    rows, columns = (_ramp(side) for side in shape)
    weights: npt.NDArray[np.uint32] = rows[:, None] * columns[None, :]
    weights.setflags(write=False)
    return weights


def _ramp(side: int) -> npt.NDArray[np.uint32]:
    distance = np.minimum(np.arange(side), np.arange(side)[::-1])
    return (1 + distance * 127 // max(1, (side - 1) // 2)).astype(np.uint32)


def mirrored(planes: npt.NDArray[np.uint8], padded_shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """[n, rows, columns] planes mirrored at their lower and right edges up to `padded_shape`; at any plane size."""
    below, right = (padded - size for padded, size in zip(padded_shape, planes.shape[1:], strict=True))
    return np.pad(planes, ((0, 0), (0, below), (0, right)), mode="symmetric") if below or right else planes
