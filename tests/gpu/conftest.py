"""What tests on a GPU share: the first GPU, a model with one tile side, tiles with vessels, a model that overflows."""

import hashlib
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sennet_bench.gpu_check.model_copy import copy_for_one_side
from sennet_engine.bundle import BUILTIN, open_bundle
from sennet_engine.gpu.present import census
from sennet_engine.runtimes import open_predictor

# So many gains in a row take a bright grey level out of the range of float32 too: a runtime that fuses layers need not
# round to half between them.
GAIN, CONVOLUTIONS = np.float16(60_000), 8
# Tiles that hold next to no vessel are answered rightly by a network that answers 0.
LEAST_VESSEL_SHARE = 0.001


@pytest.fixture(scope="session")
def gpu():
    """The first GPU that the driver tells of."""
    found = census()
    if not found.gpus:
        pytest.fail(found.why_none)
    return found.gpus[0]


@pytest.fixture
def device(gpu):
    """It, opened."""
    from sennet_engine.device.cuda import CudaDevice

    return CudaDevice(gpu.index)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The built-in model for one tile side; engines that are built stay beside it for the other tests."""
    bundle, _ = copy_for_one_side(BUILTIN, tmp_path_factory.mktemp("model") / "small.model")
    return bundle


@pytest.fixture(scope="session")
def tiles(model):
    """The bundle's golden tile, and it turned three ways: uint8 [4, 1, side, side]."""
    side = model.card.tiling.default_side
    with np.load(model.path / "golden.npz") as golden:
        tile = golden[f"tiles_{side}"][:1]
    return np.concatenate([tile, tile[..., ::-1], tile[..., ::-1, :], tile[..., ::-1, ::-1]])


@pytest.fixture(scope="session")
def expected(model, tiles):
    """What onnxruntime answers to `tiles` on the processors in float32: of the first tile, what the bundle expects."""
    with open_predictor(model, runtime="onnxruntime", precision="fp32") as predictor:
        answers = np.concatenate([predictor.predict(tile[None]).copy() for tile in tiles])
    with np.load(model.path / "golden.npz") as golden:
        known = golden[f"probabilities_{model.card.tiling.default_side}"][:1]
    assert np.abs(answers[:1].astype(int) - known).max() <= 2
    assert (answers >= 255 * model.card.threshold.value).mean() > LEAST_VESSEL_SHARE
    return answers


@pytest.fixture
def open_model(gpu, device):
    """Open a bundle on the GPU by a runtime; closed at the end."""
    from sennet_engine.gpu.open import open_on_gpu

    opened = []

    def run(bundle, precision, runtime, *, cuda_graphs="auto", contexts=2, cache=None):
        found = open_on_gpu(
            bundle, precision, gpu, device, runtime=runtime, cuda_graphs=cuda_graphs, cache=cache,
            on_step=lambda _step: None, contexts=contexts,
        )  # fmt: skip
        opened.append(found.predictor)
        return found.predictor

    yield run
    for predictor in opened:
        predictor.__exit__(None, None, None)


@pytest.fixture
def overflowing(identity_bundle):
    """A bundle whose fp16 file multiplies grey levels by 60,000 eight times: all but 0 have no finite answer."""
    nodes = [
        helper.make_node("Cast", ["tiles"], ["x0"], name="door", to=TensorProto.FLOAT16),
        *(
            helper.make_node("Conv", [f"x{number}", "gain"], [f"x{number + 1}"], name=f"conv{number}")
            for number in range(CONVOLUTIONS)
        ),
        helper.make_node("Cast", [f"x{CONVOLUTIONS}"], ["logits"], name="up", to=TensorProto.FLOAT),
        helper.make_node("Sigmoid", ["logits"], ["probability"], name="sigmoid"),
        helper.make_node("Mul", ["probability", "levels"], ["scaled"], name="scaled"),
        helper.make_node("Round", ["scaled"], ["rounded"], name="round"),
        helper.make_node("Cast", ["rounded"], ["probabilities"], name="end", to=TensorProto.UINT8),
        helper.make_node("ReduceL1", ["logits", "axes"], ["sum"], name="sum", keepdims=0),
        helper.make_node("Less", ["sum", "largest"], ["finite"], name="finite"),
        helper.make_node("Cast", ["finite"], ["is_finite"], name="is_finite", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "is_finite"], ["not_finite"], name="not_finite"),
        helper.make_node("Cast", ["not_finite"], ["overflowed"], name="overflowed", to=TensorProto.UINT8),
    ]
    values = {
        "gain": np.full((1, 1, 1, 1), GAIN), "levels": np.float32(255), "one": np.float32(1),
        "largest": np.finfo(np.float32).max, "axes": np.array([1, 2, 3]),
    }  # fmt: skip
    axes = ["batch", 1, "h", "w"]
    graph = helper.make_graph(
        nodes, "test",
        [helper.make_tensor_value_info("tiles", TensorProto.UINT8, axes)],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.UINT8, axes),
            helper.make_tensor_value_info("overflowed", TensorProto.UINT8, ["batch"]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(made)
    content = made.SerializeToString()
    (identity_bundle / "model.fp16.onnx").write_bytes(content)
    card = json.loads((identity_bundle / "model.json").read_text())
    card["files"]["model.fp16.onnx"] = {
        "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "kind": "onnx", "precision": "fp16",
    }  # fmt: skip
    card["tiling"] |= {"sides": [64], "default_side": 64}
    (identity_bundle / "model.json").write_text(json.dumps(card))
    return open_bundle(identity_bundle)
