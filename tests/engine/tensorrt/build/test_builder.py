"""Engines of TensorRT for RTX, really built."""

import hashlib
import logging
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from sennet_engine.engine_file import BuilderOptions, Profile, read_facts
from sennet_engine.errors import ConfigError, ModelError
from sennet_engine.tensorrt.build.precision import WrongPrecisionError
from sennet_engine.tensorrt.build.settings import Batch

from .conftest import attention, convolutions, files, graph_between_uint8_ends

TRACE = 'File "/a/b/site-packages/timm/models/net.py", line 12, in forward\n    x = f(x)'


def with_metadata(content, node_name, key, value):
    model = onnx.ModelProto.FromString(content)
    node = next(node for node in model.graph.node if node.name == node_name)
    node.metadata_props.add(key=key, value=value)
    return model.SerializeToString()


def test_an_engine_and_its_facts_lie_side_by_side(build, tmp_path):
    """The engine has a profile for every tile side, and the facts say what it is, down to its sha256."""
    content, phases = convolutions(), []
    built = build(
        content, sides=(64, 96), batch=Batch(1, 2, 3), on_progress=lambda *progress: phases.append(progress)
    )  # fmt: skip
    assert built.path.name == "model.fp16.rtx-sm80-sm86-sm89-sm120.engine"
    assert files(tmp_path) == ["model.fp16.onnx", built.path.name, built.path.name + ".json"]
    facts = read_facts(built.path)
    assert facts == built.facts
    assert facts.sha256 == hashlib.sha256(built.path.read_bytes()).hexdigest()
    assert facts.identity.onnx_sha256 == hashlib.sha256(content).hexdigest()
    assert facts.identity.product == "tensorrt-rtx"
    assert facts.identity.profiles == [
        Profile(side=side, batch_smallest=1, batch_usual=2, batch_largest=3) for side in (64, 96)
    ]
    assert (facts.precision, facts.inspected, facts.verified) == ("fp16", "network", False)
    assert facts.share_by_precision == {"fp16": 1.0}
    assert facts.layers_by_precision == {"fp16": 3}
    assert any(done == total > 1 for _, done, total in phases)
    assert all(done <= total for _, done, total in phases)


def test_an_engine_for_four_kinds_of_gpu_has_the_size_of_one(build):
    """Weights are stored once; each list of GPUs is an engine of its own, with a name and a key of its own."""
    content = convolutions(channels=128)
    one = build(content, compute_capabilities=("8.6",))
    four = build(content, compute_capabilities=("12.0", "8.9", "8.0", "8.6"))
    assert one.path.name == "model.fp16.rtx-sm86.engine"
    assert four.facts.identity.compute_capabilities == ["8.0", "8.6", "8.9", "12.0"]
    assert four.facts.bytes < 1.1 * one.facts.bytes
    assert one.facts.key != four.facts.key


def test_a_float32_graph_is_never_an_fp16_engine(build, tmp_path):
    """A graph in float32 under the name fp16 is refused with exit code 1 and its largest layers, and leaves nothing."""
    with pytest.raises(WrongPrecisionError, match=r"0\.0% of its multiply-adds in fp16") as refused:
        build(convolutions(precision="fp32"))
    assert "conv1 (convolution, fp32, 88.9%)" in str(refused.value)
    assert refused.value.exit_code == 1
    assert files(tmp_path) == ["model.fp16.onnx"]


def test_an_fp16_graph_is_never_an_fp32_engine(build, tmp_path):
    """The name must be true the other way round as well."""
    with pytest.raises(WrongPrecisionError, match="in fp32"):
        build(convolutions(), precision="fp32")
    assert build(convolutions(precision="fp32"), precision="fp32").facts.share_by_precision == {"fp32": 1.0}


def test_operators_that_are_not_supported_are_all_named(build, tmp_path):
    """Each with its node, its operator and the source line that its metadata tells of, whoever wrote it."""
    nodes = [
        helper.make_node("Det", ["x"], ["a"], name="first"),
        helper.make_node("StringNormalizer", ["a"], ["y"], name="second"),
    ]
    content = with_metadata(graph_between_uint8_ends(nodes, {}), "first", "pkg.torch.onnx.stack_trace", TRACE)
    content = with_metadata(content, "second", "sennet.source", "timm/layers/odd.py:3 in forward")
    with pytest.raises(ModelError, match=r"model.fp16.onnx: 2 problem\(s\)") as refused:
        build(content)
    assert "first (Det), from timm/models/net.py:12 in forward: unsupported node" in str(refused.value)
    assert "second (StringNormalizer), from timm/layers/odd.py:3 in forward" in str(refused.value)
    assert files(tmp_path) == ["model.fp16.onnx"]


def test_what_the_builder_says_is_passed_on_with_the_source_line(build, tmp_path):
    """GPUs of capability 7.5 have no matrix products in float32: the builder's words, and where the node is from."""
    content = attention(blocks=1, precision="fp32")
    for name in ("q_0", "k_0", "v_0", "scores_0", "mix_0"):
        content = with_metadata(content, name, "pkg.torch.onnx.stack_trace", TRACE)
    with pytest.raises(ModelError, match="built no engine") as refused:
        build(content, precision="fp32", sides=(32,), compute_capabilities=("7.5",))
    assert "FP32 GEMM is not supported" in str(refused.value)
    assert "_0 comes from timm/models/net.py:12 in forward" in str(refused.value)
    assert files(tmp_path) == ["model.fp16.onnx"]


def test_a_file_that_is_no_model_of_tiles_is_refused(build):
    """Rubbish, weights elsewhere, and ends that are not uint8 are told apart."""
    with pytest.raises(ModelError, match="Failed to parse"):
        build(b"rubbish")
    model = onnx.ModelProto.FromString(convolutions())
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    with pytest.raises(ModelError, match="tiles FLOAT"):
        build(model.SerializeToString())
    model = onnx.ModelProto.FromString(convolutions())
    model.graph.initializer[1].ClearField("raw_data")
    model.graph.initializer[1].external_data.add(key="location", value="weights.bin")
    model.graph.initializer[1].data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(ModelError, match="weights in other files"):
        build(model.SerializeToString())


def test_a_file_may_tell_which_tiles_overflowed(build):
    """Its second output is taken, and one of another name or rank is not."""

    def with_second(name, shape, reads):
        model = onnx.ModelProto.FromString(convolutions())
        model.graph.node.append(helper.make_node("Cast", [reads], [name], to=onnx.TensorProto.UINT8))
        model.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, shape))
        return model

    watched = with_second("overflowed", ["batch"], "sum")
    watched.graph.initializer.append(numpy_helper.from_array(np.array([1, 2, 3]), "axes"))
    watched.graph.node.insert(
        len(watched.graph.node) - 1, helper.make_node("ReduceL1", ["logits", "axes"], ["sum"], keepdims=0)
    )
    assert build(watched.SerializeToString()).path.stat().st_size > 0
    for name in ("overflowed", "shares"):
        with pytest.raises(ModelError, match=rf"got the ends .*{name} UINT8.*at most overflowed UINT8 \[B\]"):
            build(with_second(name, ["batch", 1, "h", "w"], "rounded").SerializeToString())


def test_fixed_shapes_are_kept(build):
    """A graph for one tile side and one batch is built for them alone, and says what to ask for instead."""
    content = convolutions(size=(2, 1, 64, 64))
    with pytest.raises(ConfigError, match="take --tile 64"):
        build(content, sides=(64, 96), batch=Batch(2, 2, 2))
    with pytest.raises(ConfigError, match="take --batch 2,2,2"):
        build(content, batch=Batch(1, 2, 4))
    fixed = build(content, batch=Batch(2, 2, 2)).facts
    assert fixed.multiply_adds == build(convolutions()).facts.multiply_adds


def test_a_gpu_that_cannot_be_built_for_is_refused(build, tmp_path):
    """With those that can; nothing is built."""
    with pytest.raises(ConfigError, match=r"got 3.5, expected some of 7.5, 8.0"):
        build(convolutions(), compute_capabilities=("8.6", "3.5"))
    with pytest.raises(ConfigError, match="each once"):
        build(convolutions(), sides=(64, 64))


def test_options_change_the_engine_and_its_key(build):
    """Layers left in float32 are computed as such unless TF32 is asked for; too little memory is an error."""
    content = convolutions(precision="fp32")
    ieee = build(content, precision="fp32")
    tf32 = build(content, precision="fp32", options=BuilderOptions(float32="tf32"))
    assert ieee.facts.sha256 != tf32.facts.sha256
    assert ieee.facts.key != tf32.facts.key
    with pytest.raises(ModelError, match="built no engine"):
        build(convolutions(channels=64), sides=(512,), options=BuilderOptions(workspace_mb=1))


def test_rtx_says_that_it_keeps_no_timings(build, tmp_path, caplog):
    """A timing cache is named, not used and not written."""
    with caplog.at_level(logging.WARNING):
        build(convolutions(), timing_cache=tmp_path / "timings")
    assert "has no timing cache" in caplog.text
    assert not (tmp_path / "timings").exists()


def test_a_full_disk_leaves_nothing(build, tmp_path, monkeypatch):
    """The error of the process that writes the engine arrives as the operating system's own."""

    class OnFullDisk(tempfile.TemporaryDirectory):
        def __enter__(self):
            folder = super().__enter__()
            Path(folder, "engine").symlink_to("/dev/full")
            return folder

    monkeypatch.setattr(tempfile, "TemporaryDirectory", OnFullDisk)
    with pytest.raises(OSError, match="No space left on device"):
        build(convolutions())
    assert files(tmp_path) == ["model.fp16.onnx"]


def test_the_multiply_adds_are_those_of_the_layers(build):
    """Counted by hand for a grouped, a transposed and a plain convolution, a matrix product and an Einsum."""
    half = np.float16
    weights = {
        "w0": np.zeros((8, 1, 1, 1), half),
        "w1": np.zeros((8, 2, 3, 3), half),
        "w2": np.zeros((8, 4, 2, 2), half),
        "w3": np.zeros((128, 128), half),
        "w4": np.zeros((1, 4, 1, 1), half),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], name="plain"),
        helper.make_node("Conv", ["a", "w1"], ["b"], name="grouped", group=4, pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["b", "w2"], ["c"], name="transposed", strides=[2, 2]),
        helper.make_node("MatMul", ["c", "w3"], ["d"], name="product"),
        helper.make_node("Einsum", ["d", "d"], ["e"], name="einsum", equation="bchw,bckw->bchk"),
        helper.make_node("Conv", ["e", "w4"], ["f"], name="last"),
        helper.make_node("AveragePool", ["f"], ["y"], name="halve", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    facts = build(graph_between_uint8_ends(nodes, weights, size=("batch", 1, 64, 64))).facts
    pixels = 64 * 64
    counts = [8, 8 * 2 * 9, 8 * 4 * 4, 4 * 4 * 128, 4 * 4 * 128, 4 * 4]
    assert facts.multiply_adds == pixels * sum(counts)
    assert facts.layers_by_precision == {"fp16": 6}


def test_quantised_layers_are_counted_by_what_surrounds_them(build):
    """A convolution is int8 where both its inputs come from int8, in half where they do not."""
    half = np.float16
    weights = {
        "w0": np.ones((8, 1, 3, 3), half),
        "w1": np.ones((8, 8, 3, 3), np.int8),
        "w2": np.ones((1, 8, 1, 1), half),
        "scale": half(0.1),
        "zero": np.int8(0),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("QuantizeLinear", ["a", "scale", "zero"], ["aq"], name="q"),
        helper.make_node("DequantizeLinear", ["aq", "scale", "zero"], ["ad"], name="dq"),
        helper.make_node("DequantizeLinear", ["w1", "scale", "zero"], ["wd"], name="dq_weights"),
        helper.make_node("Conv", ["ad", "wd"], ["b"], name="middle", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["b", "w2"], ["y"], name="last"),
    ]
    content = graph_between_uint8_ends(nodes, weights)
    model = onnx.ModelProto.FromString(content)
    model.opset_import[0].version = 19  # the first whose scales may be in half
    facts = build(model.SerializeToString(), precision="int8").facts
    assert facts.layers_by_precision == {"int8": 1, "fp16": 2}
    assert facts.share_by_precision["int8"] == pytest.approx(8 * 72 / (72 + 8 * 72 + 8))
    with pytest.raises(WrongPrecisionError, match="middle"):
        build(model.SerializeToString(), precision="fp16")
