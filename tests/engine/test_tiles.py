"""Cutting and stitching."""

import numpy as np
import pytest

from sennet_engine.errors import ConfigError
from sennet_engine.tiles import tile_grid

SHAPES = [(1, 1), (5, 300), (64, 64), (65, 63), (257, 130), (512, 512)]


@pytest.mark.parametrize("plane_shape", SHAPES)
@pytest.mark.parametrize(("side", "halo"), [(64, 0), (64, 16), (128, 48)])
def test_stitch_undoes_cut(plane_shape, side, halo):
    """Every pixel of the plane is kept exactly once and comes back as it was."""
    plane = np.random.default_rng(0).integers(0, 256, plane_shape, dtype=np.uint8)
    grid = tile_grid(plane_shape, side=side, halo=halo, stride=16)
    padded = grid.padded(plane[None])[0]
    stitched, visits = np.zeros_like(plane), np.zeros(plane_shape, int)
    for tile in grid:
        pixels = grid.cut(padded, tile)
        assert pixels.shape == (side, side)
        stitched[tile.kept] = pixels[tile.kept_in_tile]
        visits[tile.kept] += 1
    assert (visits == 1).all()
    assert (stitched == plane).all()


@pytest.mark.parametrize("plane_shape", SHAPES)
def test_origins_are_aligned_and_inner_edges_have_their_halo(plane_shape):
    """Origins are multiples of the stride, and a kept pixel is a halo away from every tile edge inside the plane."""
    grid = tile_grid(plane_shape, side=128, halo=48, stride=16)
    for tile in grid:
        for interval, padded in zip((tile.rows, tile.columns), grid.padded_shape, strict=True):
            assert interval.origin % 16 == 0
            assert interval.origin == 0 or interval.keep_start - interval.origin >= 48
            assert interval.origin + 128 == padded or interval.origin + 128 - interval.keep_stop >= 48


@pytest.mark.parametrize(("side", "halo", "stride"), [(100, 0, 16), (64, 8, 16), (64, 32, 16), (64, -16, 16)])
def test_sizes_that_cannot_work_are_refused(side, halo, stride):
    """Unaligned sides or halos, and halos that leave nothing of the tile, are errors."""
    with pytest.raises(ConfigError, match="expected"):
        tile_grid((200, 200), side=side, halo=halo, stride=stride)
