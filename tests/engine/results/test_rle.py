"""Run-length encoding as Kaggle reads it."""

import csv

import numpy as np
import pytest

from sennet_engine.errors import VolumeError
from sennet_engine.results.rle import SubmissionWriter, mask_from_rle, rle_from_mask


def test_runs_count_from_1_row_by_row():
    """By hand: pixels 2, 3 of the first row; the end of the second row runs on into the third."""
    mask = np.array([[0, 1, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]])
    assert rle_from_mask(mask) == "2 2 8 2"


def test_an_empty_mask_is_1_0():
    """As the competition asks, and it reads back as empty."""
    assert rle_from_mask(np.zeros((3, 4), bool)) == "1 0"
    assert not mask_from_rle("1 0", (3, 4)).any()


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 0.97, 1.0])
def test_decoding_undoes_encoding(share):
    """For sparse, dense, full and empty masks, of bool and of 0/255."""
    mask = np.random.default_rng(0).random((17, 23)) < share
    assert np.array_equal(mask_from_rle(rle_from_mask(mask), mask.shape), mask)
    assert rle_from_mask(mask.astype(np.uint8) * 255) == rle_from_mask(mask)


def test_touching_runs_are_read():
    """Not every writer joins them."""
    assert mask_from_rle("1 2 3 1", (1, 4)).tolist() == [[True, True, True, False]]


@pytest.mark.parametrize(
    ("rle", "complaint"),
    [
        ("1 2 3", "pairs"),
        ("1 x", "pairs"),
        ("1 99999999999999999999", "pairs"),
        ("0 2", "ascending"),
        ("3 -1", "ascending"),
        ("1 3 2 1", "ascending"),
        ("12 2", r"within \(3, 4\)"),
    ],
)
def test_wrong_runs_are_refused(rle, complaint):
    """Odd counts, words, overlaps, and runs outside the plane."""
    with pytest.raises(VolumeError, match=complaint):
        mask_from_rle(rle, (3, 4))


def test_a_submission_has_a_row_for_every_plane(tmp_path):
    """The header, then NAME_PLANEID and the runs, in the order in which planes were given."""
    mask = np.zeros((2, 3, 4), bool)
    mask[1, 0, 1:3] = True
    with SubmissionWriter(tmp_path / "submission.csv", name="kidney_5") as submission:
        for plane_id, plane in zip(["0007", "0008"], mask, strict=True):
            submission.append(plane_id, plane)
    assert (tmp_path / "submission.csv").read_bytes() == b"id,rle\nkidney_5_0007,1 0\nkidney_5_0008,2 2\n"


def test_names_with_commas_stay_one_field(tmp_path):
    """A folder may be called anything."""
    with SubmissionWriter(tmp_path / "submission.csv", name='a,"b"') as submission:
        submission.append("0", np.ones((1, 1)))
    with (tmp_path / "submission.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["id", "rle"], ['a,"b"_0', "1 1"]]
