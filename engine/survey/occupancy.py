"""Find the cells of a volume that may hold organ, from a look at every eighth plane."""

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sennet_engine.planning.cells import CELL, Cells, Occupancy, everywhere
from sennet_engine.survey.separation import FINEST_ROUGHNESS, LEAST_CONTRAST, Separation, separation
from sennet_engine.survey.texture import Texture, stacked, texture_of_plane
from sennet_engine.volumes.volume import Volume
from sennet_engine.window import Window

# A cell may hold organ from these shares of the step from background to organ on: in its mean, in a patch of it. A
# mean of a quarter is reached where a quarter of the cell is organ.
MEAN_SHARE = 0.25
PATCH_SHARE = 0.5
# But from so many spreads of the background on at the latest.
MEAN_SPREADS = 5.0
# So many standard deviations rougher than the background: strands, walls of vessels in fat.
ROUGH_SPREADS = 5.0
# Islands of at most so many cells that are rough and nothing else are specks in the gel.
SPECK_CELLS = 2
# Wider than any vessel of an organ: narrower gaps in tissue are vessels or its folds, and belong to it.
WIDEST_VESSEL_UM = 6000.0
WIDEST_VESSEL_CELLS = 7
NARROWEST_GAP_CELLS = 5
# Leaving out less than the rest of this is not worth any risk.
LARGEST_SHARE = 0.95
# A background surrounds the organ: of the edge of the planes at most this may be bright, and so much less than inside.
BRIGHT_EDGE = 0.5
BRIGHT_EDGE_TO_ALL = 0.6
# Tissue has dark lumens, background has nothing darker than itself but the cores of a few streaks: at most this share
# of its cells may hold a patch that lies below it by what would tell organ from background.
DARK_PATCHES = 0.01
# Padding is black through and through, and there is more of it than this share.
LEAST_PADDING = 0.02
# So many cells beside padding hold some of it.
MIXED_CELLS = 2

# Planes between two that are looked at.
STEP = CELL // 2

EIGHT = np.ones((1, 3, 3), bool)


def surveyed_occupancy(volume: Volume, window: Window) -> Occupancy:
    """The cells of `volume` that may hold organ, by brightness and texture of planes 0, 8, 16, ... and the last one.

    A layer of cells takes what is found in the planes at its two ends and in its middle. What is not plainly background
    counts as organ: lumens, gaps and folds narrower than the widest vessel, all that organ encloses in a plane, and
    the cells around. Where organ and background cannot be told apart, every cell is occupied and `reason` says
    why.

    One decision is made for the whole volume. Memory is that of a plane and the cells. Raises VolumeError where a
    plane cannot be read.
    """
    if not window.low < window.high:
        return everywhere(volume.shape_zyx, reason=f"all voxels looked at have the grey level {window.low:g}")
    depth = volume.shape_zyx[0]
    surveyed = sorted({*range(0, depth, STEP), depth - 1})
    texture = stacked([texture_of_plane(window.to_uint8(volume.read_planes(z, z + 1))[0]) for z in surveyed])
    background = _background(texture)
    if isinstance(background, str):
        return everywhere(volume.shape_zyx, reason=background)
    widest = _widest_vessel_cells(volume)
    planes = np.stack([_organ_of_plane(plane, widest) for plane in background])
    firsts = np.arange(math.ceil(depth / CELL)) * (CELL // STEP)
    seen = [planes[np.minimum(firsts + later, len(planes) - 1)] for later in range(CELL // STEP + 1)]
    cells = np.logical_or.reduce(seen)
    if cells.mean() > LARGEST_SHARE:
        return everywhere(volume.shape_zyx, reason="there is too little background to be worth leaving out")
    return Occupancy(volume.shape_zyx, cells)


def _background(texture: Texture) -> Cells | str:
    """[planes, rows, columns] of cells that look like background by themselves; or why that cannot be said."""
    padding = texture.brightest == 0
    seen = ~padding
    if padding.any():
        seen = ndimage.binary_erosion(seen, EIGHT, iterations=MIXED_CELLS, border_value=1)
    organ = _organ(texture, seen)
    if not isinstance(organ, str):
        return np.asarray(~organ | padding)
    return np.asarray(padding) if padding.mean() >= LEAST_PADDING else organ


def _organ(texture: Texture, seen: Cells) -> Cells | str:
    """The cells that look like organ, judged by those that are `seen`; or why that cannot be said."""
    kinds = separation(texture.brightness[seen], texture.roughness[seen])
    if kinds is None:
        return "organ and background cannot be told apart by brightness and texture"
    organ = _looks_like_organ(texture, kinds)
    edge = seen & ~ndimage.binary_erosion(seen, EIGHT)
    bright_edge = float(organ[edge].mean())
    if bright_edge > min(BRIGHT_EDGE, BRIGHT_EDGE_TO_ALL * float(organ[seen].mean())):
        return (
            f"the bright part makes up {bright_edge:.0%} of the edges of the planes: "
            "whether it is organ amid background cannot be told"
        )
    darker = texture.darkest[seen & ~organ] < kinds.dark - LEAST_CONTRAST * max(kinds.roughness, FINEST_ROUGHNESS)
    if darker.mean() > DARK_PATCHES:
        return f"of the cells that are not bright {darker.mean():.1%} hold dark spots: they may be tissue"
    return organ


def _looks_like_organ(texture: Texture, kinds: Separation) -> Cells:
    rise = min(MEAN_SHARE * kinds.contrast, MEAN_SPREADS * max(kinds.spread, kinds.roughness, FINEST_ROUGHNESS))
    bright = texture.brightness > kinds.dark + rise
    bright |= texture.brightest > kinds.dark + PATCH_SHARE * kinds.contrast
    rough = texture.roughness > kinds.roughness + ROUGH_SPREADS * kinds.roughness_spread
    islands, count = ndimage.label(bright | rough, np.ones((3, 3, 3), bool))
    sizes = np.bincount(islands.ravel(), minlength=count + 1)
    holds_bright = np.bincount(islands.ravel(), bright.ravel(), minlength=count + 1) > 0
    kept = holds_bright | (sizes > SPECK_CELLS)
    kept[0] = False
    return np.asarray(kept[islands])


def _organ_of_plane(background: Cells, widest: float) -> Cells:
    """[rows, columns] of cells of a plane that may hold organ: all but wide background that is not enclosed."""
    organ = ndimage.binary_fill_holes(~background) | ~_opened(background, widest / 2)
    return np.asarray(ndimage.binary_dilation(organ))


def _opened(cells: Cells, radius: float) -> Cells:
    """The union of all discs of `radius` cells that lie within `cells`, which go on mirrored beyond the edges."""
    margin = math.ceil(radius) + 1
    padded = np.pad(cells, margin, mode="symmetric")
    if padded.all():
        return cells
    middles = ndimage.distance_transform_edt(padded) > radius
    if not middles.any():
        return np.zeros_like(cells)
    opened: npt.NDArray[np.bool_] = ndimage.distance_transform_edt(~middles) < radius
    return opened[margin:-margin, margin:-margin]


def _widest_vessel_cells(volume: Volume) -> float:
    if volume.voxel_size_um is None:
        return WIDEST_VESSEL_CELLS
    return max(NARROWEST_GAP_CELLS, WIDEST_VESSEL_UM / (CELL * min(volume.voxel_size_um[1:])))
