"""The window of a volume."""

import numpy as np
import pytest

from sennet_engine.errors import ConfigError
from sennet_engine.volumes.volume import ArrayVolume
from sennet_engine.window import Window, surveyed_window, window_from_text


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_window_is_the_volumes_own_percentiles(dtype):
    """0.1 % of the voxels lie at or below the window and 0.1 % at or above, whatever the type."""
    stack = np.random.default_rng(0).normal(120, 20, (8, 200, 200)).clip(0, 255).astype(dtype)
    window = surveyed_window(ArrayVolume(stack))
    assert window.low == pytest.approx(np.quantile(stack, 0.001), abs=1)
    assert window.high == pytest.approx(np.quantile(stack, 0.999), abs=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_types_agree_on_uint8(dtype):
    """The same grey levels give the same uint8 from every voxel type: rounded half up and clipped."""
    grey = np.arange(256).astype(dtype)
    expected = np.floor(np.clip((np.arange(256) - 20) * 255 / 180, 0, 255) + 0.5)
    assert (Window(20, 200).to_uint8(grey) == expected).all()


def test_full_window_is_the_identity_on_uint8():
    """Grey levels 0 to 255 through the window 0 to 255 stay as they are."""
    grey = np.arange(256, dtype=np.uint8)
    assert (Window(0, 255).to_uint8(grey) == grey).all()


def test_a_constant_volume_is_black():
    """A volume without contrast has nothing to show, and does not divide by zero."""
    volume = ArrayVolume(np.full((2, 9, 9), 700, np.uint16))
    window = surveyed_window(volume)
    assert (window.to_uint8(volume.read_planes(0, 2)) == 0).all()


@pytest.mark.parametrize("text", ["5", "9,5", "a,b", "1,2,3", ""])
def test_windows_that_are_none_are_refused(text):
    """Only two ascending numbers are a window."""
    with pytest.raises(ConfigError, match="window"):
        window_from_text(text)
