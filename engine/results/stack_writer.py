"""Write a (Z, Y, X) uint8 volume plane by plane as a compressed OME-TIFF that keeps the voxel size."""

import uuid
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

from sennet_engine.volumes.volume import VoxelSize

# Classic TIFF addresses 4 GiB; compressed masks stay far below their size in memory, but need not.
BIGTIFF_FROM_BYTES = 2**31

# zlib-ng takes a sixth of zlib's time; builds of imagecodecs for a few systems lack it. From level 2 on the long runs
# of one value that masks consist of shrink a thousandfold; higher levels gain little.
LEVEL = 2


class StackWriter:
    """A context manager; planes are appended in order of z."""

    def __init__(self, path: Path, *, shape_zyx: tuple[int, int, int], voxel_size_um: VoxelSize | None) -> None:
        self._writer = tifffile.TiffWriter(path, bigtiff=int(np.prod(shape_zyx, dtype=np.int64)) >= BIGTIFF_FROM_BYTES)
        self._shape_yx = shape_zyx[1:]
        self._description: bytes | None = _ome_xml(path.name, shape_zyx, voxel_size_um).encode()
        self._resolution: dict[str, object] = {}
        if voxel_size_um:
            pixels_per_cm = (1e4 / voxel_size_um[2], 1e4 / voxel_size_um[1])
            self._resolution = {"resolution": pixels_per_cm, "resolutionunit": "CENTIMETER"}

    def append(self, planes: npt.NDArray[np.uint8]) -> None:
        """Append [n, Y, X] planes, one page each."""
        self.append_encoded(encoded_plane(plane) for plane in planes)

    def append_encoded(self, strips: Iterable[bytes]) -> None:
        """Append planes that `encoded_plane` has compressed, one page each: the bytes go into the file as they are."""
        for strip in strips:
            self._writer.write(
                iter([strip]), shape=self._shape_yx, dtype=np.uint8, rowsperstrip=self._shape_yx[0],
                photometric="minisblack", compression="zlib", metadata=None, contiguous=False,
                description=self._description, **self._resolution,
            )  # fmt: skip
            self._description = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()


def encoded_plane(plane_yx: npt.NDArray[np.uint8]) -> bytes:
    """A [Y, X] plane as the one zlib stream that a page of the file holds."""
    codec = imagecodecs.zlibng_encode if imagecodecs.ZLIBNG.available else imagecodecs.zlib_encode
    return bytes(codec(plane_yx, level=LEVEL))  # type: ignore[arg-type]  # takes any buffer


def decoded_plane(strip: bytes, shape_yx: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The plane [Y, X] that `encoded_plane` compressed; not to be written to.

    Raises:
        ValueError: the stream is damaged, or that of a plane of another size.
    """
    codec = imagecodecs.zlibng_decode if imagecodecs.ZLIBNG.available else imagecodecs.zlib_decode
    try:
        return np.frombuffer(codec(strip, out=shape_yx[0] * shape_yx[1]), np.uint8).reshape(shape_yx)
    except RuntimeError as error:  # what every codec's own error derives from
        raise ValueError(f"a compressed plane is damaged ({error})") from error


def _ome_xml(name: str, shape_zyx: tuple[int, int, int], voxel_size_um: VoxelSize | None) -> str:
    """The description of the first page. Made here: tifffile makes its own only for data that it has whole."""
    metadata: dict[str, object] = {"axes": "ZYX", "Name": name}
    if voxel_size_um:
        for axis, size in zip("ZYX", voxel_size_um, strict=True):
            metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": "µm"}
    # The same volume gives the same bytes: OME asks for an identifier, and tifffile would draw a random one.
    identifier = uuid.uuid5(uuid.NAMESPACE_OID, f"{name} {shape_zyx} {voxel_size_um}")
    document = tifffile.OmeXml(UUID=f"urn:uuid:{identifier}")
    document.addimage("uint8", shape_zyx, (shape_zyx[0], 1, 1, shape_zyx[1], shape_zyx[2], 1), **metadata)
    return str(document.tostring(declaration=True))
