"""`sennet-train pseudo-label`, `threshold` and `evaluate` as a person types them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tifffile

from sennet_engine.bundle import open_bundle

Command = Callable[..., Any]


@pytest.fixture
def bright(sparse: Path) -> Path:
    """The sparse volume's folder with a volume in which vessels are bright: image.tif is turned round."""
    grey = tifffile.imread(sparse / "image.tif")
    tifffile.imwrite(sparse / "image.tif", grey.max() - grey)
    return sparse


def test_pseudo_label_prints_the_table_and_where_the_files_are(
    command: Command, bright: Path, identity_bundle: Path, tmp_path: Path
) -> None:
    """Given again it prints the same at once; a threshold given by hand makes a file of its own."""
    arguments = [
        "pseudo-label", identity_bundle, "--images", bright / "image.tif", "--labels", bright / "sparse.tif",
        "--label-fraction", "0.8", "--out", tmp_path / "out", "--device", "cpu",
    ]  # fmt: skip
    first = command("sennet-train", *arguments)
    assert first.code == 0, first.err
    assert "labelled share" in first.out
    assert "stated 80.0%" in first.out
    assert "merging" in first.err
    (labels,) = (tmp_path / "out").glob("labels_*.tif")
    assert str(labels) in first.out
    again = command("sennet-train", *arguments)
    assert (again.code, again.out, again.err) == (0, first.out, "")
    given = command("sennet-train", *arguments, "--threshold", "0.25", "--threshold", "0.75", "--quiet")
    assert (given.code, given.err) == (0, "")
    assert {path.name for path in (tmp_path / "out").glob("*.tif")} == {"labels_0.250.tif", "labels_0.750.tif"}


def test_a_share_that_cannot_be_met_is_said_on_both_streams(
    command: Command, bright: Path, identity_bundle: Path, tmp_path: Path
) -> None:
    """The command ends well all the same, with the nearest threshold."""
    ran = command(
        "sennet-train", "pseudo-label", identity_bundle, "--images", bright / "image.tif", "--labels",
        bright / "sparse.tif", "--label-fraction", "0.001", "--out", tmp_path / "out", "--quiet",
    )  # fmt: skip
    assert ran.code == 0
    assert "no threshold meets the stated share" in ran.err
    assert "which is not met" in ran.out


def test_threshold_writes_the_best_one_on_the_card(
    command: Command, bright: Path, identity_bundle: Path, tmp_path: Path
) -> None:
    """Not without --write, and never that of an ensemble."""
    arguments = [
        "--images", bright / "image.tif", "--labels", bright / "labels.tif", "--out", tmp_path / "out", "--quiet",
    ]  # fmt: skip
    before = open_bundle(identity_bundle).card
    looked = command("sennet-train", "threshold", identity_bundle, *arguments)
    assert looked.code == 0, looked.err
    assert open_bundle(identity_bundle).card == before
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    written = command("sennet-train", "threshold", identity_bundle, *arguments, "--write")
    assert written.code == 0, written.err
    card = open_bundle(identity_bundle).card
    assert card.threshold.value == found["best_threshold"] != before.threshold.value
    assert (card.threshold.low, card.threshold.high) == (found["stable_low"], found["stable_high"])
    assert card.model_copy(update={"threshold": before.threshold}) == before
    several = command("sennet-train", "threshold", identity_bundle, identity_bundle, *arguments, "--write")
    assert several.code == 2
    assert "--write: got 2 networks, expected one" in several.err


def test_evaluate_prints_scores_at_the_networks_own_threshold(
    command: Command, bright: Path, identity_bundle: Path, tmp_path: Path
) -> None:
    """Of the planes that were asked for, whichever part of the volume that is."""
    ran = command(
        "sennet-train", "evaluate", identity_bundle, "--images", bright / "image.tif", "--labels",
        bright / "labels.tif", "--slices", "4:20", "--out", tmp_path / "out", "--quiet",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "at the threshold 0.500, the network's own:" in ran.out
    at = json.loads((tmp_path / "out" / "evaluation.json").read_text())["at"]
    assert f"{at['surface_dice_1']:.4f}" in ran.out
    assert f"{at['recall']:.4f}" in ran.out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--slices": "4-20"}, "--slices: got '4-20', expected two numbers of planes FIRST:END"),
        ({"--slices": "20:4"}, "slices: got [20, 4], expected [first, end]"),
        ({"--axes": "zz"}, "axes"),
        ({"--device": "tpu"}, "device: got 'tpu'"),
        ({"--threshold": "2"}, "thresholds: got [2.0], expected one or more from 0.001 to 0.999"),
        ({"--labels": "nowhere.tif"}, "nowhere.tif"),
    ],
)
def test_options_that_cannot_be_used_end_in_one_line(
    command: Command, bright: Path, identity_bundle: Path, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    """Exit code 2, no traceback, nothing written."""
    options = {"--images": bright / "image.tif", "--labels": bright / "labels.tif", "--out": tmp_path / "out"} | changes
    ran = command("sennet-train", "evaluate", identity_bundle, *(part for item in options.items() for part in item))
    assert ran.code == 2
    assert message in ran.err
    assert ran.err.startswith("error: ")
    assert not (tmp_path / "out" / "probability").exists()
