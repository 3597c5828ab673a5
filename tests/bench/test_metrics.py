"""`sennet-bench metrics`."""

import json
import sys

import pytest

SMALL = ["--shape", "16,64,80", "--repeats", "3"]


def test_both_implementations_agree(command):
    """Scores within 1e-6, of masks that overlap in part; each implementation with its version and all its times."""
    ran = command("sennet-bench", "metrics", *SMALL, "--json")
    assert ran.code == 0, ran.err
    facts = json.loads(ran.out)
    assert facts["shape_zyx"] == [16, 64, 80]
    assert 0.004 < facts["true_share"] < 0.012
    ours, theirs = facts["contenders"]
    assert (ours["name"], theirs["name"]) == ("sennet", "surface-distance")
    assert 0.2 < ours["surface_dice_0"] < 0.99
    assert ours["surface_dice_0"] == pytest.approx(theirs["surface_dice_0"], abs=1e-6)
    assert facts["score_difference"] < 1e-6
    for contender in (ours, theirs):
        assert contender["version"]
        assert len(contender["seconds"]) == 3
        assert contender["median_seconds"] == sorted(contender["seconds"])[1]
    assert facts["times_faster"] == pytest.approx(theirs["median_seconds"] / ours["median_seconds"])
    assert facts["processors"] >= 1
    assert set(facts["versions"]) == {"python", "numpy", "scipy"}


def test_the_report_is_a_table_with_its_circumstances(command):
    """A row for each implementation, then the ratio, the difference, the shape and the versions."""
    ran = command("sennet-bench", "metrics", *SMALL)
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert [line.split("|")[1].split()[0] for line in lines[2:4]] == ["sennet", "surface-distance"]
    assert "times faster" in lines[5]
    assert lines[6].startswith("16 × 64 × 80 voxels")
    assert "numpy" in lines[6]


def test_without_the_package_the_error_names_the_extra(command, monkeypatch):
    """Exit code 2 and how to install it."""
    monkeypatch.setitem(sys.modules, "surface_distance", None)
    ran = command("sennet-bench", "metrics", *SMALL)
    assert ran.code == 2
    assert "pip install 'sennet[dev]'" in ran.err


@pytest.mark.parametrize("options", [["--shape", "16,64"], ["--shape", "0,64,64"], ["--repeats", "0"]])
def test_bad_values_end_in_one_clear_line(command, options):
    """Exit code 2, and what was expected."""
    ran = command("sennet-bench", "metrics", *options)
    assert ran.code == 2
    assert "expected" in ran.err
    assert len(ran.err.strip().splitlines()) == 1
