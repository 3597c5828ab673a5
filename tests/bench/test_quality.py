"""`sennet-bench quality`."""

import json

import numpy as np
import pytest
import tifffile


@pytest.fixture
def volume(tmp_path):
    """A volume whose bright voxels are the labels, with other bright voxels that are called veins."""
    draw = np.random.default_rng(0)
    labels = draw.random((3, 64, 64)) < 0.1
    veins = (draw.random((3, 64, 64)) < 0.1) & ~labels
    folder = tmp_path / "volume"
    folder.mkdir()
    tifffile.imwrite(folder / "image.tif", (labels | veins).astype(np.uint8) * 255, photometric="minisblack")
    tifffile.imwrite(folder / "labels.tif", labels.astype(np.uint8), photometric="minisblack")
    tifffile.imwrite(folder / "veins.tif", veins.astype(np.uint8), photometric="minisblack")
    return folder


def test_a_model_is_scored_beside_the_baseline_and_against_the_veins(command, volume, identity_bundle):
    """A model that marks all that is bright finds every artery, and as many veins."""
    ran = command("sennet-bench", "quality", volume, "--model", identity_bundle, "--json")
    assert ran.code == 0, ran.err
    model, baseline = json.loads(ran.out)
    assert (model["method"], baseline["method"]) == ("identity", "dark blobs")
    assert model["recall"] == 1
    assert model["vein_precision"] == pytest.approx(0.1 / 0.19, abs=0.03)
    assert model["precision"] == model["vein_precision"]


def test_the_table_has_a_row_for_each_method(command, volume, identity_bundle):
    """Without veins their column is empty."""
    (volume / "veins.tif").unlink()
    ran = command("sennet-bench", "quality", volume, "--model", identity_bundle)
    rows = ran.out.splitlines()
    assert len(rows) == 4
    assert rows[2].endswith("– |")


def test_a_folder_without_labels_is_refused(command, volume, identity_bundle):
    """The error names the file that is missing."""
    (volume / "labels.tif").unlink()
    ran = command("sennet-bench", "quality", volume, "--model", identity_bundle)
    assert ran.code == 2
    assert "labels.tif" in ran.err
