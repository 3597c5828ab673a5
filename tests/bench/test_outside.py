"""`sennet-bench throughput` and `memory`: what the engine costs beside its networks."""

import json

import numpy as np
import pytest
import tifffile

from sennet_bench.made_bundles import write_identity_bundle, write_small_bundle
from sennet_bench.made_volume import write_made_volume
from sennet_engine.bundle import open_bundle
from sennet_engine.runtimes import open_predictor


def test_throughput_counts_the_voxels_of_the_volume(command, tmp_path):
    """Mvoxel/s follow from the shape and the seconds; the JSON holds each run."""
    ran = command(
        "sennet-bench", "throughput", "--shape", "2,256,256", "--repeats", "2", "--threads", "1",
        "--json", tmp_path / "t.json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    kept = json.loads((tmp_path / "t.json").read_text())
    assert len(kept["seconds"]) == 2
    assert all(0 < one < 60 for one in kept["seconds"])
    assert command("sennet-bench", "table", tmp_path / "t.json").out.strip() == ran.out.strip()


def test_memory_is_measured_for_each_number_of_planes(command, tmp_path):
    """A row for each, with its ratio to the smallest; the peak is that of the engine's process alone."""
    ran = command(
        "sennet-bench", "memory", "--planes", "4", "--planes", "32", "--side", "128", "--threads", "1",
        "--json", tmp_path / "m.json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    kept = json.loads((tmp_path / "m.json").read_text())
    assert kept["planes"] == [4, 32]
    assert kept["largest_ratio"] == max(kept["peak_mb"]) / min(kept["peak_mb"])
    assert all(40 < peak < 400 for peak in kept["peak_mb"])
    assert "| 32 | 1 |" in ran.out
    assert command("sennet-bench", "table", tmp_path / "m.json").out.strip() == ran.out.strip()


@pytest.mark.parametrize("arguments", [["throughput", "--repeats", "0"], ["memory", "--side", "0"]])
def test_numbers_below_one_are_refused(command, arguments):
    """Exit code 2 and the expectation."""
    ran = command("sennet-bench", *arguments)
    assert ran.code == 2
    assert "of 1 or more" in ran.err or "expected 1 or more" in ran.err


def test_the_made_volume_holds_an_organ_with_vessels(tmp_path):
    """40 % of it is organ, about half a percent of that vessel, and no two planes are alike."""
    stack = tifffile.imread(write_made_volume(tmp_path / "volume.tif", (3, 480, 640)))
    assert np.mean(stack > 65) == pytest.approx(0.4, abs=0.01)
    assert 0.0005 < np.mean(stack > 200) < 0.01
    assert not np.array_equal(stack[0], stack[1])


@pytest.mark.parametrize(("write", "levels"), [(write_identity_bundle, 0), (write_small_bundle, 1)])
def test_made_bundles_answer_with_the_grey_level(tmp_path, write, levels):
    """Of a plane of one level, away from its edge."""
    tiles = np.full((1, 1, 256, 256), 200, np.uint8)
    with open_predictor(open_bundle(write(tmp_path / "made.model")), threads=1) as predictor:
        answer = predictor.predict(tiles)[0, 0, 4:-4, 4:-4].astype(int)
    assert np.abs(answer - 200).max() <= levels
