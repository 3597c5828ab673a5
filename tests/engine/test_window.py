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


@pytest.mark.parametrize("spread", ["normal", "striped", "outlier", "constant"])
def test_a_float_window_is_exact(spread):
    """The window of a float volume is made of its own values at the two ranks, whatever their spread."""
    stack = np.random.default_rng(0).normal(-1, 20, (5, 300, 1200)).astype(np.float32)
    if spread == "striped":
        stack += 1000 * (np.arange(1200) % 4 == 1)
    if spread == "outlier":
        stack[0, 0, 0] = 1e30
    if spread == "constant":
        stack[:] = -0.5
    window = surveyed_window(ArrayVolume(stack))
    low, high = np.quantile(stack, [0.001, 0.999], method="inverted_cdf")
    assert (window.low, window.high) == (low, high)


@pytest.mark.parametrize(("low", "high"), [(-np.inf, np.inf), (0, np.inf), (np.nan, 1), (2, 1)])
def test_a_window_has_two_finite_ends(low, high):
    """Infinite, missing and descending ends are refused."""
    with pytest.raises(ConfigError, match="window"):
        Window(low, high)


def test_a_window_narrower_than_float32_can_scale_is_a_step():
    """Grey levels that hardly differ give black and white, and no warning of an overflow."""
    levels = np.array([0, 1e-40, 2e-40], np.float32)
    assert (Window(0, float(levels[1])).to_uint8(levels) == [0, 0, 255]).all()


@pytest.mark.parametrize("text", ["5", "9,5", "a,b", "1,2,3", "", "-inf,inf"])
def test_windows_that_are_none_are_refused(text):
    """Only two ascending numbers are a window."""
    with pytest.raises(ConfigError, match="window"):
        window_from_text(text)
