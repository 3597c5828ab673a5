"""The averaged weights: what they are, that they are the ones to be validated and kept, and that they are resumed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sennet_trainer.average import averaged
from sennet_trainer.fit import fit
from sennet_trainer.run_folder import load_run
from sennet_trainer.settings import FitSettings
from sennet_trainer.validation import validation_score

from .conftest import CPU, Silent, StopsAfter

SettingsOf = Callable[..., FitSettings]

AVERAGED: dict[str, Any] = {"epochs": 3, "batch": 4, "learning_rate": 3e-3, "ema": 0.9}


def test_average_moves_by_the_decay_and_faster_at_first() -> None:
    """Weights and running statistics alike; counters are copied."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    average, decay = averaged(network, decay=0.5), 0.5
    expected: dict[str, torch.Tensor] = {}
    for step in range(12):
        with torch.no_grad():
            network[0].weight.fill_(float(step**2))
        network(torch.full((2, 1, 4, 4), 1.0 + step))
        average.update_parameters(network)
        keep = min(decay, (1 + step) / (10 + step)) if step else 0.0
        for name, value in network.state_dict().items():
            before = expected.get(name, torch.zeros_like(value))
            expected[name] = keep * before + (1 - keep) * value if value.is_floating_point() else value.clone()
    assert keep == decay  # the last steps were past the beginning
    for name, value in average.module.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    assert average.module.state_dict()["0.weight"].max() < network[0].weight.max()


def test_the_average_is_validated_and_kept(
    settings_of: SettingsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network of the run is the average that stands in the checkpoint, not the weights of the last step."""
    validated = []

    def spied(segmenter: nn.Module, *arguments: Any, **options: Any) -> Any:
        validated.append({name: value.clone() for name, value in segmenter.state_dict().items()})
        return validation_score(segmenter, *arguments, **options)

    monkeypatch.setattr("sennet_trainer.fit.validation_score", spied)
    fit(settings_of(training=AVERAGED | {"epochs": 1}), tmp_path / "run", device=CPU, observer=Silent())
    kept = load_run(tmp_path / "run").segmenter.state_dict()
    checkpoint = load_file(tmp_path / "run" / "checkpoint.safetensors")
    for name, value in kept.items():
        assert torch.equal(value, checkpoint[f"average.module.{name}"])
        assert torch.equal(value, validated[0][name])
    assert any(not torch.equal(value, checkpoint[f"network.{name}"]) for name, value in kept.items())


def test_averaging_does_not_change_what_is_trained(settings_of: SettingsOf, tmp_path: Path) -> None:
    """It only looks on."""
    for name, ema in (("plain", None), ("averaged", 0.9)):
        settings = settings_of(training=AVERAGED | {"epochs": 1, "ema": ema})
        fit(settings, tmp_path / name, device=CPU, observer=Silent())
    plain, averaged = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("plain", "averaged"))
    assert all(torch.equal(value, averaged[name]) for name, value in plain.items())


def test_interrupted_averaging_ends_with_the_same_bits(settings_of: SettingsOf, tmp_path: Path) -> None:
    """The checkpoint has the average and its number of steps."""
    settings = settings_of(training=AVERAGED)
    fit(settings, tmp_path / "whole", device=CPU, observer=Silent())
    with pytest.raises(KeyboardInterrupt):
        fit(settings, tmp_path / "resumed", device=CPU, observer=StopsAfter(1))
    fit(settings, tmp_path / "resumed", device=CPU, observer=Silent())
    whole, resumed = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "resumed"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert whole["average.n_averaged"].item() == 12
