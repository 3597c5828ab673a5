"""`sennet-export --fp16 --int8`: further precisions of a bundle, each held to the fp32 file by the gate."""

import hashlib
import json
import sys

import numpy as np
import onnx
import pytest
import tifffile
from onnx import numpy_helper

from sennet_engine.bundle import open_bundle
from sennet_trainer.phantom import PhantomSettings, make_phantom


@pytest.fixture(scope="module")
def planes(tmp_path_factory):
    """Four planes of a phantom as large as a tile, so that a plane is a tile."""
    path = tmp_path_factory.mktemp("planes") / "planes.tif"
    phantom = make_phantom(PhantomSettings(shape_zyx=(4, 128, 128), kidney=2, seed=11))
    tifffile.imwrite(path, phantom.image, photometric="minisblack")
    return path


def rewritten(bundle, change):
    """Let `change` edit the weights of the bundle's graph, by name, and mend its card."""
    path = bundle / "model.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = change.get(tensor.name)
        if values is not None:
            tensor.CopyFrom(numpy_helper.from_array(values(numpy_helper.to_array(tensor)), tensor.name))
    path.write_bytes(model.SerializeToString())
    card = json.loads((bundle / "model.json").read_text())
    content = path.read_bytes()
    card["files"]["model.onnx"] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (bundle / "model.json").write_text(json.dumps(card))


def probabilities(command, planes, bundle, out, *options):
    ran = command(
        "sennet-infer", planes, "--model", bundle, "--out", out, "--tile", 128, "--voxel-size", 50, "--probability",
        *options,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    return tifffile.imread(out / "probability.tif").astype(int), tifffile.imread(out / "mask.tif")


def test_each_precision_gives_the_mask_of_fp32_within_what_the_card_states(command, strided_bundle, planes, tmp_path):
    """On the calibration planes, on both runtimes: differences and flipped pixels are at most those of the card."""
    out = tmp_path / "all.model"
    ran = command(
        "sennet-export", strided_bundle, "--out", out, "--fp16", "--int8", "--target", "openvino", "--gate", 0.2,
        "--calibration", planes,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    expected, mask = probabilities(command, planes, out, tmp_path / "fp32")
    for precision in ("fp16", "int8"):
        entry = open_bundle(out).card.files[f"model.{precision}.onnx"]
        assert f"model.{precision}.onnx" in ran.out
        assert entry.bytes < open_bundle(out).card.files["model.onnx"].bytes or precision == "int8"
        for runtime in ("onnxruntime", "openvino"):
            options = ["--precision", precision, "--runtime", runtime]
            found, found_mask = probabilities(command, planes, out, tmp_path / f"{precision}-{runtime}", *options)
            assert np.abs(found - expected).max() <= entry.parity.largest_difference
            assert np.mean(found_mask != mask) <= entry.parity.flipped_share
            assert (
                json.loads((tmp_path / f"{precision}-{runtime}" / "summary.json").read_text())["precision"] == precision
            )
    assert open_bundle(out).card.files["model.int8.onnx"].parity.largest_difference > 0


def test_a_bundle_written_into_itself_keeps_what_it_has(command, strided_bundle):
    """The second precision comes beside the first; files that are not made anew keep their bytes."""
    before = (strided_bundle / "model.onnx").read_bytes()
    assert command("sennet-export", strided_bundle, "--fp16", "--target", "onnx").code == 0
    half = (strided_bundle / "model.fp16.onnx").read_bytes()
    assert command("sennet-export", strided_bundle, "--int8", "--gate", 0.2).code == 0
    assert sorted(open_bundle(strided_bundle).card.files) == [
        "golden.npz", "model.fp16.onnx", "model.int8.onnx", "model.onnx"
    ]  # fmt: skip
    sides = open_bundle(strided_bundle).card.tiling.engine_sides
    with np.load(strided_bundle / "golden.npz") as golden:  # engines may be built by whoever runs the bundle
        assert set(golden) == {f"{name}_{side}" for name in ("tiles", "probabilities") for side in sides}
    assert (strided_bundle / "model.onnx").read_bytes() == before
    assert (strided_bundle / "model.fp16.onnx").read_bytes() == half


def test_a_gate_that_nothing_passes_writes_nothing(command, strided_bundle, tmp_path):
    """Exit code 1, the trials in the message, the bundle as it was."""
    before = {path.name: path.read_bytes() for path in strided_bundle.iterdir()}
    ran = command("sennet-export", strided_bundle, "--int8", "--gate", 0)
    assert ran.code == 1
    assert "no graph passed" in ran.err
    assert "surface Dice" in ran.err
    assert {path.name: path.read_bytes() for path in strided_bundle.iterdir()} == before
    assert list(tmp_path.iterdir()) == [strided_bundle]


def test_a_network_beyond_half_keeps_its_overflowing_layers_in_float(command, strided_bundle, planes, tmp_path):
    """Activations of 1e6 that are scaled back later: the file passes, and the card says what stays in float and why."""
    rewritten(strided_bundle, {"w1": lambda weight: weight * 1e6, "w2": lambda weight: weight * 1e-6})
    ran = command("sennet-export", strided_bundle, "--fp16", "--target", "onnx", "--calibration", planes)
    assert ran.code == 0, ran.err
    entry = open_bundle(strided_bundle).card.files["model.fp16.onnx"]
    assert entry.largest_activation > 65504
    assert any("reaches" in reason or "half" in reason for reason in entry.kept)
    model = onnx.load(strided_bundle / "model.fp16.onnx")
    types = {tensor.name.split("_")[0]: tensor.data_type for tensor in model.graph.initializer}
    assert types["w1"] == onnx.TensorProto.FLOAT
    assert types["w3"] == onnx.TensorProto.FLOAT16


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "rtx", "--tile", 2**30], "48, 64, 96, 128"),
        (["--int8", "--tile", 48], "tiles of engines"),
        (["--int8", "--halo-tolerance", 2], "is a bundle"),
        (["--target", "openvino"], "nothing to make of it"),
        (["--gate", 0.1], "add --fp16 or --int8"),
        (["--int8", "--gpu", "8.6"], "--gpu: is for engines"),
        (["--target", "cuda"], "onnx, openvino, rtx, tensorrt"),
        (["--target", "tensorrt"], "--target rtx"),
        (["--target", "rtx", "--gpu", "9.9"], "8.6"),
        (["--target", "rtx", "--batch", "4,2,1"], "MIN <= OPT <= MAX"),
        (["--fp16", "--gate", 2], "0 to 1"),
        (["--target", "rtx", "--builder-level", 9], "0 to 5"),
        (["--target", "rtx", "--workspace", 0], "1 to 1048576"),
        (["--target", "rtx", "--workspace", 10**20], "1 to 1048576"),
        (["--out", "bundle"], "bundle.model"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for_is_refused_before_any_work(command, strided_bundle, tmp_path, options, said):
    """Exit code 2, a message that says what could be asked for, and the bundle as it was."""
    before = sorted(path.name for path in strided_bundle.iterdir())
    ran = command("sennet-export", strided_bundle, *options)
    assert ran.code == 2
    assert said in ran.err
    assert sorted(path.name for path in strided_bundle.iterdir()) == before


def test_a_missing_builder_names_the_extra(command, strided_bundle, monkeypatch):
    """Without TensorRT for RTX --fp16 says what to install, before any work."""
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    ran = command("sennet-export", strided_bundle, "--fp16")
    assert ran.code == 2
    assert "pip install 'sennet[rtx]'" in ran.err


def test_a_precision_that_a_bundle_lacks_names_the_command(command, strided_bundle, planes, tmp_path):
    """`--precision int8` on a bundle without it says what it holds and how to make it."""
    ran = command("sennet-infer", planes, "--model", strided_bundle, "--precision", "int8", "--out", tmp_path / "o")
    assert ran.code == 2
    assert "it holds fp32" in ran.err
    assert "sennet-export --int8" in ran.err
    assert command("sennet-infer", planes, "--precision", "fp8", "--out", tmp_path / "o").code == 2


def test_one_model_that_fails_does_not_stop_the_others(command, strided_bundle, tmp_path):
    """Each error names its model; the exit code tells that there was one; the rest is exported."""
    ran = command("sennet-export", tmp_path / "none", strided_bundle, "--fp16", "--target", "onnx")
    assert ran.code == 2
    assert f"error: {tmp_path / 'none'}" in ran.err
    assert "model.fp16.onnx" in open_bundle(strided_bundle).card.files
    ran = command("sennet-export", strided_bundle, strided_bundle, "--out", tmp_path / "both.model")
    assert ran.code == 2
    assert "names one bundle" in ran.err


def test_a_file_that_is_hardly_in_half_does_not_bear_the_name(command, strided_bundle, planes):
    """All three convolutions with weights beyond half stay in float, so nothing would be in half: exit code 1."""
    rewritten(strided_bundle, {name: lambda weight: weight * 1e6 for name in ("w0", "w1", "w2", "w3")})
    ran = command("sennet-export", strided_bundle, "--fp16", "--target", "onnx", "--calibration", planes)
    assert ran.code == 1
    assert "0% of its multiply-adds would be in fp16" in ran.err
    assert not (strided_bundle / "model.fp16.onnx").exists()


def test_masks_without_vessels_prove_nothing(command, strided_bundle, planes):
    """Where no pixel reaches the threshold, every file would pass: exit code 1, and what to name instead."""
    card = json.loads((strided_bundle / "model.json").read_text())
    card["threshold"]["value"] = 0.99999
    (strided_bundle / "model.json").write_text(json.dumps(card))
    rewritten(strided_bundle, {"w3": lambda weight: weight * 0.1})
    ran = command("sennet-export", strided_bundle, "--int8", "--calibration", planes)
    assert ran.code == 1
    assert "volume with vessels by --calibration" in ran.err


def test_a_bundle_in_the_folder_of_the_shell(command, strided_bundle, monkeypatch):
    """`sennet-export .` keeps the bundle's name."""
    monkeypatch.chdir(strided_bundle)
    assert command("sennet-export", ".", "--fp16", "--target", "onnx").code == 0
    assert open_bundle(strided_bundle).card.name == "strided"


def test_engines_that_no_longer_fit_are_left_out(command, strided_bundle, planes, tmp_path):
    """An engine goes when its ONNX file is made anew, or when it or its facts were changed; the rest stays, and a
    bundle elsewhere shares no file with the one that it is from.
    """
    options = ["--target", "rtx", "--gpu", 8.6, "--tile", 48]
    assert command("sennet-export", strided_bundle, "--fp16", *options).code == 0
    engine = "model.fp16.rtx-sm86.engine"
    ran = command("sennet-export", strided_bundle, *options, "--out", tmp_path / "more.model")
    assert ran.code == 0, ran.err
    card = open_bundle(tmp_path / "more.model").card
    assert {engine, "model.rtx-sm86.engine"} <= set(card.files)
    assert card.tiling.sides == [48, 64, 96, 128]
    for file in (tmp_path / "more.model").iterdir():
        assert file.stat().st_nlink == 1
    (tmp_path / "more.model" / engine).write_bytes(b"changed")
    ran = command("sennet-export", tmp_path / "more.model", "--fp16", "--target", "onnx", "--gate", 0.5)
    assert ran.code == 0, ran.err
    assert f"{engine}: got sha256" in ran.err
    files = open_bundle(tmp_path / "more.model").card.files
    assert engine not in files
    assert "model.rtx-sm86.engine" in files
    assert not (tmp_path / "more.model" / engine).exists()
    assert (tmp_path / "more.model" / "golden.npz").exists()


def test_a_bundle_shares_no_file_with_its_copy(command, strided_bundle, tmp_path):
    """Neither under the same name in another folder nor under a longer name beside it."""
    (tmp_path / "other").mkdir()
    for out in (tmp_path / "other" / "strided.model", tmp_path / "strided.model.second.model"):
        assert command("sennet-export", strided_bundle, "--out", out, "--fp16", "--target", "onnx").code == 0
        assert all(file.stat().st_nlink == 1 for file in out.iterdir())
