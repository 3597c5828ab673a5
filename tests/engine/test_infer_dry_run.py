"""`sennet-infer --dry-run` tells what a run would do and take."""

import re

import pytest


@pytest.fixture
def scan(write_volume, organ):
    """The organ as a file."""
    return write_volume(organ, "scan.tif")


@pytest.fixture
def three_axes(identity_bundle):
    """An ensemble of passes along all axes."""
    path = identity_bundle.with_name("three_axes.toml")
    path.write_text('[[passes]]\nmodel = "identity.model"\naxes = "zyx"\n')
    return path


def told_by(ran):
    """The table of a dry run."""
    assert ran.code == 0, ran.err
    return dict(re.findall(r"^ *([a-z_ ]+?) {2,}(.+)$", ran.out, re.MULTILINE))


def test_it_tells_all_and_writes_nothing(command, scan, identity_bundle, tmp_path):
    """No file or folder appears anywhere, not even the parents of the output."""
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    ran = command("sennet-infer", scan, "--model", identity_bundle, "--dry-run", "--out", tmp_path / "a" / "b" / "out")
    told = told_by(ran)
    assert set(told) >= {"slabs", "tiles", "pixels", "skipped", "work", "time", "memory", "scratch", "output"}
    assert told["slabs"] == "2"
    assert re.fullmatch(r"[1-9]\d?% of what a volume full of organ would take", told["skipped"])
    assert re.fullmatch(r"[\d.]+ s", told["time"])
    assert re.fullmatch(r"[\d.]+ [MG]B", told["memory"])
    assert "of the volume is background and left out" in ran.out
    assert "identity z: " in ran.out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("options", [[], ["--no-skip"], ["--tile", 64, "--slab", 5], ["--voxel-size", 63.08]])
def test_its_counts_are_those_of_the_run(command, scan, identity_bundle, summary, options):
    """Tiles, slabs and the plan's reasons."""
    arguments = ["sennet-infer", scan, "--model", identity_bundle, *options]
    dry = command(*arguments, "--dry-run")
    assert command(*arguments).code == 0
    done = summary(scan.with_name("scan.sennet"))
    assert told_by(dry)["tiles"] == f"{done['tiles']:,}"
    assert told_by(dry)["slabs"] == str(-(-24 // done["slab_planes"]))
    assert all(line in dry.out for line in done["plan"])


def test_three_axes_are_counted(command, scan, three_axes, summary):
    """Slabs and tiles of all axes, and the bricks on the scratch disk."""
    arguments = ["sennet-infer", scan, "--model", three_axes]
    dry = told_by(command(*arguments, "--dry-run"))
    assert command(*arguments).code == 0
    assert dry["tiles"] == f"{summary(scan.with_name('scan.sennet'))['tiles']:,}"
    assert dry["slabs"] == str(1 + 13 + 13)  # of 32 planes, along 24, 400 and 416
    assert float(dry["scratch"].split()[0]) > 10


def test_work_is_told_where_the_card_knows_it(command, volume):
    """As multiply-adds of the tiles, doubled."""
    ran = command("sennet-infer", volume, "--dry-run", "--no-skip")
    assert re.fullmatch(r"[\d.]+ GFLOP", told_by(ran)["work"])


def test_what_a_run_would_refuse_is_refused(refused, scan, identity_bundle):
    """A tile side that the model does not take, and too little memory; with what there is to do."""
    refused([scan, "--model", identity_bundle, "--dry-run", "--tile", 100], "32, 64, 128")
    refused([scan, "--model", identity_bundle, "--dry-run", "--memory", "1MB"], "got 1 MB, expected at least ")
