"""Small members of the four families through `sennet-export --fp16`: graph, half, engine, card."""

import numpy as np
import onnx
import pytest
import torch

from sennet_bench.calm_weights import calm
from sennet_engine.bundle import open_bundle
from sennet_engine.card import TileNormalisation
from sennet_engine.engine_file import read_facts
from sennet_trainer.network import build_segmenter
from sennet_trainer.network_settings import NetworkSettings
from sennet_trainer.phantom import PhantomSettings, make_phantom, write_phantom
from sennet_trainer.run_folder import begin_run, new_record, save_network
from sennet_trainer.settings import CropSettings, FitSettings
from sennet_trainer.volume_settings import VolumeSettings

SIDE = 64
PHANTOM = PhantomSettings((2, 160, 160), 1, seed=2)
CUT_SHORT = {"encoder_depth": 3, "decoder_options": {"decoder_channels": [32, 16, 8]}}
FAMILIES = {
    "maxvit": {
        "encoder": "tu-maxvit_tiny_tf_512",
        "decoder_options": {
            "img_size": SIDE, "depths": [1, 1, 1, 1], "embed_dim": [32] * 4, "stem_width": 16,
            "decoder_channels": [32, 16, 16, 8, 8],
        },
    },
    "seresnext": {"encoder": "tu-seresnext26d_32x4d", **CUT_SHORT},
    "efficientnet": {"encoder": "tu-tf_efficientnetv2_b0", **CUT_SHORT},
    "unetplusplus": {"encoder": "tu-tf_efficientnetv2_b0", "decoder": "UnetPlusPlus", **CUT_SHORT},
}  # fmt: skip
TILES = {"maxvit": [SIDE], "seresnext": [SIDE, 96], "efficientnet": [SIDE, 96], "unetplusplus": [SIDE]}


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    """The run folder of a family's member with calm random weights."""
    folder = tmp_path_factory.mktemp("families")
    write_phantom(make_phantom(PHANTOM), PHANTOM, folder / "phantom")

    def make(name):
        settings = FitSettings(
            name=name,
            voxel_size_um=50.0,
            network=NetworkSettings(normalisation=TileNormalisation(), **FAMILIES[name]),
            volumes=[
                VolumeSettings(
                    images=folder / "phantom" / "image.tif", labels=folder / "phantom" / "labels.tif", axes="z"
                )
            ],
            crops=CropSettings(side=SIDE),
        )
        torch.manual_seed(0)
        segmenter = build_segmenter(settings.network).eval()
        grey = torch.from_numpy(make_phantom(PHANTOM).image[:, None, 48:112, 48:112] / 256).float()
        calm(segmenter, grey, typical=grey)
        begin_run(folder / name, new_record(settings, {}))
        save_network(folder / name, segmenter, epoch=1, score=None, threshold_without=0.1)
        return folder / name

    return make


@pytest.mark.filterwarnings("ignore:.*is not finished")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "efficientnet" else pytest.mark.slow) for name in FAMILIES]
)
def test_a_family_becomes_an_engine_in_half(command, run_of, tmp_path, name):
    """fp32 equal to torch, fp16 within its gate, an RTX engine whose work is in half, golden tiles, and a true card."""
    out = tmp_path / f"{name}.model"
    tiles = [option for side in TILES[name] for option in ("--tile", side)]
    ran = command(
        "sennet-export", run_of(name), "--out", out, "--fp16", "--gate", 0.1, "--target", "rtx", "--gpu", 8.6,
        "--batch", "1,2,4", *tiles,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    card = open_bundle(out).card
    assert card.tiling.sides == TILES[name]
    assert not card.tiling.exact
    assert card.tiling.halo_error
    assert card.tiling.halo_against == ("neighbouring tiles" if name == "maxvit" else "whole plane")
    assert card.files["model.onnx"].parity.largest_difference <= 1
    half = card.files["model.fp16.onnx"]
    assert half.parity.surface_dice >= 0.9
    assert any("half" in runtime for runtime in half.parity.runtimes)
    assert half.largest_activation > 0
    engine = out / "model.fp16.rtx-sm86.engine"
    facts = read_facts(engine)
    assert facts.share_by_precision["fp16"] > 0.9
    assert [profile.side for profile in facts.identity.profiles] == TILES[name]
    assert facts.identity.onnx_sha256 == half.sha256
    assert facts.sha256 == card.files[engine.name].sha256
    assert not facts.verified
    assert "not verified" in ran.out
    with np.load(out / "golden.npz", allow_pickle=False) as golden:
        assert {f"tiles_{side}" for side in TILES[name]} <= set(golden)
        assert golden[f"tiles_{SIDE}"].dtype == golden[f"probabilities_{SIDE}"].dtype == np.uint8
    assert str(tmp_path) not in (out / "model.json").read_text()
    kinds = [node.op_type for node in onnx.load(out / "model.onnx").graph.node]
    assert ("LayerNormalization" in kinds) == (name == "maxvit")
    assert "BatchNormalization" not in kinds


def test_a_tile_that_a_network_cannot_take_is_refused(command, run_of, tmp_path):
    """MaxViT takes the side that it was built for; the message names it."""
    ran = command("sennet-export", run_of("maxvit"), "--out", tmp_path / "m.model", "--tile", 96)
    assert ran.code == 2
    assert "96" in ran.err
    assert str(SIDE) in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_with_a_missing_key_is_refused(command, run_of, tmp_path):
    """It names the run and the key, and leaves nothing."""
    from sennet_trainer.checkpoint import load_tensors, save_tensors

    run = run_of("efficientnet")
    tensors, facts = load_tensors(run / "network.safetensors")
    lost = next(iter(tensors))
    del tensors[lost]
    save_tensors(run / "network.safetensors", tensors, facts)
    ran = command("sennet-export", run, "--out", tmp_path / "m.model", "--fp16")
    assert ran.code == 2
    assert lost in ran.err
    assert list(tmp_path.iterdir()) == []
