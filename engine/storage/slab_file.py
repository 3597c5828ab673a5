"""A finished slab on the disk: planes compressed as the final files hold them, written once."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError, model_validator

from sennet_engine.config import Config
from sennet_engine.errors import OutputError
from sennet_engine.results.preview import GreyLines, middle_lines
from sennet_engine.results.stack_writer import decoded_plane, encoded_plane
from sennet_engine.storage.durable import write_durably

Planes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

# A file begins with this, then come the index as JSON and the compressed data.
_HEAD = struct.Struct("<14sII")  # MAGIC, bytes of the index, its CRC-32
MAGIC = b"sennet slab 1\n"


def write_slab_file(
    path: Path, start: int, mask: npt.NDArray[np.bool_ | np.uint8], probability: Planes | None, grey: Planes
) -> None:
    """Write the planes from `start` on; the file exists only when whole, and is on the disk then.

    Args:
        mask: [n, Y, X], vessel where not 0.
        probability: [n, Y, X] 0..255, or None where nobody asked for it.
        grey: [n, Y, X] as windowed for the networks; only its middle lines are kept.

    Raises:
        OSError: the disk is full, or fails.
    """
    data = _Data()
    lines = [np.concatenate([one.row, one.column]) for one in map(middle_lines, grey)]
    index = _Index(
        start=start,
        shape=mask.shape,
        vessel_voxels=[int(np.count_nonzero(plane)) for plane in mask],
        mask=[data.place_of(_mask_levels(plane)) for plane in mask],
        probability=None if probability is None else [data.place_of(plane) for plane in probability],
        lines=data.place_of(np.stack(lines)),
    )
    header = index.model_dump_json().encode()
    write_durably(path, b"".join([_HEAD.pack(MAGIC, len(header), zlib.crc32(header)), header, *data.parts]))


class SlabFile:
    """What `write_slab_file` wrote. A context manager, made by `SlabFile.open`.

    Attributes:
        start: the z of its first plane.
        shape: planes, rows, columns. Planes are counted from 0 within the slab.
        has_probability: whether it was kept.
    """

    def __init__(self, path: Path, file: BinaryIO, index: "_Index", data_offset: int) -> None:
        self._path, self._file, self._index, self._data_offset = path, file, index, data_offset
        self.start, self.shape = index.start, index.shape
        self.has_probability = index.probability is not None
        self._lines: Planes | None = None

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the slab at `path`.

        Raises:
            OutputError: there is none, or it is not whole.
        """
        try:
            file = path.open("rb")
        except OSError as error:
            raise OutputError(f"{path}: cannot be opened ({error.strerror}); start anew with --overwrite") from error
        try:
            return cls(path, file, *_read_index(path, file))
        except BaseException:
            file.close()
            raise

    def vessel_voxels(self, plane: int) -> int:
        """How many voxels of the plane's mask are vessel."""
        return self._index.vessel_voxels[plane]

    def mask_strip(self, plane: int) -> bytes:
        """The plane's mask, 0 and 255, as `StackWriter.append_encoded` takes it."""
        return self._read(self._index.mask[plane])

    def mask_plane(self, plane: int) -> Mask:
        """[Y, X] bool.

        Raises:
            OutputError: it is damaged.
        """
        if not self.vessel_voxels(plane):
            return np.zeros(self.shape[1:], bool)
        mask: Mask = self._decoded(self.mask_strip(plane), self.shape[1:]) != 0
        return mask

    def probability_strip(self, plane: int) -> bytes:
        """The plane's probability, 0 to 255, as `StackWriter.append_encoded` takes it."""
        return self._read(self._probability(plane))

    def probability_plane(self, plane: int) -> Planes:
        """[Y, X] uint8, not to be written to.

        Raises:
            OutputError: it is damaged, or was not kept.
        """
        return self._decoded(self.probability_strip(plane), self.shape[1:])

    def grey_lines(self, plane: int) -> GreyLines:
        """The middle lines of the plane's grey levels, as windowed.

        Raises:
            OutputError: they are damaged.
        """
        planes, rows, columns = self.shape
        if self._lines is None:
            self._lines = self._decoded(self._read(self._index.lines), (planes, columns + rows))
        return GreyLines(self._lines[plane, :columns], self._lines[plane, columns:])

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _probability(self, plane: int) -> "_Place":
        if self._index.probability is None:
            raise OutputError(f"{self._path}: holds no probabilities; start anew with --overwrite and --probability")
        return self._index.probability[plane]

    def _read(self, place: "_Place") -> bytes:
        self._file.seek(self._data_offset + place.offset)
        return self._file.read(place.size)

    def _decoded(self, strip: bytes, shape: tuple[int, int]) -> Planes:
        try:
            return decoded_plane(strip, shape)
        except ValueError as error:
            raise _damaged(self._path, str(error)) from error


class _Place(NamedTuple):
    """Where something lies in the data, in bytes."""

    offset: int
    size: int


class _Index(Config):
    """What a slab file tells of itself."""

    start: int = Field(ge=0)
    shape: tuple[int, int, int]
    vessel_voxels: list[int]
    mask: list[_Place]
    probability: list[_Place] | None
    lines: _Place

    @model_validator(mode="after")
    def _fits_together(self) -> "_Index":
        lists: list[Sequence[Any]] = [self.vessel_voxels, self.mask, self.probability or self.mask]
        if min(self.shape) < 1 or any(len(one) != self.shape[0] for one in lists):
            raise ValueError(f"lists {[len(one) for one in lists]} planes, expected those of the shape {self.shape}")
        return self

    @property
    def data_size(self) -> int:
        return max(sum(place) for place in [*self.mask, *(self.probability or []), self.lines])


class _Data:
    """Compressed planes one behind the other; all planes without anything in them are one."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._size = 0
        self._empty: dict[tuple[int, ...], _Place] = {}

    def place_of(self, plane: Planes) -> _Place:
        """Compress a plane [rows, columns], and tell where it will lie."""
        is_empty = not plane.any()
        if is_empty and plane.shape in self._empty:
            return self._empty[plane.shape]
        self.parts.append(encoded_plane(plane))
        place = _Place(self._size, len(self.parts[-1]))
        self._size += place.size
        if is_empty:
            self._empty[plane.shape] = place
        return place


def _mask_levels(plane: npt.NDArray[np.bool_ | np.uint8]) -> Planes:
    """A mask as 0 and 255."""
    levels: Planes = np.negative((plane if plane.dtype == bool else plane != 0).view(np.uint8))
    return levels


def _read_index(path: Path, file: BinaryIO) -> tuple[_Index, int]:
    """The index, and where the data begin."""
    head = file.read(_HEAD.size)
    magic, size, checksum = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", 0, 0)
    header = file.read(size) if magic == MAGIC else b""
    if magic != MAGIC or zlib.crc32(header) != checksum:
        raise _damaged(path, "it does not begin as one")
    try:
        index = _Index.model_validate_json(header)
    except ValidationError as error:
        raise _damaged(path, f"its index says {error.errors()[0]['msg']}") from error
    expected, got = _HEAD.size + size + index.data_size, file.seek(0, 2)
    if got != expected:
        raise _damaged(path, f"it has {got} bytes, expected {expected}")
    return index, _HEAD.size + size


def _damaged(path: Path, why: str) -> OutputError:
    return OutputError(f"{path}: is no whole slab file: {why}; start anew with --overwrite")
