"""The voxel size that a TIFF file states: OME-XML first, then ImageJ's description, then the resolution tags."""

import math

import tifffile

from sennet_engine.volumes.tiff_axes import elements, ome_root
from sennet_engine.volumes.volume import VoxelSize

# ImageJ writes the micro sign as an escape sequence, in capitals or not.
UM_PER_UNIT = {
    **dict.fromkeys(("nm", "nanometer", "nanometre", "nanometers", "nanometres"), 1e-3),
    **dict.fromkeys(("µm", "μm", "um", "\\u00b5m", "\\u03bcm", "micron", "microns"), 1.0),
    **dict.fromkeys(("micrometer", "micrometre", "micrometers", "micrometres"), 1.0),
    **dict.fromkeys(("mm", "millimeter", "millimetre", "millimeters", "millimetres"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre", "centimeters", "centimetres"), 1e4),
    **dict.fromkeys(("m", "meter", "metre", "meters", "metres"), 1e6),
}
# A capital is another unit here: Mm is a megametre, and M stands for many things.
CASE_MATTERS = ("m", "mm")
# Dots per inch are for printers: software writes 72 or 300 into files of any origin, so inches are not believed.
UM_PER_RESOLUTION_UNIT = {"CENTIMETER": 1e4, "MILLIMETER": 1e3, "MICROMETER": 1.0}

NOT_A_NUMBER = float("nan")


def voxel_size_um_from_tiff(tiff: tifffile.TiffFile) -> VoxelSize | None:
    """Micrometres along (z, y, x), or None where the file does not say.

    A file that tells the size of a pixel but not the distance of the planes is taken as isotropic. A number or a unit
    that cannot be read counts as if nothing were said.
    """
    for source in (_from_ome, _from_imagej, _from_resolution):
        if (size := source(tiff)) is not None and all(math.isfinite(value) and value > 0 for value in size):
            return size
    return None


def um_per_unit(unit: str) -> float:
    """Micrometres in one `unit`, or NaN where it is no known length. Capitals count only where they have a meaning."""
    unit = unit.strip()
    return UM_PER_UNIT.get(unit if unit.lower() in CASE_MATTERS else unit.lower(), NOT_A_NUMBER)


def _from_ome(tiff: tifffile.TiffFile) -> VoxelSize | None:
    # Not tiff.ome_metadata: a slice of a series is opened as a file that has none.
    root = ome_root(tiff.pages.first)
    pixels = None if root is None else next(elements(root, "Pixels"), None)
    if pixels is None:
        return None

    def size(axis: str) -> float | None:
        value, unit = pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")
        return _number(value) * um_per_unit(unit) if value else None

    x, y, z = size("X"), size("Y"), size("Z")
    if x is None:
        return None
    return (x if z is None else z, x if y is None else y, x)


def _from_imagej(tiff: tifffile.TiffFile) -> VoxelSize | None:
    metadata = tiff.imagej_metadata or {}
    scale = um_per_unit(str(metadata.get("unit", "")))
    pixels_per_unit = _pixels_per_unit(tiff)
    if pixels_per_unit is None:
        return None
    y, x = (scale / value for value in pixels_per_unit)
    return (_number(metadata["spacing"]) * scale if "spacing" in metadata else x, y, x)


def _from_resolution(tiff: tifffile.TiffFile) -> VoxelSize | None:
    scale = UM_PER_RESOLUTION_UNIT.get(getattr(tiff.pages.first.resolutionunit, "name", ""))
    pixels_per_unit = _pixels_per_unit(tiff)
    if scale is None or pixels_per_unit is None or tiff.is_imagej:
        return None
    y, x = (scale / value for value in pixels_per_unit)
    return (x, y, x)


def _pixels_per_unit(tiff: tifffile.TiffFile) -> tuple[float, float] | None:
    """Pixels per unit along (y, x) from the resolution tags, which are fractions; None where they are not positive."""
    tags = tiff.pages.first.tags
    try:
        x, y = (tags[name].value for name in ("XResolution", "YResolution"))
        per_unit = y[0] / y[1], x[0] / x[1]
        return per_unit if min(per_unit) > 0 else None
    except (KeyError, IndexError, ZeroDivisionError, TypeError):
        return None


def _number(value: object) -> float:
    """`value` as a number; NaN where it is none, such as `50,0`."""
    try:
        return float(str(value))
    except ValueError:
        return NOT_A_NUMBER
