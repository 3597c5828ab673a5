"""A volume on the scratch disk in cubes, so that runs of planes along any axis are read and written in large pieces."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import OutputError
from sennet_engine.planning.axes import AXES, Axis, axis_first, seen_from_z
from sennet_engine.storage.durable import fdatasync, naming, sync_folder, write_at

Planes = npt.NDArray[Any]
Triple = tuple[int, int, int]

FORMAT = "sennet bricks 1"
DTYPES = ("uint8", "uint16", "uint32")
# One page, so that bricks of 16 voxels and more begin where a page of the disk does.
HEADER_BYTES = 4096
# The most that one call of the system moves, and what a read or a write holds beside the planes themselves.
PIECE_BYTES = 4 << 20


def bytes_needed(shape_zyx: Triple, dtype: npt.DTypeLike, brick: int) -> int:
    """The largest size on disk of a brick file. Bricks that hold nothing but 0 take no space."""
    bricks = prod(-(-side // brick) for side in shape_zyx)
    return HEADER_BYTES + bricks * brick**3 * np.dtype(dtype).itemsize


@dataclass(frozen=True)
class _Piece:
    """Bricks that follow one another in x, and on the disk: `count` of them from `first` (Z, Y, X, in bricks)."""

    first: Triple
    count: int


class BrickFile:
    """A [Z, Y, X] array on disk, made by `BrickFile.create` or `BrickFile.open`; a context manager.

    What was never written reads as 0. Threads may read and write at the same time where their bricks differ. It is
    read and written by system calls rather than mapped, since mapped pages count as the process's memory.

    Attributes:
        path: of the file.
        shape_zyx: of the array, in voxels.
        dtype: uint8, uint16 or uint32.
        brick: voxels along each side of a brick.
    """

    def __init__(self, path: Path, descriptor: int, shape_zyx: Triple, dtype: npt.DTypeLike, brick: int) -> None:
        self.path = path
        self.shape_zyx = shape_zyx
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.brick = brick
        self._descriptor = descriptor
        self._bricks_zyx = tuple(-(-side // brick) for side in shape_zyx)
        self._brick_bytes = brick**3 * self.dtype.itemsize

    @classmethod
    def create(cls, path: Path, shape_zyx: Triple, dtype: npt.DTypeLike, brick: int) -> Self:
        """A new file that reads as 0 throughout; what stood at `path` is replaced. `path` exists only when whole.

        Raises:
            OutputError: the shape, the dtype or the brick cannot be.
            OSError: the disk says no.
        """
        form = {"format": FORMAT, "shape_zyx": [*shape_zyx], "dtype": np.dtype(dtype).name, "brick": brick}
        _check(path, form)
        unfinished = path.with_name(f"{path.name}.new")
        with naming(path):
            descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
            try:
                write_at(descriptor, json.dumps(form).encode().ljust(HEADER_BYTES), 0)
                os.ftruncate(descriptor, bytes_needed(shape_zyx, dtype, brick))
                os.fsync(descriptor)
                unfinished.replace(path)
                sync_folder(path.parent)
            except BaseException:
                os.close(descriptor)
                unfinished.unlink(missing_ok=True)
                raise
        return cls(path, descriptor, shape_zyx, dtype, brick)

    @classmethod
    def open(cls, path: Path) -> Self:
        """The file that an earlier `create` made, for reading and writing.

        Raises:
            OutputError: there is none at `path`, or it is not whole.
        """
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError as error:
            raise OutputError(f"{path}: cannot be opened ({error.strerror}); start anew with --overwrite") from error
        try:
            with naming(path):
                header, size = os.pread(descriptor, HEADER_BYTES, 0), os.fstat(descriptor).st_size
            try:
                form = json.loads(header)
            except ValueError:  # of UTF-8 as well as of JSON
                form = None
            _check(path, form)
            shape_zyx, dtype, brick = tuple(form["shape_zyx"]), form["dtype"], form["brick"]
            if size != (expected := bytes_needed(shape_zyx, dtype, brick)):
                raise OutputError(f"{path}: has {size} bytes, expected {expected}; start anew with --overwrite")
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor, shape_zyx, dtype, brick)

    def read_planes(self, axis: Axis, start: int, stop: int) -> Planes:
        """Planes `start` to `stop` (exclusive) along `axis`: [n, rows, columns], contiguous.

        Whole bricks are read, so runs of them cost least. Rows and columns are as in `axis_first`.

        Raises:
            OSError: the disk fails.
        """
        box = self._box(axis, start, stop)
        planes = np.empty((stop - start, *axis_first(self.shape_zyx, axis)[1:]), self.dtype)
        planes_zyx = seen_from_z(planes, axis)
        for piece in self._pieces(box):
            bricks = self._read(piece)
            for brick, inside, outside in self._overlaps(piece, box):
                planes_zyx[outside] = bricks[brick][inside]
        return planes

    def write_planes(self, axis: Axis, start: int, planes: Planes) -> None:
        """Write [n, rows, columns] planes along `axis` from `start` on: whole bricks, or up to the last plane.

        Writing the same planes again changes nothing, so a write that was cut short is mended by repeating it.

        Raises:
            OSError: the disk is full, or fails; it names the file.
        """
        stop = start + len(planes)
        box = self._box(axis, start, stop)
        depth, *plane_shape = axis_first(self.shape_zyx, axis)
        if planes.dtype != self.dtype or list(planes.shape[1:]) != plane_shape:
            raise ValueError(f"got {planes.dtype} planes {planes.shape[1:]}, expected {self.dtype} {plane_shape}")
        if start % self.brick or (stop % self.brick and stop != depth):
            raise ValueError(f"planes {start} to {stop} are not whole bricks of {self.brick}")
        planes_zyx = seen_from_z(planes, axis)
        for piece in self._pieces(box):
            bricks = np.zeros((piece.count, *(self.brick,) * 3), self.dtype)
            for brick, inside, outside in self._overlaps(piece, box):
                _copy(bricks[brick][inside], planes_zyx[outside])
            self._write(piece, bricks)

    def sync(self) -> None:
        """Return when all that was written is on the disk.

        Raises:
            OSError: the disk is full, or fails; it names the file.
        """
        with naming(self.path):
            fdatasync(self._descriptor)

    def close(self) -> None:
        """Let go of the file. It does not sync."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _box(self, axis: Axis, start: int, stop: int) -> tuple[range, ...]:
        """The voxels of planes, along Z, Y, X."""
        depth = self.shape_zyx[AXES.index(axis)]
        if not 0 <= start <= stop <= depth:
            raise ValueError(f"planes {start} to {stop} are not within 0 to {depth}")
        return tuple(
            range(start, stop) if one == axis else range(side) for one, side in zip(AXES, self.shape_zyx, strict=True)
        )

    def _pieces(self, box: tuple[range, ...]) -> Iterator[_Piece]:
        """All bricks that share voxels with `box`, as few and as large pieces as PIECE_BYTES lets them be."""
        z_bricks, y_bricks, x_bricks = (range(one.start // self.brick, -(-one.stop // self.brick)) for one in box)
        most = max(1, PIECE_BYTES // self._brick_bytes)
        for z in z_bricks:
            for y in y_bricks:
                for x in x_bricks[::most]:
                    yield _Piece((z, y, x), min(most, x_bricks.stop - x))

    def _overlaps(
        self, piece: _Piece, box: tuple[range, ...]
    ) -> Iterator[tuple[int, tuple[slice, ...], tuple[slice, ...]]]:
        """For each brick of a piece: its number, and what it shares with `box`: within the brick and within the box."""
        for number in range(piece.count):
            z, y, x = piece.first
            inside, outside = [], []
            for place, voxels in zip((z, y, x + number), box, strict=True):
                origin = place * self.brick
                low, high = max(origin, voxels.start), min(origin + self.brick, voxels.stop)
                inside.append(slice(low - origin, high - origin))
                outside.append(slice(low - voxels.start, high - voxels.start))
            yield number, tuple(inside), tuple(outside)

    def _offset(self, piece: _Piece) -> int:
        z, y, x = piece.first
        _, rows, columns = self._bricks_zyx
        return HEADER_BYTES + ((z * rows + y) * columns + x) * self._brick_bytes

    def _read(self, piece: _Piece) -> Planes:
        """[count, brick, brick, brick]"""
        bricks = np.empty((piece.count, *(self.brick,) * 3), self.dtype)
        rest, offset = bricks.data.cast("B"), self._offset(piece)
        with naming(self.path):
            while rest:
                count = os.preadv(self._descriptor, [rest], offset)
                if not count:
                    raise OutputError(f"{self.path}: was cut short at {offset} bytes; start anew with --overwrite")
                rest, offset = rest[count:], offset + count
        return bricks

    def _write(self, piece: _Piece, bricks: Planes) -> None:
        """Write [count, brick, brick, brick]; where bricks of 0 are to stand on bricks of 0, the file stays sparse."""
        empty = ~bricks.reshape(piece.count, -1).any(axis=1)
        if empty.any():
            # A run that was killed may have written here before.
            empty &= ~self._read(piece).reshape(piece.count, -1).any(axis=1)
        edges = np.flatnonzero(np.diff(empty, prepend=True, append=True))  # where runs of bricks to write begin and end
        for first, stop in edges.reshape(-1, 2):
            with naming(self.path):
                offset = self._offset(piece) + int(first) * self._brick_bytes
                write_at(self._descriptor, bricks[first:stop].data.cast("B"), offset)


class BrickPlanes:
    """The planes of a brick file along one axis, as the pipeline reads them; their grey levels are windowed already."""

    def __init__(self, file: BrickFile, axis: Axis) -> None:
        self._file = file
        self._axis: Axis = axis

    def read(self, start: int, stop: int) -> Planes:
        """Planes `start` to `stop` (exclusive): [n, rows, columns]; OSError where the disk fails."""
        return self._file.read_planes(self._axis, start, stop)

    def windowed(self, planes: Planes) -> Planes:
        """The planes as they are."""
        return planes


def _copy(target: Planes, source: Planes) -> None:
    """target[...] = source. Where the source is planes along x, numpy would walk in steps of a whole plane."""
    if source.strides[2] == source.itemsize:
        target[...] = source
        return
    for x in range(source.shape[2]):  # three times faster
        target[:, :, x] = source[:, :, x]


def _check(path: Path, form: Any) -> None:
    """Raise OutputError unless `form`, of a header, is one that `create` would write."""
    form = form if isinstance(form, dict) else {}
    if form.get("format") != FORMAT:
        raise OutputError(
            f"{path}: begins with {form.get('format')!r}, expected {FORMAT!r}; start anew with --overwrite"
        )
    shape, dtype, brick = (form.get(name) for name in ("shape_zyx", "dtype", "brick"))
    sides = [*shape, brick] if isinstance(shape, list) else []
    if len(sides) != 4 or not all(isinstance(one, int) and one >= 1 for one in sides) or dtype not in DTYPES:
        raise OutputError(
            f"{path}: got {dtype} {shape} in bricks of {brick}, expected three sides and a brick of 1 or more voxels "
            f"of {', '.join(DTYPES)}"
        )
