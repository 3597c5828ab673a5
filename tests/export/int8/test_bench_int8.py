"""`sennet-bench int8`: both files in turns, with their quality beside their speed."""

import json

import onnx
import pytest

from sennet_engine.bundle import BUILTIN
from sennet_export.calibration import phantom_calibration
from sennet_export.int8.convert import int8_from_onnx


@pytest.fixture(scope="module")
def int8_file(tmp_path_factory):
    """The built-in model in integers."""
    made = int8_from_onnx(
        onnx.load(BUILTIN / "model.onnx"), tiles=phantom_calibration().squares(192), judge=lambda _model: None
    )
    path = tmp_path_factory.mktemp("int8") / "model.int8.onnx"
    path.write_bytes(made.model.SerializeToString())
    return path


def test_two_files_are_compared_on_both_runtimes(command, int8_file):
    """JSON has every time, the ratio of the medians, the difference of the answers and the circumstances."""
    options = ["--side", 192, "--repeats", 3, "--json"]
    ran = command("sennet-bench", "int8", BUILTIN / "model.onnx", int8_file, *options)
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    assert [one["runtime"].split()[0] for one in found["runtimes"]] == ["onnxruntime", "openvino"]
    for one in found["runtimes"]:
        fp32, int8 = sorted(one["fp32_seconds"])[1], sorted(one["int8_seconds"])[1]
        assert one["times_faster"] == pytest.approx(fp32 / int8)
        assert 0 < one["mean_difference"] < 1
        assert one["flipped_share"] < 1e-2
    assert (found["side"], found["threads"]) == (192, 1)
    assert "seed" in found["tiles"]
    assert {"onnxruntime", "openvino"} <= found["versions"].keys()


def test_the_table_has_a_row_for_each_runtime(command, int8_file):
    """With the ratio, and below it what it was measured on."""
    ran = command("sennet-bench", "int8", BUILTIN / "model.onnx", int8_file, "--side", 192, "--repeats", 1)
    assert ran.code == 0, ran.err
    assert "times faster" in ran.out
    assert "| openvino" in ran.out
    assert "tiles of 192 pixels" in ran.out


def test_a_bundle_without_int8_is_refused(command, strided_bundle):
    """With what it holds, and how to get int8."""
    ran = command("sennet-bench", "int8", strided_bundle)
    assert ran.code == 2
    assert "--int8" in ran.err


def test_what_is_no_pair_of_models_is_refused(command, int8_file, tmp_path):
    """One file alone, a file that is not there, one that is no model, and numbers below 1: exit code 2."""
    fp32 = BUILTIN / "model.onnx"
    assert "two ONNX files" in command("sennet-bench", "int8", int8_file).err
    assert "none.onnx" in command("sennet-bench", "int8", fp32, tmp_path / "none.onnx").err
    (tmp_path / "text.onnx").write_text("no model")
    ran = command("sennet-bench", "int8", fp32, tmp_path / "text.onnx")
    assert ran.code == 2
    assert "text.onnx" in ran.err
    ran = command("sennet-bench", "int8", fp32, int8_file, "--repeats", 0)
    assert ran.code == 2
    assert "0 repeats" in ran.err
