"""`sennet-infer` leaves out background, and answers within the organ as if it had not."""

import re

import numpy as np
import pytest
import tifffile

from sennet_engine.survey.occupancy import surveyed_occupancy
from sennet_engine.volumes.volume import ArrayVolume
from sennet_engine.window import surveyed_window


@pytest.fixture
def scan(write_volume, organ):
    """The organ as a file."""
    return write_volume(organ, "scan.tif")


@pytest.fixture
def occupancy(organ):
    """The cells that the survey calls occupied."""
    volume = ArrayVolume(organ, voxel_size_um=(50.0, 50.0, 50.0))
    return surveyed_occupancy(volume, surveyed_window(volume))


@pytest.fixture
def may_hold_organ(occupancy):
    """[Z, Y, X]: their voxels."""
    return np.stack([occupancy.voxels_of_plane("z", z) for z in range(occupancy.shape_zyx[0])])


@pytest.fixture
def infer(command, scan, summary):
    """Run it on the scan; its probabilities 0..255, its summary and what it printed."""

    def run(model, *options, out):
        out = scan.with_name(out)
        ran = command(
            "sennet-infer", scan, "--model", model, "--out", out, "--probability", "--runtime", "onnxruntime", *options
        )
        assert ran.code == 0, ran.err
        return tifffile.imread(out / "probability.tif"), summary(out), ran.out

    return run


def test_skipping_changes_nothing_within_occupied_cells(infer, identity_bundle, organ, occupancy, may_hold_organ):
    """Elsewhere the probability is 0, and no voxel of the organ is there; --no-skip computes everything."""
    skipped, told, _ = infer(identity_bundle, out="skipped")
    whole, told_whole, _ = infer(identity_bundle, "--no-skip", out="whole")
    assert (skipped == np.where(may_hold_organ, whole, 0)).all()
    assert (whole[~may_hold_organ] > 0).any()
    assert (organ[~may_hold_organ] < 100).all()
    assert told["skipped_share"] == pytest.approx(1 - occupancy.share)
    assert 0.5 < told["skipped_share"] < 0.9
    assert any("of the volume is background and left out" in line for line in told["plan"])
    assert told_whole["skipped_share"] == 0
    assert any("nothing is left out, as --no-skip asks for" in line for line in told_whole["plan"])


def test_a_network_that_looks_around_is_within_its_tolerance(infer, strided_bundle, may_hold_organ):
    """Tiles packed around the organ answer there as whole planes do, to the card's one grey level."""
    skipped, _, _ = infer(strided_bundle, out="skipped")
    whole, _, _ = infer(strided_bundle, "--no-skip", out="whole")
    assert np.abs(skipped.astype(int) - whole)[may_hold_organ].max() <= 1
    assert np.ptp(whole[may_hold_organ]) > 20
    assert not skipped[~may_hold_organ].any()


def test_a_sample_of_the_background_is_audited(infer, identity_bundle, organ, may_hold_organ):
    """The summary and the last lines say what was found: none at a usual threshold, nearly all at one below the gel."""
    _, told, printed = infer(identity_bundle, out="usual")
    assert told["audit"]["tiles"] >= 1
    assert 0 < told["audit"]["voxels"] < np.count_nonzero(~may_hold_organ)
    assert told["audit"]["vessel_voxels"] == 0
    assert "computed after all none would have been vessel, highest probability 0." in printed
    _, told, printed = infer(identity_bundle, "--window", "0,255", "--threshold", 50 / 255, out="low")
    found, looked_at = told["audit"]["vessel_voxels"], told["audit"]["voxels"]
    assert found > 0.99 * looked_at
    assert f"computed after all {found:,} would have been vessel" in printed
    levels = np.unique(organ[~may_hold_organ])
    assert 60 < round(255 * told["audit"]["highest_probability"]) <= levels.max()


def test_without_background_there_is_no_audit(infer, identity_bundle):
    """Nothing was left out."""
    _, told, printed = infer(identity_bundle, "--no-skip", out="whole")
    assert told["audit"] is None
    assert "audit" not in printed


def test_only_the_tiles_around_the_organ_are_computed(infer, strided_bundle, may_hold_organ):
    """Halo and all, fewer than half of the pixels of whole planes go through the network, but none of an organ less."""
    _, told, _ = infer(strided_bundle, out="skipped")
    (line,) = (line for line in told["plan"] if line.startswith("strided z: "))
    computed, plane = (float(part) for part in re.search(r"([\d.]+) Mpixel for a plane of ([\d.]+)", line).groups())
    assert plane == pytest.approx(0.4 * 0.416, abs=0.01)
    assert may_hold_organ[0].mean() * plane <= computed < plane / 2
