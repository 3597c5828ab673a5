"""Cut planes into overlapping tiles and put the parts that count back together."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import ConfigError


@dataclass(frozen=True)
class Interval:
    """Where a tile lies along one axis of the padded plane, and which part of it counts.

    Attributes:
        origin: first pixel of the tile; a multiple of the network's stride.
        keep_start, keep_stop: the pixels of the plane that this tile answers for.
    """

    origin: int
    keep_start: int
    keep_stop: int


@dataclass(frozen=True)
class Tile:
    """One tile of a plane. The tiles' kept parts cover the plane, each pixel once."""

    rows: Interval
    columns: Interval

    @property
    def kept(self) -> tuple[slice, slice]:
        """The kept part in the plane."""
        return slice(self.rows.keep_start, self.rows.keep_stop), slice(self.columns.keep_start, self.columns.keep_stop)

    @property
    def kept_in_tile(self) -> tuple[slice, slice]:
        """The kept part in the tile itself."""
        rows, columns = self.rows, self.columns
        return (
            slice(rows.keep_start - rows.origin, rows.keep_stop - rows.origin),
            slice(columns.keep_start - columns.origin, columns.keep_stop - columns.origin),
        )


@dataclass(frozen=True)
class TileGrid:
    """The tiles of every plane of a volume.

    Attributes:
        plane_shape: rows and columns of a plane.
        side: rows and columns of a tile.
        padded_shape: rows and columns after padding: multiples of the stride, at least `side`.
    """

    plane_shape: tuple[int, int]
    side: int
    padded_shape: tuple[int, int]
    tiles: tuple[Tile, ...]

    def __iter__(self) -> Iterator[Tile]:
        return iter(self.tiles)

    def __len__(self) -> int:
        return len(self.tiles)

    def padded(self, planes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """[n, Y, X] planes mirrored at their lower and right edges up to `padded_shape`; at any plane size."""
        rows, columns = (padded - size for padded, size in zip(self.padded_shape, self.plane_shape, strict=True))
        return np.pad(planes, ((0, 0), (0, rows), (0, columns)), mode="symmetric") if rows or columns else planes

    def cut(self, padded_plane: npt.NDArray[np.uint8], tile: Tile) -> npt.NDArray[np.uint8]:
        """The tile's [side, side] pixels, a view into a padded [Y, X] plane."""
        top, left = tile.rows.origin, tile.columns.origin
        return padded_plane[top : top + self.side, left : left + self.side]


def tile_grid(plane_shape: tuple[int, int], *, side: int, halo: int, stride: int) -> TileGrid:
    """Cover planes of `plane_shape` (rows, columns) by tiles that overlap by at least twice `halo`.

    Origins are multiples of `stride`: with others a strided network does not agree with itself on the whole plane.
    Tiles at the border of the plane keep their pixels up to the border. A plane smaller than a tile is padded to one.

    Raises:
        ConfigError: side or halo is not a multiple of stride, or the halo leaves nothing of the tile.
    """
    if side % stride or halo % stride:
        raise ConfigError(f"tile: got side {side} and halo {halo}, expected multiples of the network's stride {stride}")
    if not 0 <= 2 * halo < side:
        raise ConfigError(f"halo: got {halo} with tile side {side}, expected 0 <= 2 * halo < side; take a larger tile")
    rows, columns = (_intervals(size, side, halo, stride) for size in plane_shape)
    return TileGrid(
        plane_shape=plane_shape,
        side=side,
        padded_shape=(_padded(plane_shape[0], side, stride), _padded(plane_shape[1], side, stride)),
        tiles=tuple(Tile(row, column) for row in rows for column in columns),
    )


def _padded(size: int, side: int, stride: int) -> int:
    return max(side, -(-size // stride) * stride)


def _intervals(size: int, side: int, halo: int, stride: int) -> list[Interval]:
    last = _padded(size, side, stride) - side
    origins = [*range(0, last, side - 2 * halo), last]
    # Two neighbours part in the middle of their overlap, so both keep at least `halo` pixels of context.
    borders = [0, *((left + side + right) // 2 for left, right in pairwise(origins)), size]
    return [Interval(origin, start, stop) for origin, (start, stop) in zip(origins, pairwise(borders), strict=True)]
