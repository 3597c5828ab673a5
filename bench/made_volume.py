"""Volumes for measuring speed and memory: an organ with vessels in a textured background, in next to no time."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

# 40 % of the plane, as in the scans.
ORGAN_SHARE = 0.4
BACKGROUND, ORGAN, VESSEL, NOISE = 40, 90, 230, 3.0
VESSEL_SPACING, VESSEL_RADIUS = 96, 4
SEED = 0


def write_made_volume(path: Path, shape_zyx: tuple[int, int, int]) -> Path:
    """Write an uncompressed uint8 TIFF; memory is that of a few planes."""
    depth, rows, columns = shape_zyx
    rng = np.random.default_rng(SEED)
    clean = _plane(rows, columns)
    noise = rng.normal(0, NOISE, (rows, columns)).round().astype(np.int16)
    with tifffile.TiffWriter(path, bigtiff=depth * rows * columns >= 2**31) as writer:
        for _ in range(depth):
            # The same grains elsewhere: drawing them anew would take longer than what is measured.
            moved = np.roll(noise, tuple(rng.integers(0, (rows, columns))), axis=(0, 1))
            writer.write((clean + moved).astype(np.uint8), photometric="minisblack", contiguous=True)
    return path


def _plane(rows: int, columns: int) -> npt.NDArray[np.int16]:
    """An ellipse, crossed by vessels that run along z."""
    y, x = np.arange(rows)[:, None], np.arange(columns)[None, :]
    # An ellipse with the plane's proportions covers pi / 4 of it at full size.
    size = ORGAN_SHARE / (np.pi / 4)
    inside = ((2 * y / rows - 1) ** 2 + (2 * x / columns - 1) ** 2) < size
    off = (z % VESSEL_SPACING - VESSEL_SPACING // 2 for z in (y, x))
    vessel = sum(distance**2 for distance in off) < VESSEL_RADIUS**2
    return np.where(inside & vessel, VESSEL, np.where(inside, ORGAN, BACKGROUND)).astype(np.int16)
