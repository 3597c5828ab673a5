"""`sennet-infer` takes no model that its card does not vouch for, and never runs code from one."""

import hashlib
import json
import pickle
import shutil

import onnx
import pytest


def no_bundle(model):
    """A model folder without a card."""
    (model / "model.json").unlink()
    return "model.json"


def no_graph(model):
    """A bundle without its ONNX file."""
    (model / "model.onnx").unlink()
    return "model.onnx"


def changed_byte(model):
    """A bundle whose ONNX file differs from its card by one byte."""
    content = bytearray((model / "model.onnx").read_bytes())
    content[-1] ^= 1
    (model / "model.onnx").write_bytes(content)
    return "sha256"


def pickle_as_weights(model):
    """A bundle whose weights are a pickle that would run code, with its right sha256 in the card."""
    replace_file(model, "weights.safetensors", pickle.dumps(_Trap(model.with_name("executed"))), kind="weights")
    return "pickle"


def unknown_card_key(model):
    """A card with a misspelt key."""
    card = model / "model.json"
    card.write_text(card.read_text().replace('"threshold"', '"treshold"'))
    return "did you mean 'threshold'"


def not_an_onnx_file(model):
    """A bundle whose ONNX file is something else, with its right sha256 in the card."""
    replace_file(model, "model.onnx", b"not a graph")
    return " cannot load it: "


def weights_in_another_file(model):
    """A graph whose weights lie in a file that the card does not vouch for."""
    replace_file(model, "model.onnx", (model / "model.onnx").read_bytes() + b"\x0a\x08location\x12\x05w.bin")
    return "other files"


def tiles_that_the_graph_refuses(model):
    """A card that offers sides, for a graph that computes another size only."""
    graph = onnx.load(model / "model.onnx")
    for axis in (2, 3):
        graph.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 56
    replace_file(model, "model.onnx", graph.SerializeToString())
    return "cannot compute tiles of shape"


MISTAKES = [
    no_bundle, no_graph, changed_byte, pickle_as_weights, unknown_card_key, not_an_onnx_file, weights_in_another_file,
    tiles_that_the_graph_refuses,
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_model_that_cannot_be_used_is_refused(refused, volume, identity_bundle, mistake):
    """Before any output is made; what is wrong is named."""
    refused([volume, "--model", identity_bundle], mistake(identity_bundle))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_so_is_one_of_an_ensemble(refused, volume, identity_bundle, mistake):
    """However the bundle is named."""
    ensemble = volume.with_name("ensemble.toml")
    ensemble.write_text('threshold = 0.5\n[[passes]]\nmodel = "builtin"\n[[passes]]\nmodel = "identity.model"\n')
    refused([volume, "--model", ensemble], mistake(identity_bundle))


def replace_file(model, name, content, kind="onnx"):
    """Write it, and let the card vouch for it."""
    (model / name).write_bytes(content)
    card = json.loads((model / "model.json").read_text())
    card["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "kind": kind}
    (model / "model.json").write_text(json.dumps(card))


class _Trap:
    """Unpickling it makes the folder at `path`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (shutil.copytree, (self.path.parent / "identity.model", self.path))
