"""Bundles around very small ONNX graphs, whose cost is next to nothing: what is left is the engine's own."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from sennet_engine.bundle import CARD_NAME
from sennet_engine.card import FixedNormalisation, ModelCard, Threshold, Tiling
from sennet_export.files import model_file

SIDES = [256, 512, 1024]
# High enough that a made volume's vessels alone are found.
THRESHOLD = 0.75


def write_identity_bundle(folder: Path) -> Path:
    """A bundle whose probability is the grey level itself; written as `folder`, which must not exist."""
    nodes = [
        helper.make_node("Cast", ["tiles"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["grey"], ["probabilities"], to=TensorProto.UINT8),
    ]
    return _write(folder, nodes, [], halo=0)


def write_small_bundle(folder: Path) -> Path:
    """A bundle of two convolutions; the probability is about the grey level. Written as `folder`, must not exist."""
    mean = np.full((4, 1, 3, 3), 1 / 9, np.float32)
    values = {"first": mean, "second": np.full((1, 4, 3, 3), 1 / 36, np.float32), "top": np.float32(255)}
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    same = [1, 1, 1, 1]
    nodes = [
        helper.make_node("Cast", ["tiles"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["grey", "first"], ["x0"], pads=same),
        helper.make_node("Relu", ["x0"], ["x1"]),
        helper.make_node("Conv", ["x1", "second"], ["x2"], pads=same),
        helper.make_node("Round", ["x2"], ["x3"]),
        helper.make_node("Min", ["x3", "top"], ["x4"]),
        helper.make_node("Cast", ["x4"], ["probabilities"], to=TensorProto.UINT8),
    ]
    return _write(folder, nodes, weights, halo=16)


def _write(folder: Path, nodes: Sequence[NodeProto], weights: Sequence[TensorProto], *, halo: int) -> Path:
    axes: list[str | int | None] = ["batch", 1, "rows", "columns"]
    given = helper.make_tensor_value_info("tiles", TensorProto.UINT8, axes)
    answer = helper.make_tensor_value_info("probabilities", TensorProto.UINT8, axes)
    graph = helper.make_graph(nodes, folder.stem, [given], [answer], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    folder.mkdir(parents=True)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    card = ModelCard(
        name=folder.stem, decoder="none", encoder="none", normalisation=FixedNormalisation(), voxel_size_um=50,
        tiling=Tiling(stride=16, sides=SIDES, default_side=SIDES[0], halo=halo, exact=True),
        threshold=Threshold(value=THRESHOLD), files={path.name: model_file(path, kind="onnx")},
    )  # fmt: skip
    (folder / CARD_NAME).write_text(card.model_dump_json(indent=2), encoding="utf-8")
    return folder
