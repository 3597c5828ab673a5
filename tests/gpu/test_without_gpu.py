"""What the tests on a GPU compare with is worth comparing with: shown on the processors, where `make test` runs it."""

import numpy as np
import pytest

from sennet_engine.errors import OverflowedError
from sennet_engine.runtimes import open_predictor


def test_the_tiles_hold_vessels(expected, tiles):
    """Each of the four, and each in other places."""
    assert tiles.shape == expected.shape
    assert len({one.tobytes() for one in expected}) == len(tiles)


def test_bright_tiles_overflow_in_float32_too(overflowing):
    """Which is what the processors compute in: however a runtime fuses the layers, the bright tile is the one."""
    dark = np.zeros((4, 1, 64, 64), np.uint8)
    bright = dark.copy()
    bright[2, 0, 5, 5] = 255
    with open_predictor(overflowing, runtime="onnxruntime", precision="fp16") as predictor:
        with pytest.raises(OverflowedError) as raised:
            predictor.predict(bright)
        assert raised.value.tiles == (2,)
        assert np.isin(predictor.predict(dark), (127, 128)).all()
