"""`sennet-infer`: what it writes, that it always writes the same, and how it refuses what it cannot use."""

import csv
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
import tifffile

from sennet_engine.rle import mask_from_rle

STACK = np.random.default_rng(2).integers(0, 65536, (10, 90, 100), dtype=np.uint16)
OME = {"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 50.0, "PhysicalSizeY": 50.0, "PhysicalSizeZ": 50.0}}


@pytest.fixture
def volume(tmp_path):
    """A small OME-TIFF with a voxel size."""
    tifffile.imwrite(tmp_path / "volume.tif", STACK, **OME)
    return tmp_path / "volume.tif"


def test_one_argument_is_enough(command, volume):
    """With nothing but a volume the built-in model writes a mask of its shape and voxel size, a preview, a summary."""
    ran = command("sennet-infer", volume)
    assert ran.code == 0, ran.err
    out = volume.with_name("volume.sennet")
    assert {file.name for file in out.iterdir()} == {"mask.tif", "preview.png", "summary.json"}
    with tifffile.TiffFile(out / "mask.tif") as mask:
        assert mask.asarray().shape == STACK.shape
        assert mask.asarray().dtype == np.uint8
        assert set(np.unique(mask.asarray())) <= {0, 255}
        assert 'PhysicalSizeX="50' in mask.ome_metadata
        assert mask.pages[0].compression != 1
    summary = json.loads((out / "summary.json").read_text())
    assert summary["shape_zyx"] == [10, 90, 100]
    assert summary["model"] == "builtin"
    assert summary["vessel_voxels"] == np.count_nonzero(tifffile.imread(out / "mask.tif"))
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


def test_the_mask_file_is_the_same_however_the_work_is_cut(command, volume, strided_bundle, tmp_path):
    """Batches of 1 and 4, slabs of 4 and 16 planes, one and two threads: byte for byte the same mask.tif."""
    files = []
    for number, options in enumerate(
        (["--batch", 1, "--slab", 16, "--threads", 1], ["--batch", 4], ["--slab", 4], ["--threads", 2])
    ):
        out = tmp_path / str(number)
        ran = command("sennet-infer", volume, "--model", strided_bundle, "--tile", 64, "--out", out, *options)
        assert ran.code == 0, ran.err
        files.append((out / "mask.tif").read_bytes())
    assert files[0] == files[1] == files[2] == files[3]


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


def test_a_voxel_size_that_training_showed_is_no_surprise(command, volume, identity_bundle):
    """A model that saw 50 µm crops magnified to look like 48 to 92 µm is ready for 63 µm."""
    card = json.loads((identity_bundle / "model.json").read_text())
    (identity_bundle / "model.json").write_text(json.dumps(card | {"shown_voxel_sizes_um": [48.0, 92.0]}))
    ran = command("sennet-infer", volume, "--model", identity_bundle, "--voxel-size", 63.08)
    assert ran.code == 0
    assert "warning" not in ran.err
    ran = command("sennet-infer", volume, "--model", identity_bundle, "--voxel-size", 200, "--overwrite")
    assert "trained for 48 to 92 µm" in ran.err


def test_a_voxel_size_unlike_the_models_is_said(command, volume, identity_bundle):
    """Voxels of another size than the model was trained for give a warning, and it stays in the summary."""
    ran = command("sennet-infer", volume, "--model", identity_bundle, "--voxel-size", 63.08)
    assert ran.code == 0
    assert "63.08" in ran.err
    summary = json.loads((volume.with_name("volume.sennet") / "summary.json").read_text())
    assert summary["voxel_size_um"] == [63.08, 63.08, 63.08]
    assert len(summary["warnings"]) == 1


def no_such_file(folder):
    """No file there."""
    return [folder / "nothing.tif"], "no such file"


def not_an_image(folder):
    """A text file with an image's suffix."""
    (folder / "text.tif").write_text("hello")
    return [folder / "text.tif"], "not a readable TIFF"


def truncated(folder):
    """The second half of the file is missing."""
    tifffile.imwrite(folder / "cut.tif", STACK, compression="zlib")
    content = (folder / "cut.tif").read_bytes()
    (folder / "cut.tif").write_bytes(content[: len(content) // 2])
    return [folder / "cut.tif"], "copy it again"


def damaged_in_the_middle(folder):
    """The file is complete, but some bytes of a plane's data are not what they were."""
    tifffile.imwrite(folder / "hit.tif", STACK, compression="zlib")
    content = bytearray((folder / "hit.tif").read_bytes())
    middle = len(content) * 9 // 20
    content[middle : middle + 400] = bytes(400)
    (folder / "hit.tif").write_bytes(content)
    return [folder / "hit.tif", "--model", folder / "identity.model"], "cannot be decoded"


def slices_of_different_shapes(folder):
    """One slice of a folder is smaller."""
    (folder / "slices").mkdir()
    tifffile.imwrite(folder / "slices" / "0.tif", STACK[0])
    tifffile.imwrite(folder / "slices" / "1.tif", STACK[0, :50])
    return [folder / "slices"], "expected (90, 100)"


def colour(folder):
    """An RGB image."""
    tifffile.imwrite(folder / "rgb.tif", np.zeros((50, 60, 3), np.uint8), photometric="rgb")
    return [folder / "rgb.tif"], "colour"


def empty_folder(folder):
    """A folder without slices."""
    (folder / "empty").mkdir()
    return [folder / "empty"], "holds no slices"


def nan(folder):
    """A float volume with a NaN in a plane."""
    stack = STACK.astype(np.float32)
    stack[7, 3, 3] = np.nan
    tifffile.imwrite(folder / "nan.tif", stack)
    return [folder / "nan.tif", "--model", folder / "identity.model"], "plane 7 holds 1 voxel"


def bad_tile(folder):
    """A tile side that the model does not take."""
    return [_volume(folder), "--model", folder / "identity.model", "--tile", 100], "32, 64, 128"


def no_bundle(folder):
    """A model folder without a card."""
    (folder / "no.model").mkdir()
    return [_volume(folder), "--model", folder / "no.model"], "model.json"


def changed_byte(folder):
    """A bundle whose ONNX file differs from its card by one byte."""
    file = folder / "identity.model" / "model.onnx"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    return [_volume(folder), "--model", folder / "identity.model"], "sha256"


def pickle_as_weights(folder):
    """A bundle whose weights are a pickle that would run code, with its right sha256 in the card."""
    model = folder / "identity.model"
    content = pickle.dumps(_Trap(folder / "executed"))
    (model / "weights.safetensors").write_bytes(content)
    _edit_card(model, "weights.safetensors", content)
    return [_volume(folder), "--model", model], "pickle"


def unknown_card_key(folder):
    """A card with a misspelt key."""
    card_file = folder / "identity.model" / "model.json"
    card_file.write_text(card_file.read_text().replace('"threshold"', '"treshold"'))
    return [_volume(folder), "--model", folder / "identity.model"], "did you mean 'threshold'"


def out_that_cannot_be_made(folder):
    """An output folder below a file."""
    return [_volume(folder), "--model", folder / "identity.model", "--out", _volume(folder) / "out"], "cannot be made"


def threshold_out_of_range(folder):
    """A threshold that is no probability."""
    return [_volume(folder), "--model", folder / "identity.model", "--threshold", 1.5], "threshold: got 1.5"


def unknown_runtime(folder):
    """A runtime that there is not."""
    return [_volume(folder), "--model", folder / "identity.model", "--runtime", "caffe"], "onnxruntime, openvino"


def no_threads(folder):
    """Nothing to compute with."""
    return [_volume(folder), "--model", folder / "identity.model", "--threads", 0], "threads: got 0"


def far_too_many_threads(folder):
    """More threads than a machine survives."""
    return [_volume(folder), "--model", folder / "identity.model", "--threads", 100000], "threads: got 100000"


def not_an_onnx_file(folder):
    """A bundle whose ONNX file is something else, with its right sha256 in the card."""
    model = folder / "identity.model"
    (model / "model.onnx").write_bytes(b"not a graph")
    _edit_card(model, "model.onnx", b"not a graph", kind="onnx")
    return [_volume(folder), "--model", model], "onnxruntime cannot load it"


def weights_in_another_file(folder):
    """A graph whose weights lie in a file that the card does not vouch for."""
    model = folder / "identity.model"
    content = (model / "model.onnx").read_bytes() + b"\x0a\x08location\x12\x05w.bin"
    (model / "model.onnx").write_bytes(content)
    _edit_card(model, "model.onnx", content, kind="onnx")
    return [_volume(folder), "--model", model], "other files"


def tiles_that_the_graph_refuses(folder):
    """A card that offers a side, for a graph that computes another size only."""
    model = folder / "identity.model"
    graph = onnx.load(model / "model.onnx")
    for axis in (2, 3):
        graph.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 48
    content = graph.SerializeToString()
    (model / "model.onnx").write_bytes(content)
    _edit_card(model, "model.onnx", content, kind="onnx")
    return [_volume(folder), "--model", model], "cannot compute tiles of shape"


def threshold_that_is_no_number(folder):
    """Not a number."""
    return [_volume(folder), "--model", folder / "identity.model", "--threshold", "nan"], "threshold: got nan"


MISTAKES = [
    no_such_file, not_an_image, truncated, damaged_in_the_middle, slices_of_different_shapes, colour, empty_folder, nan,
    bad_tile, no_bundle, changed_byte, pickle_as_weights, unknown_card_key, out_that_cannot_be_made,
    threshold_out_of_range, unknown_runtime, no_threads, far_too_many_threads, not_an_onnx_file,
    weights_in_another_file, tiles_that_the_graph_refuses, threshold_that_is_no_number,
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_bad_input_ends_with_one_clear_message_and_nothing_written(command, tmp_path, identity_bundle, mistake):
    """Exit code 2, an error that says what was wrong, no traceback, and no file or folder left behind."""
    arguments, expected = mistake(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    ran = command("sennet-infer", *arguments)
    assert ran.code == 2
    assert expected in ran.err
    assert ran.err.count("error:") == 1
    assert "Traceback" not in ran.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_file_of_the_bundle_is_named(command, volume, identity_bundle):
    """A bundle without its ONNX file is refused before any output is made."""
    (identity_bundle / "model.onnx").unlink()
    ran = command("sennet-infer", volume, "--model", identity_bundle)
    assert ran.code == 2
    assert "model.onnx" in ran.err
    assert not volume.with_name("volume.sennet").exists()


def test_names_that_are_not_plain_text_work(command, volume, identity_bundle):
    """Spaces, dots, other alphabets, and bytes that are no UTF-8 end in a result named after the file."""
    for name in ("kidney 5.2um_voi.tif", "niere größe.ome.tif", os.fsdecode(b"latin\xf6.tif")):
        path = volume.with_name(name)
        shutil.copy(volume, path)
        ran = command("sennet-infer", path, "--model", identity_bundle)
        assert ran.code == 0, ran.err
        out = volume.with_name(name.removesuffix(".tif").removesuffix(".ome") + ".sennet")
        assert json.loads((out / "summary.json").read_text())["tiles"] > 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_run_that_is_ended_leaves_no_result_and_the_next_one_works(command, volume, strided_bundle, number, code):
    """There is no mask under the final name; unless killed outright the run tidies up; the next run works."""
    stack = np.broadcast_to(STACK[:1], (4000, *STACK.shape[1:]))
    tifffile.imwrite(volume, stack, compression="zlib", **OME)
    program = [sys.executable, "-c", "from sennet_engine.cli.infer import main; main()"]
    process = subprocess.Popen([*program, volume, "--model", strided_bundle, "--quiet"], stderr=subprocess.DEVNULL)
    while not list(volume.parent.glob(".volume.sennet.*/mask.tif")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait() == code
    assert not volume.with_name("volume.sennet").exists()
    assert len(list(volume.parent.glob(".volume.sennet.*"))) == (number == signal.SIGKILL)
    tifffile.imwrite(volume, STACK, **OME)
    ran = command("sennet-infer", volume, "--model", strided_bundle)
    assert ran.code == 0
    assert ("was left by a run" in ran.err) == (number == signal.SIGKILL)


def test_a_full_disk_leaves_nothing_behind(command, volume, identity_bundle, monkeypatch):
    """When the disk fills up in the middle, the message says so and the partial folder is gone."""
    import errno

    from sennet_engine.stack_writer import StackWriter

    def full(self, planes):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(StackWriter, "append", full)
    ran = command("sennet-infer", volume, "--model", identity_bundle)
    assert ran.code == 2
    assert f"{volume.parent}/volume.sennet: No space left" in ran.err
    assert not list(volume.parent.glob("volume.sennet*"))


def _volume(folder):
    tifffile.imwrite(folder / "volume.tif", STACK[:1, :40, :40], **OME)
    return folder / "volume.tif"


def _edit_card(model, name, content, kind="weights"):
    import hashlib

    card = json.loads((model / "model.json").read_text())
    sha256 = hashlib.sha256(content).hexdigest()
    card["files"][name] = {"sha256": sha256, "bytes": len(content), "kind": kind}
    (model / "model.json").write_text(json.dumps(card))


class _Trap:
    """Unpickling it makes the folder at `path`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (shutil.copytree, (self.path.parent / "identity.model", self.path))
