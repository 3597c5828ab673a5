"""A picture of a finished run: slices with the outline of the mask, and the mask seen through along z."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from sennet_engine.volumes.volume import VoxelSize

LONG_SIDE_PX = 1600
LARGEST_ZOOM = 8
GAP_PX = 12
# A level of 6 takes three times as long and gives files that are hardly smaller.
PNG_LEVEL = 2
CAPTION_PX = 22
# A caption needs this width; a slice along z with fewer rows shows nothing.
NARROWEST_COLUMN_PX = 240
THINNEST_SIDE_VIEW_PX = 16
PAPER, INK, OUTLINE = (24, 24, 24), (230, 230, 230), (255, 96, 0)
# The grey of a projected pixel with a single vessel voxel, so that the thinnest vessel can be seen.
FAINTEST_GREY = 72

Grey = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class GreyLines:
    """What the picture needs of the grey levels of a z plane: its middle `row` [X] and middle `column` [Y], uint8."""

    row: Grey
    column: Grey


def middle_lines(grey_yx: Grey) -> GreyLines:
    """The middle lines of a plane [Y, X]; views of it."""
    rows, columns = grey_yx.shape
    return GreyLines(grey_yx[rows // 2], grey_yx[:, columns // 2])


class Preview:
    """Collects a picture plane by plane, in memory of a few pictures whatever the size of the volume.

    Shown are the z plane with most vessel (the middle one if there is none), the middle y and x planes, and how many
    vessel voxels lie behind each other along z. Big volumes are averaged down, and a mask's pixel is then vessel if any
    of its voxels is; small ones are magnified by a whole number. Voxels keep their proportions if their size is known.
    Planes along y and x are left out where the volume is too thin for them.

    Args:
        shape_zyx: the volume's shape.
        voxel_size_um: micrometres along (z, y, x); None takes them as cubes.
    """

    def __init__(self, shape_zyx: tuple[int, int, int], *, voxel_size_um: VoxelSize | None = None) -> None:
        self._layout = _layout(shape_zyx, voxel_size_um or (1.0, 1.0, 1.0))
        self._middle_zyx = tuple(side // 2 for side in shape_zyx)
        depth, height, width = (-(-side // step) for side, step in zip(shape_zyx, self._layout.step_zyx, strict=True))
        self._behind = np.zeros((height, width), np.uint32)
        self._best_z, self._best_voxels = self._middle_zyx[0], 0
        self._best_mask = np.zeros((height, width), bool)
        self._side_views = (_Slice.empty(depth, width), _Slice.empty(depth, height))

    def add(self, z: int, mask_yx: Mask, lines: GreyLines) -> None:
        """Take plane `z`: its mask [Y, X] bool, and the middle lines of its grey levels as windowed for the model.

        Every plane is given once, in any order.
        """
        step_z, step_y, step_x = self._layout.step_zyx
        _, middle_y, middle_x = self._middle_zyx
        y_view, x_view = self._side_views
        y_view.add_line(z // step_z, lines.row, mask_yx[middle_y], step_x)
        x_view.add_line(z // step_z, lines.column, mask_yx[:, middle_x], step_y)
        box = _box_of(mask_yx, (step_y, step_x))
        if box is None:
            return
        rows, columns = box
        vessel = mask_yx[rows, columns]
        voxels = int(np.count_nonzero(vessel))
        reduced = _any_of(vessel, (step_y, step_x))
        top, left = rows.start // step_y, columns.start // step_x
        shown = slice(top, top + reduced.shape[0]), slice(left, left + reduced.shape[1])
        self._behind[shown] += reduced
        # Of planes with equally many the lowest; the first plane with vessel replaces the middle one.
        if not self._best_voxels or (voxels, -z) > (self._best_voxels, -self._best_z):
            self._best_z, self._best_voxels = z, voxels
            self._best_mask[:] = False
            self._best_mask[shown] = reduced

    def save(self, path: Path, *, grey_of_plane: Callable[[int], Grey]) -> None:
        """Write the picture as PNG. `grey_of_plane` gives a z plane [Y, X] uint8 as windowed; it is asked for one."""
        pixels_z, pixels_y, pixels_x = self._layout.pixels_zyx
        outline = self._layout.outline_px
        why = "most vessel), mask outlined" if self._best_voxels else "middle), no vessel found"
        grey = _mean_of(grey_of_plane(self._best_z), self._layout.step_zyx[1:])
        best = _Slice(grey, self._best_mask, np.ones(len(grey), np.int64))
        along_z = pixels_x, pixels_y
        rows = [
            [
                _Panel(f"z = {self._best_z} ({why}", along_z, partial(best.drawn, along_z, outline)),
                _Panel("mask along z (brighter: thicker)", along_z, partial(_drawn_depth, self._behind, along_z)),
            ]
        ]
        if self._layout.has_side_views:
            y_view, x_view = self._side_views
            _, middle_y, middle_x = self._middle_zyx
            along_y, along_x = (pixels_x, pixels_z), (pixels_y, pixels_z)
            rows.append(
                [
                    _Panel(f"y = {middle_y} (z down, x right)", along_y, partial(y_view.drawn, along_y, outline)),
                    _Panel(f"x = {middle_x} (z down, y right)", along_x, partial(x_view.drawn, along_x, outline)),
                ]
            )
        _page(rows).save(path, format="PNG", compress_level=PNG_LEVEL)


@dataclass(frozen=True)
class _Panel:
    """A part of the page; `size` is the width and height in pixels of what `draw` gives."""

    caption: str
    size: tuple[int, int]
    draw: Callable[[], Image.Image]


@dataclass
class _Slice:
    """A slice as it is kept: grey [rows, columns] summed over so many lines of voxels a row, and the mask."""

    grey: npt.NDArray[np.float32]
    mask: Mask
    lines_in_row: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, rows: int, columns: int) -> "_Slice":
        return cls(np.zeros((rows, columns), np.float32), np.zeros((rows, columns), bool), np.zeros(rows, np.int64))

    def add_line(self, row: int, grey: Grey, mask: Mask, step: int) -> None:
        """Add one line of voxels to `row`; every `step` voxels become one pixel."""
        self.grey[row] += _mean_of(grey, (step,))
        self.mask[row] |= _any_of(mask, (step,))
        self.lines_in_row[row] += 1

    def drawn(self, size: tuple[int, int], outline_px: int) -> Image.Image:
        """The slice at `size` (width, height) with a line around the mask, outside it: vessels stay visible."""
        grey = self.grey / np.maximum(self.lines_in_row, 1)[:, None]
        picture = Image.fromarray(np.rint(grey).astype(np.uint8)).resize(size, Image.Resampling.BOX).convert("RGB")
        mask = Image.fromarray(self.mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
        inside = np.asarray(mask) > 0
        grown = Image.fromarray(inside.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(2 * outline_px + 1))
        outline = (np.asarray(grown) > 0) & ~inside
        picture.paste(OUTLINE, mask=Image.fromarray(outline))
        return picture


@dataclass(frozen=True)
class _Layout:
    """`pixels_zyx`: the size of the volume on the page; `step_zyx`: voxels that become one pixel in memory."""

    pixels_zyx: tuple[int, int, int]
    step_zyx: tuple[int, int, int]
    has_side_views: bool
    outline_px: int


def _layout(shape_zyx: tuple[int, int, int], voxel_size_um: VoxelSize) -> _Layout:
    """The largest layout that fits the page; without the side views where they would be too thin."""
    extent_zyx = np.asarray(shape_zyx) * voxel_size_um / min(voxel_size_um)
    z, y, x = extent_zyx
    room = LONG_SIDE_PX - 3 * GAP_PX - 2 * CAPTION_PX
    zoom = _zoom(room, columns=(x, max(x, y)), height=y + z)
    has_side_views = shape_zyx[0] > 1 and z * zoom >= THINNEST_SIDE_VIEW_PX
    if not has_side_views:
        zoom = _zoom(room, columns=(x, x), height=y)
    pixels = [max(1, round(float(side))) for side in extent_zyx * zoom]
    steps = [max(1, side // shown) for side, shown in zip(shape_zyx, pixels, strict=True)]
    return _Layout(
        pixels_zyx=(pixels[0], pixels[1], pixels[2]),
        step_zyx=(steps[0], steps[1], steps[2]),
        has_side_views=has_side_views,
        outline_px=1 if zoom <= 2 else 2,
    )


def _zoom(room: int, *, columns: tuple[float, float], height: float) -> float:
    """Pixels a voxel so that both columns, the second being the wider, and the height fit; whole from 1 on."""
    zoom = min(room / sum(columns), (room - NARROWEST_COLUMN_PX) / columns[1], room / height)
    return float(min(int(zoom), LARGEST_ZOOM)) if zoom >= 1 else float(zoom)


def _drawn_depth(behind: npt.NDArray[np.uint32], size: tuple[int, int]) -> Image.Image:
    """Counts as greys that grow with their square root."""
    counts = np.asarray(Image.fromarray(behind.astype(np.float32)).resize(size, Image.Resampling.BOX))
    share = np.sqrt(counts / (counts.max() or 1))
    greys = np.where(counts > 0, FAINTEST_GREY + (255 - FAINTEST_GREY) * share, 0)
    return Image.fromarray(np.rint(greys).astype(np.uint8)).convert("RGB")


def _page(rows: Sequence[Sequence[_Panel]]) -> Image.Image:
    """The captioned panels in rows and columns; they are drawn one after another, to hold only one beside the page."""
    columns = [max(NARROWEST_COLUMN_PX, *(one.size[0] for one in column)) for column in zip(*rows, strict=True)]
    heights = [CAPTION_PX + max(panel.size[1] for panel in row) for row in rows]
    size = (sum(columns) + GAP_PX * (len(columns) + 1), sum(heights) + GAP_PX * (len(rows) + 1))
    page = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(size=14)
    top = GAP_PX
    for row, height in zip(rows, heights, strict=True):
        left = GAP_PX
        for panel, width in zip(row, columns, strict=True):
            pen.text((left, top), panel.caption, fill=INK, font=font)
            page.paste(panel.draw(), (left, top + CAPTION_PX))
            left += width + GAP_PX
        top += height + GAP_PX
    return page


def _box_of(mask_yx: Mask, steps: tuple[int, int]) -> tuple[slice, slice] | None:
    """The rows and columns that hold all vessel voxels, from multiples of `steps` on; None where there are none."""
    rows = np.flatnonzero(mask_yx.any(axis=1))
    if not rows.size:
        return None
    top, bottom = int(rows[0]) // steps[0] * steps[0], int(rows[-1]) + 1
    columns = np.flatnonzero(mask_yx[top:bottom].any(axis=0))
    return slice(top, bottom), slice(int(columns[0]) // steps[1] * steps[1], int(columns[-1]) + 1)


def _any_of(mask: Mask, steps: tuple[int, ...]) -> Mask:
    return np.asarray(_reduced(np.logical_or, mask, steps), bool)


def _mean_of(grey: Grey, steps: tuple[int, ...]) -> npt.NDArray[np.float32]:
    sums = _reduced(np.add, grey, steps, dtype=np.uint32)
    counts = [np.minimum(step, side - np.arange(0, side, step)) for side, step in zip(grey.shape, steps, strict=True)]
    return np.asarray(sums / math.prod(np.ix_(*counts)), np.float32)


def _reduced(
    operation: np.ufunc, array: npt.NDArray[Any], steps: tuple[int, ...], *, dtype: npt.DTypeLike | None = None
) -> npt.NDArray[Any]:
    """Every block of `steps` elements reduced to one; blocks at the far edge may be smaller."""
    for axis, step in enumerate(steps):
        lines = np.moveaxis(array, axis, 0)
        reduced = lines[::step].astype(dtype or array.dtype)
        for offset in range(1, step):
            part = lines[offset::step]
            operation(reduced[: len(part)], part, out=reduced[: len(part)])
        array = np.moveaxis(reduced, 0, axis)
    return array
