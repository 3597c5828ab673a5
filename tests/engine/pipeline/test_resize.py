"""Resizing planes."""

import numpy as np
import pytest
from PIL import Image

from sennet_engine.pipeline.resize import resized_answers, resized_grey

PLANES = np.random.default_rng(0).integers(0, 256, (3, 40, 52), dtype=np.uint8)


FILTERS = [(resized_grey, Image.Resampling.BICUBIC), (resized_answers, Image.Resampling.BOX)]


@pytest.mark.parametrize("shape", [(20, 26), (51, 66), (40, 10), (1, 1), (97, 52)])
@pytest.mark.parametrize(("resized", "filter_"), FILTERS)
def test_each_plane_is_resized_by_pillows_filter(shape, resized, filter_):
    """Rows stay rows, columns stay columns, and planes do not mix."""
    result = resized(PLANES, shape)
    assert result.shape == (3, *shape)
    for plane, expected in zip(result, PLANES, strict=True):
        image = Image.fromarray(expected).resize((shape[1], shape[0]), filter_)
        assert (plane == np.asarray(image)).all()


def test_planes_of_the_right_shape_are_not_touched():
    """They come back as they are, without a copy."""
    assert resized_grey(PLANES, (40, 52)) is PLANES


def test_views_are_resized_like_copies():
    """Planes cut out of a larger array, in any direction, give what their copies give."""
    view = PLANES[:, ::-2, 3:41]
    assert (resized_grey(view, (33, 17)) == resized_grey(view.copy(), (33, 17))).all()


def test_shrinking_averages_over_all_pixels():
    """A fine checkerboard becomes grey, not one of its colours."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[None]
    assert np.abs(resized_grey(board, (16, 16)).astype(int) - 127).max() <= 6


def test_answers_do_not_smear():
    """Magnified and brought back, a vessel is as wide as it was."""
    answers = np.zeros((1, 32, 32), np.uint8)
    answers[:, 10:13] = 255
    back = resized_answers(resized_answers(answers, (64, 64)), (32, 32))
    assert (back == answers).all()
