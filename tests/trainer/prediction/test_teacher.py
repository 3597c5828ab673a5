"""Teachers: runs and bundles, described alike and opened alike."""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sennet_engine.bundle import open_bundle
from sennet_engine.card import Threshold
from sennet_engine.errors import ModelError
from sennet_trainer.network import Segmenter, build_segmenter
from sennet_trainer.prediction.teacher import keep_threshold, open_teacher, teacher_from_path
from sennet_trainer.prediction.torch_predictor import TorchPredictor
from sennet_trainer.run_folder import begin_run, complete_run, load_run, new_record, save_network
from sennet_trainer.settings import FitSettings

from ..conftest import CPU

SettingsOf = Callable[..., FitSettings]


def untrained_run(settings: FitSettings, run: Path) -> Path:
    """A complete run folder with random weights."""
    torch.manual_seed(0)
    begin_run(run, new_record(settings, {}))
    save_network(run, build_segmenter(settings.network), epoch=1, score=None)
    complete_run(run, new_record(settings, {}))
    return run


class DarkIsVessel(nn.Module):
    """Probability 1 - grey / 255."""

    def forward(self, grey: Tensor) -> Tensor:
        return torch.logit(1 - grey / 255, eps=1e-6)


def test_a_network_in_torch_rounds_as_exported_ones_do() -> None:
    """Bytes in, bytes out: sigmoid * 255, rounded; any batch."""
    segmenter = Segmenter(DarkIsVessel(), normaliser=nn.Identity(), channels=1, stride=32)
    tiles = np.random.default_rng(0).integers(0, 256, (3, 1, 32, 32), np.uint8)
    with TorchPredictor(segmenter, device=CPU) as predictor:
        answer = predictor.predict(tiles)
        assert predictor.runtime.startswith("torch ")
    assert answer.dtype == np.uint8
    assert (answer == 255 - tiles).all()


def test_a_run_is_tiled_as_it_was_trained(settings_of: SettingsOf, tmp_path: Path) -> None:
    """The side is that of the crops, or of the validation's tiles; nobody measured a halo, so tiles are blended."""
    run = untrained_run(settings_of(crops={"side": 192, "per_epoch": 4}), tmp_path / "run")
    teacher = teacher_from_path(run)
    assert (teacher.name, teacher.side, teacher.halo, teacher.stride) == ("tiny", 192, None, 8)
    assert teacher.sha256 == hashlib.sha256((run / "network.safetensors").read_bytes()).hexdigest()
    tiled = untrained_run(settings_of(validation={"tile": 104}), tmp_path / "tiled")
    assert teacher_from_path(tiled).side == 104


def test_a_run_predicts_with_its_own_network(settings_of: SettingsOf, tmp_path: Path) -> None:
    """What is opened answers as the network of the run does."""
    run = untrained_run(settings_of(), tmp_path / "run")
    tiles = np.random.default_rng(0).integers(0, 256, (2, 1, 64, 64), np.uint8)
    with open_teacher(teacher_from_path(run), device=CPU) as predictor:
        answer = predictor.predict(tiles)
    segmenter = load_run(run).segmenter
    with torch.inference_mode():
        probability = torch.sigmoid(segmenter(torch.from_numpy(tiles).float()))
    assert np.abs(answer - probability.numpy() * 255).max() <= 0.5 + 1e-3


def test_a_bundle_is_tiled_as_its_card_says(strided_bundle: Path) -> None:
    """And the hash is that of the file that computes."""
    card = open_bundle(strided_bundle).card
    teacher = teacher_from_path(strided_bundle)
    assert (teacher.side, teacher.halo, teacher.stride) == (128, 16, 4)
    assert teacher.sha256 == card.files["model.onnx"].sha256
    assert teacher.threshold == card.threshold


def test_a_folder_without_a_network_is_refused(tmp_path: Path) -> None:
    """The message names both kinds of folder."""
    with pytest.raises(ModelError, match=r"neither run\.json nor model\.json; give the folder of a training run"):
        teacher_from_path(tmp_path)


def test_an_unfinished_run_predicts_with_a_warning(
    settings_of: SettingsOf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its network is the best so far."""
    begin_run(tmp_path / "run", new_record(settings_of(), {}))
    save_network(tmp_path / "run", build_segmenter(settings_of().network), epoch=1, score=None)
    with caplog.at_level(logging.WARNING):
        teacher_from_path(tmp_path / "run")
    assert "is not finished" in caplog.text


def test_a_kept_threshold_is_the_networks_own(settings_of: SettingsOf, tmp_path: Path, strided_bundle: Path) -> None:
    """In a run it lies beside the weights, in a bundle on the card, of which nothing else changes."""
    threshold = Threshold(value=0.15, low=0.1, high=0.35)
    before = json.loads((strided_bundle / "model.json").read_text())
    run = untrained_run(settings_of(), tmp_path / "run")
    for path in (run, strided_bundle):
        keep_threshold(path, threshold, volume="kidney")
        assert teacher_from_path(path).threshold == threshold
    kept = json.loads((run / "threshold.json").read_text())
    assert kept == {"value": 0.15, "low": 0.1, "high": 0.35, "volume": "kidney"}
    card = open_bundle(strided_bundle).card
    assert card.model_dump(exclude={"threshold"}).items() >= {key: before[key] for key in ("name", "encoder")}.items()
    assert card.files["model.onnx"].sha256 == before["files"]["model.onnx"]["sha256"]
    assert card.tiling.sides == before["tiling"]["sides"]
