"""`sennet-infer`: what it writes, and that it always writes the same."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
import tifffile
import typer
from scipy import ndimage

from sennet_engine import trial
from sennet_engine.results.rle import mask_from_rle


def test_one_argument_is_enough(command, volume, summary):
    """With nothing but a volume the built-in model writes a mask of its shape and voxel size, a preview, a summary."""
    ran = command("sennet-infer", volume)
    assert ran.code == 0, ran.err
    out = volume.with_name("volume.sennet")
    assert {file.name for file in out.iterdir()} == {"mask.tif", "preview.png", "summary.json"}
    assert not list(volume.parent.glob(".*"))
    with tifffile.TiffFile(out / "mask.tif") as mask:
        assert mask.asarray().shape == (10, 90, 100)
        assert mask.asarray().dtype == np.uint8
        assert set(np.unique(mask.asarray())) <= {0, 255}
        assert 'PhysicalSizeX="50' in mask.ome_metadata
        assert mask.pages[0].compression != 1
    told = summary(out)
    assert told["shape_zyx"] == [10, 90, 100]
    assert told["model"] == "builtin"
    assert told["vessel_voxels"] == np.count_nonzero(tifffile.imread(out / "mask.tif"))
    assert told["stage_seconds"]["compute"] > 0
    assert sum(told["waiting_seconds"]["read"].values()) + told["stage_seconds"]["read"] == pytest.approx(
        told["stage_seconds"]["wall"]
    )
    assert told["planes_resumed"] == 0
    assert str(out / "mask.tif") in ran.out


def test_probability_and_submission_agree_with_the_mask(command, volume, strided_bundle, tmp_path):
    """probability.tif thresholded, and submission.csv decoded, are both the mask."""
    ran = command(
        "sennet-infer", volume, "--model", strided_bundle, "--out", tmp_path / "o", "--probability", "--rle",
        "--threshold", 0.6,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    mask = tifffile.imread(tmp_path / "o" / "mask.tif") > 0
    assert 0.005 < mask.mean() < 0.95
    assert ((tifffile.imread(tmp_path / "o" / "probability.tif").astype(int) * 1000 >= 600 * 255) == mask).all()
    rows = list(csv.DictReader((tmp_path / "o" / "submission.csv").read_text().splitlines()))
    assert [row["id"] for row in rows] == [f"volume_{z:04d}" for z in range(10)]
    for plane, row in zip(mask, rows, strict=True):
        assert (mask_from_rle(row["rle"], plane.shape).astype(bool) == plane).all()


def test_the_files_are_the_same_however_the_work_is_cut(command, volume, strided_bundle, tmp_path, files):
    """Batches of 1 and 4, slabs of 3, 4 and 16 planes, one and two threads: byte for byte the same files."""
    written = []
    ways = (["--threads", 1], ["--batch", 4], ["--slab", 4], ["--slab", 3, "--batch", 3], ["--threads", 2])
    for number, options in enumerate(ways):
        out = tmp_path / str(number)
        ran = command(
            "sennet-infer", volume, "--model", strided_bundle, "--tile", 64, "--out", out, "--runtime", "onnxruntime",
            "--probability", *options,
        )  # fmt: skip
        assert ran.code == 0, ran.err
        written.append(files(out))
    assert all(one == written[0] for one in written[1:])
    assert set(written[0]) == {"mask.tif", "probability.tif", "preview.png"}


def test_small_components_are_removed_across_slabs(command, write_volume, identity_bundle, tmp_path, summary):
    """--min-voxels leaves what scipy leaves of the whole mask, though slabs of 4 planes cut nearly all components."""
    grey = ndimage.gaussian_filter(np.random.default_rng(8).normal(size=(30, 60, 70)), 1.5)
    volume = write_volume((255 * (grey - grey.min()) / np.ptp(grey)).astype(np.uint8))
    masks = []
    for options in ([], ["--min-voxels", 90]):
        out = tmp_path / str(len(masks))
        ran = command(
            "sennet-infer", volume, "--model", identity_bundle, "--out", out, "--slab", 4, "--threshold", 0.7, *options
        )
        assert ran.code == 0, ran.err
        masks.append(tifffile.imread(out / "mask.tif") > 0)
    labels, count = ndimage.label(masks[0], np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())
    small = sizes < 90
    assert 5 < small[1:].sum() < count
    assert (masks[1] == (masks[0] & ~small[labels])).all()
    told = summary(out)
    assert told["min_voxels"] == 90
    assert told["removed_components"] == small[1:].sum()
    assert told["removed_voxels"] == sizes[1:][small[1:]].sum()
    assert told["vessel_voxels"] == masks[1].sum()


def test_an_output_folder_is_replaced_only_when_asked_and_only_if_it_is_ours(
    command, volume, identity_bundle, tmp_path
):
    """--overwrite replaces a finished result, never another folder."""
    arguments = ["sennet-infer", volume, "--model", identity_bundle, "--out", tmp_path / "o"]
    assert command(*arguments).code == 0
    again = command(*arguments)
    assert again.code == 2
    assert "--overwrite" in again.err
    assert command(*arguments, "--overwrite").code == 0
    (tmp_path / "o" / "notes.txt").write_text("mine")
    foreign = command(*arguments, "--overwrite")
    assert foreign.code == 2
    assert "notes.txt" in foreign.err
    assert (tmp_path / "o" / "notes.txt").exists()


def test_names_that_are_not_plain_text_work(command, volume, identity_bundle, summary):
    """Spaces, dots, other alphabets, and bytes that are no UTF-8 end in a result named after the file."""
    for name in ("kidney 5.2um_voi.tif", "niere größe.ome.tif", os.fsdecode(b"latin\xf6.tif")):
        path = volume.with_name(name)
        shutil.copy(volume, path)
        ran = command("sennet-infer", path, "--model", identity_bundle)
        assert ran.code == 0, ran.err
        assert summary(volume.with_name(name.removesuffix(".tif").removesuffix(".ome") + ".sennet"))["tiles"] > 0


@pytest.fixture
def trials(monkeypatch, tmp_path):
    """The file in which trials of this test are remembered, on a machine that has nothing else to do."""
    monkeypatch.setattr(typer, "get_app_dir", lambda name: str(tmp_path / name))
    monkeypatch.setattr(trial.OtherPrograms, "were_busy", lambda _self: False)
    return tmp_path / "sennet" / "trials.json"


def test_the_runtime_is_tried_once_and_then_remembered(command, write_volume, identity_bundle, summary, trials):
    """The first run measures those that are installed and says so; the second one goes by what was found."""
    volume = write_volume(np.arange(40 * 64 * 64, dtype=np.uint16).reshape(40, 64, 64))
    told = []
    for _ in range(2):
        ran = command(
            "sennet-infer", volume, "--model", identity_bundle, "--overwrite", "--threads", 2, "--tile", 64, "--no-skip"
        )
        assert ran.code == 0, ran.err
        told.append(summary(volume.with_name("volume.sennet"))["runtimes"]["identity.model fp32"])
    assert len(json.loads(trials.read_text())["trials"]) == 1
    assert "onnxruntime 1 x 2: " in told[0]
    assert "openvino 1 x 2: " in told[0]
    assert "remembered" not in told[0]
    assert told[1].replace("remembered: ", "") == told[0] != told[1]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_runtime_and_threads_are_those_asked_for(command, volume, identity_bundle, summary, runtime):
    """No other is tried, and one thread is one thread."""
    ran = command("sennet-infer", volume, "--model", identity_bundle, "--runtime", runtime, "--threads", 1)
    assert ran.code == 0, ran.err
    (told,) = summary(volume.with_name("volume.sennet"))["runtimes"].values()
    assert told.startswith(f"{runtime} ")
    assert "1 calls at a time on 1 threads each" in told
