"""What the descriptions in a TIFF say of its planes: OME-XML, ImageJ's and tifffile's own.

tifffile's `series` would tell the same, but holds the offsets of every strip of every page in memory to do so.
"""

import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tifffile

from sennet_engine.errors import VolumeError
from sennet_engine.volumes.tiff_pages import PageFiles, PagePlace

# Formats with axes of their own that hide behind the suffix .tif.
UNSUPPORTED = (
    "lsm", "stk", "fluoview", "sis", "scanimage", "mmstack", "ndtiff", "mdgel", "svs", "scn", "qpi", "ndpi", "bif",
    "avs", "eer", "philips", "indica",
)  # fmt: skip


@dataclass(frozen=True)
class Stated:
    """What a description says.

    Attributes:
        axes: sizes of the axes besides rows and columns, by their letter: C channels, T time points, Z planes, and Q
            for planes that nobody named.
        places: where the planes lie in order of z, or None for the pages of the file as they come.
    """

    axes: dict[str, int]
    places: list[PagePlace] | None = None


def stated_planes(path: Path, tiff: tifffile.TiffFile) -> Stated:
    """What `tiff`, opened from `path`, says of its planes; nothing at all is a stack of pages as they come.

    Raises:
        VolumeError: several images in one file, planes that no page is named for, or a format with axes of its own.
    """
    for source in (_from_ome, _from_imagej, _from_tifffile):
        if (stated := source(path, tiff)) is not None:
            return stated
    kinds = [kind for kind in UNSUPPORTED if getattr(tiff, f"is_{kind}", False)]
    if kinds:
        raise VolumeError(
            f"{path}: got a file of format {kinds[0].upper()}, expected a plain, ImageJ or OME-TIFF; convert it first"
        )
    return Stated({})


def ome_root(page: tifffile.TiffPage) -> ElementTree.Element | None:
    """The OME-XML document in the description of a file's first page, if there is one that can be read."""
    if not page.is_ome:
        return None
    try:
        return ElementTree.fromstring(page.description)
    except (ElementTree.ParseError, ValueError):
        return None


def elements(parent: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """The elements called `name` at any depth, whatever version of OME's namespace they are in."""
    return (element for element in parent.iter() if element.tag.rpartition("}")[2] == name)


def _from_ome(path: Path, tiff: tifffile.TiffFile) -> Stated | None:
    """Axes and places as in the OME-TIFF specification, "The TiffData element"."""
    # The file can be opened as one that is no OME-TIFF, whatever its description says.
    root = ome_root(tiff.pages.first) if tiff.is_ome else None
    images = [] if root is None else list(elements(root, "Pixels"))
    if root is None or not images:
        return None
    if len(images) > 1:
        raise VolumeError(f"{path}: got {len(images)} images in one OME-TIFF, expected one; split it first")
    axes = {axis: int(images[0].get(f"Size{axis}", 1)) for axis in "CTZ"}
    if axes["C"] * axes["T"] > 1:
        return Stated(axes)
    places = _ome_places(path, root, images[0])
    missing = next((z for z in range(axes["Z"]) if z not in places), None) if places else None
    if missing is not None:
        raise VolumeError(
            f"{path}: its OME-XML names no page for plane {missing} of {axes['Z']}; the file is damaged, copy it again"
        )
    return Stated(axes, [places[z] for z in range(axes["Z"])] if places else None)


def _ome_places(path: Path, root: ElementTree.Element, pixels: ElementTree.Element) -> dict[int, PagePlace]:
    """The page of each plane, by z."""
    places: dict[int, PagePlace] = {}
    with PageFiles() as files:
        for data in elements(pixels, "TiffData"):
            file = _named_file(path, root, data)
            z, number = int(data.get("FirstZ", 0)), int(data.get("IFD", 0))
            stated = data.get("PlaneCount", data.get("NumPlanes"))
            # Left out, it is one if a page is named, else all pages of the file.
            implied = 1 if stated or "IFD" in data.attrib else files.page_count(file)
            places |= {z + step: PagePlace(file, number + step) for step in range(int(stated or implied))}
    return places


def _named_file(path: Path, root: ElementTree.Element, data: ElementTree.Element) -> Path:
    """The file that a TiffData element speaks of: `path`, unless it names another of the same set."""
    name = next(elements(data, "UUID"), None)
    if name is None or not name.get("FileName") or name.text == root.get("UUID"):
        return path
    file = path.with_name(Path(str(name.get("FileName"))).name)
    if file != path and not file.exists():
        raise VolumeError(f"{path}: its OME-XML names {file.name}, which is not beside it; put it there")
    return file


def _from_imagej(_path: Path, tiff: tifffile.TiffFile) -> Stated | None:
    metadata = tiff.imagej_metadata
    if metadata is None:
        return None
    axes = {axis: int(metadata.get(key, 1)) for axis, key in (("C", "channels"), ("T", "frames"), ("Z", "slices"))}
    # A stack that is no hyperstack may state the number of images alone.
    return Stated(axes if math.prod(axes.values()) > 1 else {"Q": int(metadata.get("images", 1))})


def _from_tifffile(_path: Path, tiff: tifffile.TiffFile) -> Stated | None:
    """The description that tifffile writes by default: the array's shape as JSON, and its axes if they were given."""
    page = tiff.pages.first
    if not page.description.startswith('{"shape":'):
        return None
    metadata = json.loads(page.description)
    shape, axes = metadata["shape"], metadata.get("axes", "")
    if len(axes) == len(shape):
        return Stated({axis: int(size) for axis, size in zip(axes, shape, strict=True) if axis not in "YX"})
    if shape[-2:] != [page.imagelength, page.imagewidth]:
        return Stated({"Q": math.prod(shape) // (page.imagelength * page.imagewidth)})
    # Unnamed axes are planes if there is one of them; of two, one is a channel or a time.
    unnamed = [int(size) for size in shape[:-2] if size > 1]
    return Stated(dict(zip(("Q", "unnamed", "also unnamed"), unnamed, strict=False)))
