"""`sennet-bench seed-networks`: the four of the recipe with calm random weights, and small ones that are trained."""

from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from sennet_bench import seed_networks, small_networks
from sennet_bench.calm_weights import calm, calmness
from sennet_bench.seed_networks import SEED_NETWORKS, SeedNetwork
from sennet_bench.seed_networks_command import seed_networks as seed_networks_command
from sennet_bench.small_networks import SMALL_NETWORKS, SmallNetwork, small_settings
from sennet_engine.card import TileNormalisation
from sennet_engine.errors import ConfigError, OutputError
from sennet_export.calibration import read_calibration
from sennet_trainer.network import build_segmenter
from sennet_trainer.network_settings import NetworkSettings
from sennet_trainer.phantom import PhantomSettings
from sennet_trainer.recipe.load import load_recipe
from sennet_trainer.run_folder import load_run

RECIPE = Path(__file__).parents[2] / "recipes" / "sennet_hoa.toml"
# The last fit stage of each in the recipe.
STAGES = {
    "random_maxvit": "final_maxvit",
    "random_seresnext": "final_seresnext",
    "random_efficientnet_s": "final_efficientnet_s",
    "random_efficientnet_l": "final_efficientnet_l",
}
CUT_SHORT = {"encoder_depth": 3, "decoder_options": {"decoder_channels": [16, 8, 8]}}


def run(*arguments):
    app = typer.Typer()
    app.command()(seed_networks_command)
    ran = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    return ran.output


@pytest.mark.parametrize("name", SEED_NETWORKS)
def test_the_four_are_those_of_the_recipe(name, tmp_path):
    """Same decoder, encoder, normalisation and tile; only the weights are random."""
    recipe = load_recipe(RECIPE, data=tmp_path)
    stage = next(stage for stage in recipe.stages if stage.name == STAGES[name])
    there, here = recipe.networks[stage.network], SEED_NETWORKS[name].network
    assert here == there.model_copy(update={"encoder_weights": None})
    side = stage.crops.get("side", recipe.crops.side) if isinstance(stage.crops, dict) else recipe.crops.side
    assert SEED_NETWORKS[name].side == side


def test_a_random_network_is_a_run_that_says_so_and_is_calm(tmp_path, monkeypatch):
    """It loads as any run; no epoch, no score, not complete; logits spread as asked; a change stays of its size."""
    network = NetworkSettings(encoder="tu-tf_efficientnetv2_b0", normalisation=TileNormalisation())
    monkeypatch.setattr(seed_networks, "PHANTOM", PhantomSettings((2, 160, 160), 1, seed=0))
    monkeypatch.setitem(SEED_NETWORKS, "random_efficientnet_s", SeedNetwork(network, 96))
    printed = run(tmp_path, "--only", "random_efficientnet_s")
    assert "random; logits with a standard deviation of 4.0, 1.0% of the pixels positive" in printed
    loaded = load_run(tmp_path / "random_efficientnet_s")
    assert (loaded.name, loaded.epoch, loaded.scores, loaded.complete) == ("random_efficientnet_s", 0, {}, False)
    assert loaded.settings.crops.side == 96
    squares = torch.from_numpy(read_calibration(loaded.settings.volumes[0].images).squares(96)).float()
    found = calmness(loaded.segmenter, squares)
    assert found.logit_deviation == pytest.approx(4, abs=0.5)
    assert found.positive_share == pytest.approx(0.01, abs=0.01)
    assert 0.05 < found.amplification < 3
    elsewhere = calmness(loaded.segmenter, squares.flip(2, 3).roll(40, dims=3))
    assert 1 < elsewhere.logit_deviation < 12
    with pytest.raises(OutputError, match="--overwrite"):
        run(tmp_path, "--only", "random_efficientnet_s")


def test_a_network_of_random_weights_is_not_calm_by_itself():
    """Without new statistics and damped branches its logits are hardly spread."""
    torch.manual_seed(0)
    segmenter = build_segmenter(NetworkSettings(encoder="tu-tf_efficientnetv2_b0", **CUT_SHORT)).eval()
    tiles = torch.rand(2, 1, 96, 96) * 255
    assert calmness(segmenter, tiles).logit_deviation < 1
    assert calm(segmenter, tiles, typical=tiles).logit_deviation == pytest.approx(4, abs=0.1)


def test_a_small_network_is_trained_once_and_told_of(tmp_path, monkeypatch):
    """The run is complete, its score is that on the unseen phantom; the same command trains nothing more."""
    for name, seed in (("trained", 3), ("unseen", 4)):
        monkeypatch.setitem(small_networks.PHANTOMS, name, PhantomSettings((2, 128, 128), 2, seed=seed))
    monkeypatch.setattr(small_networks, "CROPS_PER_EPOCH", 16)
    network = NetworkSettings(encoder="tu-tf_efficientnetv2_b0", **CUT_SHORT)
    monkeypatch.setitem(SMALL_NETWORKS, "small_efficientnet", SmallNetwork(network, epochs=1, learning_rate=1e-3))
    assert "surface Dice 0." in run(tmp_path, "--small", "--only", "small_efficientnet")
    weights = tmp_path / "small_efficientnet" / "network.safetensors"
    written = weights.stat().st_mtime_ns
    loaded = load_run(tmp_path / "small_efficientnet")
    assert loaded.complete
    assert ["unseen" in name for name in loaded.scores] == [True]
    run(tmp_path, "--small", "--only", "small_efficientnet")
    assert weights.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("name", "real", "family"),
    [
        ("small_maxvit", "random_maxvit", "tu-maxvit_"),
        ("small_seresnext", "random_seresnext", "tu-seresnext"),
        ("small_efficientnet", "random_efficientnet_s", "tu-tf_efficientnetv2_"),
        ("small_unetplusplus", "random_efficientnet_l", "tu-tf_efficientnetv2_"),
    ],
)
def test_the_small_ones_are_of_the_same_families(name, real, family, tmp_path):
    """Same decoder, same kind of encoder, same normalisation; judged on a phantom that is not trained on."""
    settings, real = small_settings(name, tmp_path), SEED_NETWORKS[real].network
    assert (settings.network.decoder, settings.network.normalisation) == (real.decoder, real.normalisation)
    assert settings.network.encoder.startswith(family)
    assert real.encoder.startswith(family)
    images = {volume.role: volume.images for volume in settings.volumes}
    assert images["train"] != images["validation"]


def test_an_unknown_name_is_refused(tmp_path):
    """Before anything is made; the error names the known ones."""
    with pytest.raises(ConfigError, match="expected some of random_maxvit, random_seresnext"):
        run(tmp_path, "--only", "maxvit")
    assert list(tmp_path.iterdir()) == []
