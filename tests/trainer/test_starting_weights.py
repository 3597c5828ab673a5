"""A training may start from the weights of another run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sennet_engine.errors import ModelError, OutputError
from sennet_trainer.fit import fit
from sennet_trainer.run_folder import load_run, read_record
from sennet_trainer.settings import FitSettings

from .conftest import CPU, TINY_NETWORK, Silent, StopsAfter

SettingsOf = Callable[..., FitSettings]

# With this learning rate weights stay where they start, to within a millionth.
STANDING: dict[str, Any] = {"epochs": 2, "batch": 4, "learning_rate": 1e-12, "weight_decay": 0.0}
FEW: dict[str, Any] = {"side": 64, "per_epoch": 8}


@pytest.fixture
def first(settings_of: SettingsOf, tmp_path: Path) -> Path:
    """A finished run."""
    fit(settings_of(crops=FEW), tmp_path / "first", device=CPU, observer=Silent())
    return tmp_path / "first"


def test_training_starts_from_the_weights_of_the_run(settings_of: SettingsOf, first: Path, tmp_path: Path) -> None:
    """Whatever its encoder would have started from: that file is not even looked for."""
    network = TINY_NETWORK | {"encoder_weights": str(tmp_path / "none.safetensors")}
    settings = settings_of(network=network, start_from=first, training=STANDING, seed=1, crops=FEW)
    fit(settings, tmp_path / "second", device=CPU, observer=Silent())
    before, after = (load_file(run / "network.safetensors") for run in (first, tmp_path / "second"))
    weights = [name for name in before if name.endswith(".weight")]
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in weights)


def test_changed_start_is_not_gone_on_with(settings_of: SettingsOf, first: Path, tmp_path: Path) -> None:
    """The run's record has the sha256 of the network that it started from."""
    settings, run = settings_of(start_from=first, training=STANDING, crops=FEW), tmp_path / "second"
    with pytest.raises(KeyboardInterrupt):
        fit(settings, run, device=CPU, observer=StopsAfter(1))
    assert len(read_record(run).inputs[f"start_from {first}"]) == 64
    fit(settings_of(crops=FEW, seed=2), first, device=CPU, observer=Silent(), overwrite=True)
    with pytest.raises(
        OutputError, match=r"start_from .*first changed since the run was begun; --overwrite starts anew"
    ):
        fit(settings, run, device=CPU, observer=Silent())


def test_interrupted_training_goes_on_from_its_checkpoint(settings_of: SettingsOf, first: Path, tmp_path: Path) -> None:
    """Not from the start again."""
    settings = settings_of(start_from=first, crops=FEW)
    fit(settings, tmp_path / "whole", device=CPU, observer=Silent())
    with pytest.raises(KeyboardInterrupt):
        fit(settings, tmp_path / "resumed", device=CPU, observer=StopsAfter(1))
    fit(settings, tmp_path / "resumed", device=CPU, observer=Silent())
    whole, resumed = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"decoder_options": {"decoder_channels": [8, 8, 8]}}, r"decoder_options: got .*16, 8, 8.* expected .*8, 8, 8"),
        ({"encoder": "resnet34"}, "network.encoder: got 'resnet18' there, expected 'resnet34'"),
        ({"normalisation": {"kind": "fixed", "mean": 100.0}}, "network.normalisation: got"),
    ],
)
def test_run_of_another_network_is_refused(
    settings_of: SettingsOf, first: Path, tmp_path: Path, network: dict[str, Any], message: str
) -> None:
    """The error has both settings; no run folder appears."""
    settings = settings_of(start_from=first, network=TINY_NETWORK | network)
    with pytest.raises(ModelError, match=message):
        fit(settings, tmp_path / "second", device=CPU, observer=Silent())
    assert not (tmp_path / "second").exists()


def test_only_a_finished_run_is_started_from(settings_of: SettingsOf, tmp_path: Path) -> None:
    """The weights of one that goes on would change under the new one."""
    with pytest.raises(KeyboardInterrupt):
        fit(settings_of(), tmp_path / "first", device=CPU, observer=StopsAfter(1))
    load_run(tmp_path / "first")
    for start, message in (("first", "is not finished"), ("none", "is not a run folder")):
        with pytest.raises(ModelError, match=message):
            fit(settings_of(start_from=tmp_path / start), tmp_path / "second", device=CPU, observer=Silent())
