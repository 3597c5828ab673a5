"""The voxel size that a TIFF file states: OME-XML first, then ImageJ's description, then the resolution tags."""

import math
import xml.etree.ElementTree as ElementTree

import tifffile

from sennet_engine.volumes.volume import VoxelSize

UM_PER_UNIT = {
    "nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "\\u00b5m": 1.0, "mm": 1e3, "cm": 1e4,
    "m": 1e6,
}  # fmt: skip
# Dots per inch are for printers: software writes 72 or 300 into files of any origin, so inches are not believed.
UM_PER_RESOLUTION_UNIT = {"CENTIMETER": 1e4, "MILLIMETER": 1e3, "MICROMETER": 1.0}


def voxel_size_um_from_tiff(tiff: tifffile.TiffFile) -> VoxelSize | None:
    """Micrometres along (z, y, x), or None where the file does not say.

    A file that tells the size of a pixel but not the distance of the planes is taken as isotropic.
    """
    for source in (_from_ome, _from_imagej, _from_resolution):
        if (size := source(tiff)) is not None and all(math.isfinite(value) and value > 0 for value in size):
            return size
    return None


def _from_ome(tiff: tifffile.TiffFile) -> VoxelSize | None:
    if not tiff.ome_metadata:
        return None
    try:
        root = ElementTree.fromstring(tiff.ome_metadata)
    except ElementTree.ParseError:
        return None
    pixels = next((element for element in root.iter() if element.tag.endswith("}Pixels")), None)
    if pixels is None:
        return None

    def size(axis: str) -> float | None:
        value, unit = pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
        return float(value) * UM_PER_UNIT[unit] if value and unit in UM_PER_UNIT else None

    x, y, z = size("X"), size("Y"), size("Z")
    if x is None:
        return None
    return (z or x, y or x, x)


def _from_imagej(tiff: tifffile.TiffFile) -> VoxelSize | None:
    metadata = tiff.imagej_metadata or {}
    scale = UM_PER_UNIT.get(str(metadata.get("unit", "")).strip())
    pixels_per_unit = _pixels_per_unit(tiff)
    if scale is None or pixels_per_unit is None:
        return None
    y, x = (scale / value for value in pixels_per_unit)
    return (float(metadata["spacing"]) * scale if "spacing" in metadata else x, y, x)


def _from_resolution(tiff: tifffile.TiffFile) -> VoxelSize | None:
    scale = UM_PER_RESOLUTION_UNIT.get(getattr(tiff.pages[0].resolutionunit, "name", ""))
    pixels_per_unit = _pixels_per_unit(tiff)
    if scale is None or pixels_per_unit is None or tiff.is_imagej:
        return None
    y, x = (scale / value for value in pixels_per_unit)
    return (x, y, x)


def _pixels_per_unit(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    """Pixels per unit along (y, x) from the resolution tags, which are fractions."""
    tags = tiff.pages[0].tags
    try:
        x, y = (tags[name].value for name in ("XResolution", "YResolution"))
        return y[0] / y[1], x[0] / x[1]
    except (KeyError, ZeroDivisionError, TypeError):
        return None
