"""What tests of several packages share: running a command in this process, and small model bundles."""

import hashlib
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

COMMANDS = {
    "sennet-infer": "sennet_engine.cli.infer",
    "sennet-score": "sennet_engine.cli.score",
    "sennet-train": "sennet_trainer.cli",
    "sennet-export": "sennet_export.cli",
    "sennet-bench": "sennet_bench.cli",
}


# Where typer looks for the folder of a program's own settings (`typer.get_app_dir`), by system.
SETTINGS_FROM = {"darwin": "HOME", "win32": "APPDATA"}


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def _settings_of_the_user_are_left_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Commands remember their trials; in tests, and in the processes that they start, in a folder of the session."""
    with pytest.MonkeyPatch.context() as patched:
        variable = SETTINGS_FROM.get(sys.platform, "XDG_CONFIG_HOME")
        patched.setenv(variable, str(tmp_path_factory.mktemp("settings")))
        yield


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run a command as a person would, through its entry point, and return its exit code and what it printed."""

    def run(name: str, *arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            importlib.import_module(COMMANDS[name]).main()
        captured = capsys.readouterr()
        code = leaving.value.code
        return Ran(code if isinstance(code, int) else int(code is not None), captured.out, captured.err)

    return run


@pytest.fixture
def identity_bundle(tmp_path: Path) -> Path:
    """A model whose probability is the grey level itself."""
    nodes = [
        helper.make_node("Cast", ["tiles"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["grey"], ["probabilities"], to=TensorProto.UINT8),
    ]
    return write_bundle(tmp_path / "identity.model", nodes, [], stride=16, sides=[32, 64, 128], halo=0)


@pytest.fixture
def strided_bundle(tmp_path: Path) -> Path:
    """A small strided network: convolve, halve the resolution twice, convolve, double it twice. Stride 4."""
    draw = np.random.default_rng(5)

    def weight(name: str, *shape: int) -> TensorProto:
        values = draw.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        return numpy_helper.from_array(values, name)

    def constant(name: str, values: object) -> TensorProto:
        return numpy_helper.from_array(np.asarray(values, np.float32), name)

    same, half = {"pads": [1, 1, 1, 1]}, {"pads": [1, 1, 0, 0], "strides": [2, 2]}
    nodes = [
        helper.make_node("Cast", ["tiles"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["grey", "scale"], ["x0"]),
        helper.make_node("Conv", ["x0", "w0"], ["x1"], **same),
        helper.make_node("Relu", ["x1"], ["x2"]),
        helper.make_node("Conv", ["x2", "w1"], ["x3"], **half),
        helper.make_node("Conv", ["x3", "w2"], ["x4"], **half),
        helper.make_node("Relu", ["x4"], ["x5"]),
        helper.make_node("Resize", ["x5", "", "double"], ["x6"], mode="nearest"),
        helper.make_node("Conv", ["x6", "w3"], ["x7"], **same),
        helper.make_node("Sigmoid", ["x7"], ["x8"]),
        helper.make_node("Mul", ["x8", "levels"], ["x9"]),
        helper.make_node("Round", ["x9"], ["x10"]),
        helper.make_node("Cast", ["x10"], ["probabilities"], to=TensorProto.UINT8),
    ]
    weights = [
        constant("scale", 4 / 255), constant("levels", 255), constant("double", [1, 1, 4, 4]),
        weight("w0", 4, 1, 3, 3), weight("w1", 8, 4, 3, 3), weight("w2", 8, 8, 3, 3), weight("w3", 1, 8, 3, 3),
    ]  # fmt: skip
    return write_bundle(tmp_path / "strided.model", nodes, weights, stride=4, sides=[48, 64, 96, 128], halo=16)


@pytest.fixture
def pooling_bundle(tmp_path: Path) -> Path:
    """A network that sees the mean of what it is shown, and so is exact on no tiles. Stride 4, tiles of 32 or 48."""
    draw = np.random.default_rng(6)
    nodes = [
        helper.make_node("Cast", ["tiles"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["grey", "sides"], ["mean"]),
        helper.make_node("Sub", ["grey", "mean"], ["x0"]),
        helper.make_node("Mul", ["x0", "scale"], ["x1"]),
        helper.make_node("Conv", ["x1", "w0"], ["x2"], pads=[2, 2, 2, 2]),
        helper.make_node("Sigmoid", ["x2"], ["x3"]),
        helper.make_node("Mul", ["x3", "levels"], ["x4"]),
        helper.make_node("Round", ["x4"], ["x5"]),
        helper.make_node("Cast", ["x5"], ["probabilities"], to=TensorProto.UINT8),
    ]
    weights = [
        numpy_helper.from_array(np.array([2, 3]), "sides"),
        numpy_helper.from_array(np.float32(4 / 255), "scale"),
        numpy_helper.from_array(np.float32(255), "levels"),
        numpy_helper.from_array(draw.normal(0, 0.3, (1, 1, 5, 5)).astype(np.float32), "w0"),
    ]
    folder = write_bundle(tmp_path / "pooling.model", nodes, weights, stride=4, sides=[32, 48], halo=0)
    card = json.loads((folder / "model.json").read_text())
    card["tiling"] |= {"exact": False, "default_side": 32}
    (folder / "model.json").write_text(json.dumps(card))
    return folder


def write_bundle(
    folder: Path, nodes: list[onnx.NodeProto], weights: list[TensorProto], *, stride: int, sides: list[int], halo: int
) -> Path:
    """Write a bundle around ONNX nodes from `tiles` to `probabilities`."""
    axes = ["batch", 1, "h", "w"]
    graph = helper.make_graph(
        nodes, "test",
        [helper.make_tensor_value_info("tiles", TensorProto.UINT8, axes)],
        [helper.make_tensor_value_info("probabilities", TensorProto.UINT8, axes)],
        weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    card = {
        "name": folder.stem, "decoder": "none", "encoder": "none", "normalisation": {"kind": "fixed"},
        "voxel_size_um": 50.0, "threshold": {"value": 0.5},
        "tiling": {"stride": stride, "sides": sides, "default_side": sides[-1], "halo": halo, "exact": True},
        "files": {"model.onnx": {"sha256": sha256, "bytes": len(content), "kind": "onnx"}},
    }  # fmt: skip
    (folder / "model.json").write_text(json.dumps(card))
    return folder
