"""Small graphs with uint8 ends, and building an engine of one as the exporter does."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

TYPES = {"fp16": TensorProto.FLOAT16, "fp32": TensorProto.FLOAT}
Graph = Callable[..., bytes]


def files(folder: Path) -> list[str]:
    """Names of what lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def _nothing(*_: object) -> None:
    """Takes progress and shows nothing."""


def graph_between_uint8_ends(
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    *,
    precision: str = "fp16",
    size: Sequence[object] = ("batch", 1, "h", "w"),
) -> bytes:
    """An ONNX file with `nodes` from the tensor `x`, of `precision`, to the tensor `y`, of any float type."""
    framed = [
        helper.make_node("Cast", ["tiles"], ["x"], name="door", to=TYPES[precision]),
        *nodes,
        helper.make_node("Cast", ["y"], ["logits"], name="up", to=TensorProto.FLOAT),
        helper.make_node("Sigmoid", ["logits"], ["probability"], name="sigmoid"),
        helper.make_node("Mul", ["probability", "levels"], ["scaled"], name="scaled"),
        helper.make_node("Round", ["scaled"], ["rounded"], name="round"),
        helper.make_node("Cast", ["rounded"], ["probabilities"], name="end", to=TensorProto.UINT8),
    ]
    values = {"levels": np.float32(255), **weights}
    graph = helper.make_graph(
        framed, "test",
        [helper.make_tensor_value_info("tiles", TensorProto.UINT8, size)],
        [helper.make_tensor_value_info("probabilities", TensorProto.UINT8, size)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def convolutions(
    *, precision: str = "fp16", channels: int = 16, size: Sequence[object] = ("batch", 1, "h", "w")
) -> bytes:
    """Three convolutions: 1 to `channels`, `channels` to `channels`, to 1; 3 x 3 each."""
    draw = np.random.default_rng(1)
    dtype = {"fp16": np.float16, "fp32": np.float32}[precision]
    counts = [1, channels, channels, 1]
    weights = {f"w{i}": draw.normal(0, 0.1, (counts[i + 1], counts[i], 3, 3)).astype(dtype) for i in range(3)}
    names = ["x", "a", "b", "y"]
    nodes = [
        helper.make_node("Conv", [names[i], f"w{i}"], [names[i + 1]], name=f"conv{i}", pads=[1, 1, 1, 1])
        for i in range(3)
    ]
    return graph_between_uint8_ends(nodes, weights, precision=precision, size=size)


def attention(*, blocks: int, side: int = 32, precision: str = "fp16", channels: int = 16) -> bytes:
    """`blocks` attentions over the pixels of a tile: few bytes, and hundreds of them take a builder half a minute."""
    draw = np.random.default_rng(2)
    dtype = {"fp16": np.float16, "fp32": np.float32}[precision]
    weights: dict[str, np.ndarray] = {
        "w_in": draw.normal(size=(channels, 1, 1, 1)).astype(dtype),
        "w_out": draw.normal(size=(1, channels, 1, 1)).astype(dtype),
        "flat": np.array([0, channels, -1]),
        "square": np.array([0, channels, side, side]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w_in"], ["in"], name="in"),
        helper.make_node("Reshape", ["in", "flat"], ["pixels"], name="flat"),
        helper.make_node("Transpose", ["pixels"], ["t0"], name="rows", perm=[0, 2, 1]),
    ]
    for i in range(blocks):
        for part in "qkv":
            weights[f"w_{part}{i}"] = draw.normal(0, channels**-0.5, (channels, channels)).astype(dtype)
            nodes.append(helper.make_node("MatMul", [f"t{i}", f"w_{part}{i}"], [f"{part}{i}"], name=f"{part}_{i}"))
        nodes += [
            helper.make_node("Transpose", [f"k{i}"], [f"kt{i}"], name=f"turn_{i}", perm=[0, 2, 1]),
            helper.make_node("MatMul", [f"q{i}", f"kt{i}"], [f"s{i}"], name=f"scores_{i}"),
            helper.make_node("Softmax", [f"s{i}"], [f"p{i}"], name=f"softmax_{i}", axis=-1),
            helper.make_node("MatMul", [f"p{i}", f"v{i}"], [f"m{i}"], name=f"mix_{i}"),
            helper.make_node("Add", [f"m{i}", f"t{i}"], [f"t{i + 1}"], name=f"add_{i}"),
        ]
    nodes += [
        helper.make_node("Transpose", [f"t{blocks}"], ["columns"], name="columns", perm=[0, 2, 1]),
        helper.make_node("Reshape", ["columns", "square"], ["map"], name="square"),
        helper.make_node("Conv", ["map", "w_out"], ["y"], name="out"),
    ]
    return graph_between_uint8_ends(nodes, weights, precision=precision, size=("batch", 1, side, side))


@pytest.fixture
def build(tmp_path: Path):
    """Write `content` as `name` into a folder of its own and build its engine there; settings as `BuildSettings`."""
    from sennet_engine.tensorrt.build.builder import build_engine
    from sennet_engine.tensorrt.build.settings import BuildSettings

    def built(content: bytes, *, name="model.fp16.onnx", precision="fp16", sides=(64,), on_progress=_nothing, **asked):
        (tmp_path / name).write_bytes(content)
        settings = BuildSettings(precision=precision, sides=sides, **asked)
        return build_engine(tmp_path / name, tmp_path, target="rtx", settings=settings, on_progress=on_progress)

    return built
