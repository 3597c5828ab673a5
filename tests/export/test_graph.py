"""The graph of a segmenter: what it holds, what it answers, which tiles it takes, where its nodes are from."""

import collections
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from sennet_bench.calm_weights import calm
from sennet_engine.card import TileNormalisation
from sennet_engine.errors import ConfigError, ModelError
from sennet_export.batch_norm import fold_batch_norms
from sennet_export.graph import Uint8Ends, accepted_sides, onnx_from_segmenter
from sennet_export.source_lines import SOURCE, source_lines, stripped
from sennet_trainer.network import Segmenter, build_segmenter
from sennet_trainer.network_settings import NetworkSettings

SIDE = 64
# Members of the four families, cut short.
FAMILIES = {
    "maxvit": {
        "encoder": "tu-maxvit_tiny_tf_512",
        "decoder_options": {"img_size": SIDE, "depths": [1, 1, 1, 1], "embed_dim": [32] * 4, "stem_width": 16},
    },
    "seresnext": {"encoder": "tu-seresnext26d_32x4d", "encoder_depth": 3, "decoder_options": {}},
    "efficientnet": {"encoder": "tu-tf_efficientnetv2_b0", "encoder_depth": 3, "decoder_options": {}},
    "unetplusplus": {
        "encoder": "tu-tf_efficientnetv2_b0", "decoder": "UnetPlusPlus", "encoder_depth": 3, "decoder_options": {},
    },
}  # fmt: skip
CHANNELS = {3: [32, 16, 8], 5: [32, 16, 16, 8, 8]}


def grey(count, side, seed=0):
    """Smooth grey tiles, uint8 [count, 1, side, side]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 1, side // 8, side // 8)).astype(np.float32)
    fine = nn.functional.interpolate(torch.from_numpy(coarse), scale_factor=8, mode="bilinear")
    return fine.numpy().astype(np.uint8)


@pytest.fixture(scope="module")
def family():
    """A family's calm segmenter and its graph, made once."""
    made = {}

    def make(name):
        if name not in made:
            settings = dict(FAMILIES[name])
            depth = settings.get("encoder_depth", 5)
            options = {**settings.pop("decoder_options"), "decoder_channels": CHANNELS[depth]}
            torch.manual_seed(0)
            segmenter = build_segmenter(
                NetworkSettings(**settings, decoder_options=options, normalisation=TileNormalisation())
            )
            shown = torch.from_numpy(grey(4, SIDE).astype(np.float32))
            calm(segmenter, shown, typical=shown)
            segmenter.get_submodule("network.segmentation_head.0").bias.data += 8  # grey levels instead of zeros
            sides = accepted_sides(segmenter, trained_side=SIDE)
            made[name] = segmenter, onnx_from_segmenter(segmenter, sides=sides)
        return made[name]

    return make


def answer(model, tiles):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"tiles": tiles})[0].astype(int)


def own_network(forward):
    """A segmenter around one function of float32 [B, 1, H, W]."""

    class Network(nn.Module):
        def forward(self, tiles):
            return forward(tiles)

    return Segmenter(Network(), normaliser=nn.Identity(), channels=1, stride=1).eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_graph_answers_as_its_network(family, name):
    """Within one grey level, on one tile and on three, and on every side where the sides are free."""
    segmenter, model = family(name)
    onnx.checker.check_model(model)
    for count, side in ((1, SIDE), (3, SIDE), *([] if name == "maxvit" else [(1, 96)])):
        tiles = grey(count, side, seed=count)
        with torch.no_grad():
            expected = Uint8Ends(segmenter)(torch.from_numpy(tiles)).numpy().astype(int)
        assert expected.std() > 5
        assert np.abs(answer(model, tiles) - expected).max() <= 1


@pytest.mark.parametrize("name", FAMILIES)
def test_a_graph_is_as_plain_as_it_can_be(family, name):
    """Cast first and last, opset 18; batch norm folded; nothing is computed from shapes or looked up."""
    segmenter, model = family(name)
    operators = collections.Counter(node.op_type for node in model.graph.node)
    assert (model.graph.node[0].op_type, model.graph.node[-1].op_type, operators["Cast"]) == ("Cast", "Cast", 2)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    unwanted = {"BatchNormalization", "Shape", "Gather", "Einsum", "Identity", "Dropout", "Constant", "Expand", "If"}
    assert not unwanted & set(operators)
    layer_norms = sum(isinstance(module, nn.LayerNorm) for module in segmenter.network.encoder.modules())
    assert operators["LayerNormalization"] == layer_norms
    assert (layer_norms > 0) == (name == "maxvit")


def test_a_network_is_left_as_it_was(family):
    """Its attention is fused again, its tables are back, and its state has the same names."""
    segmenter, _ = family("maxvit")
    names = list(segmenter.state_dict())
    assert any("relative_position_bias_table" in name for name in names)
    attention = [module for module in segmenter.modules() if hasattr(module, "fused_attn")]
    assert attention
    assert all(module.fused_attn for module in attention)


def test_a_tile_that_a_network_cannot_take_is_refused(family):
    """MaxViT takes one side, though its windows fit into multiples of it; others take multiples of their stride."""
    maxvit, _ = family("maxvit")
    assert accepted_sides(maxvit, trained_side=SIDE) == [SIDE]
    for side in (SIDE // 2, 2 * SIDE):
        with pytest.raises(ConfigError, match=f"--tile {side}: this network takes tiles of {SIDE} only"):
            accepted_sides(maxvit, trained_side=SIDE, asked=[SIDE, side])
    seresnext, _ = family("seresnext")
    assert {72, SIDE, 128, 1024} <= set(accepted_sides(seresnext, trained_side=SIDE, asked=[72]))
    with pytest.raises(ConfigError, match="--tile 70: this network takes tiles of multiples of 8, such as 64, 128"):
        accepted_sides(seresnext, trained_side=SIDE, asked=[72, 70])


def test_nodes_say_which_source_line_they_are_from_and_nothing_else(family):
    """A path from the package on and the module's name; no folder of this machine is in the file."""
    _, model = family("maxvit")
    lines = source_lines(model)
    assert set(lines) == {node.name for node in model.graph.node}
    norm = next(node.name for node in model.graph.node if node.op_type == "LayerNormalization")
    assert lines[norm].startswith("timm/")
    assert ".py:" in lines[norm]
    assert lines[norm].endswith("(network.encoder.model.stages_0.blocks.0.attn_block.norm1)")
    assert {entry.key for node in model.graph.node for entry in node.metadata_props} == {SOURCE}
    content = model.SerializeToString()
    for folder in (Path(torch.__file__).parents[1], Path(__file__).parents[2]):
        assert str(folder).encode() not in content
    assert len(model.graph.value_info) == 0
    assert stripped(model).SerializeToString() == content


def test_an_operator_without_a_translation_is_named_with_its_node_and_line():
    """Instead of torch's pages."""
    segmenter = own_network(lambda tiles: torch.special.bessel_j0(tiles))
    with pytest.raises(
        ModelError, match=r"bessel_j0 has no translation; node \w*bessel_j0, from test_graph\.py:\d+ in"
    ):
        onnx_from_segmenter(segmenter, sides=[32])


def test_a_network_that_looks_at_its_tile_before_it_goes_on_is_refused():
    """A branch on values cannot be traced; the error says where it is."""
    segmenter = own_network(lambda tiles: tiles if tiles.max() > 3 else -tiles)
    with pytest.raises(ModelError, match=r"cannot be traced for ONNX, at test_graph\.py:\d+ in <lambda>"):
        onnx_from_segmenter(segmenter, sides=[32])


@pytest.mark.parametrize(("kernel", "pads", "left"), [(1, 0, 0), (3, 1, 1), (1, 1, 1)])
def test_batch_norm_goes_into_the_convolution_after_it_only_where_that_is_the_same(kernel, pads, left):
    """Padding comes after the normalisation, so a padded convolution cannot take its shift."""
    draw = np.random.default_rng(1)
    norm = [draw.uniform(0.5, 2, 4).astype(np.float32) for _ in range(4)]
    weight = draw.normal(size=(3, 4, kernel, kernel)).astype(np.float32)
    constants = [*zip(("scale", "offset", "mean", "variance"), norm, strict=True), ("weight", weight)]
    graph = helper.make_graph(
        [
            helper.make_node("BatchNormalization", ["tiles", "scale", "offset", "mean", "variance"], ["normed"]),
            helper.make_node("Conv", ["normed", "weight"], ["out"], pads=[pads] * 4),
        ],
        "test",
        [helper.make_tensor_value_info("tiles", TensorProto.FLOAT, [1, 4, 8, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, None, None])],
        [numpy_helper.from_array(value, name) for name, value in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    folded = onnx_ir.from_proto(model)
    fold_batch_norms(folded)
    folded = onnx_ir.to_proto(folded)
    assert sum(node.op_type == "BatchNormalization" for node in folded.graph.node) == left
    tiles = draw.normal(size=(1, 4, 8, 8)).astype(np.float32)
    sessions = [onnxruntime.InferenceSession(one.SerializeToString()) for one in (model, folded)]
    before, after = (session.run(None, {"tiles": tiles})[0] for session in sessions)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
