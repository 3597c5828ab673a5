"""Every setting of the optimisation reaches it, and what is not finite stops it."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from sennet_engine.card import Threshold
from sennet_engine.errors import SennetError
from sennet_trainer.checkpoint import load_tensors
from sennet_trainer.fit import fit
from sennet_trainer.history import EpochRow
from sennet_trainer.losses.table import LOSSES
from sennet_trainer.network import build_segmenter
from sennet_trainer.run_folder import load_run
from sennet_trainer.settings import FitSettings
from sennet_trainer.validation import ValidationScore

from .conftest import CPU, Silent, StopsAfter

SettingsOf = Callable[..., FitSettings]

TWO_STEPS: dict[str, Any] = {"side": 64, "per_epoch": 8}


def trained_weights(settings_of: SettingsOf, run: Path, **training: Any) -> dict[str, torch.Tensor]:
    """The tensors of a network after two steps without validation."""
    settings = settings_of(
        volumes=[settings_of().volumes[0].model_dump()],
        crops=TWO_STEPS,
        training={"epochs": 1, "batch": 4, "learning_rate": 1e-3} | training,
    )
    fit(settings, run, device=CPU, observer=Silent())
    return load_file(run / "network.safetensors")


@pytest.mark.parametrize("training", [{"gradient_clip": 1e-6}, {"weight_decay": 10.0}, {"loss": "bce_dice"}])
def test_settings_of_the_optimisation_change_the_weights(
    settings_of: SettingsOf, tmp_path: Path, training: dict[str, Any]
) -> None:
    """None of them is ignored."""
    plain = trained_weights(settings_of, tmp_path / "plain")
    changed = trained_weights(settings_of, tmp_path / "changed", **training)
    assert any(not torch.equal(plain[name], changed[name]) for name in plain if name.endswith(".weight"))


def test_gradients_are_clipped_to_the_norm_of_the_settings(
    settings_of: SettingsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the optimizer takes its step, no gradient is longer than that."""
    norms = []
    step = torch.optim.AdamW.step

    def measured(self: torch.optim.AdamW, *arguments: Any) -> Any:
        gradients = [one.grad for group in self.param_groups for one in group["params"] if one.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", measured)
    trained_weights(settings_of, tmp_path / "run", gradient_clip=0.01)
    assert norms == pytest.approx([0.01] * len(norms), rel=1e-3)
    assert norms


def test_weight_decay_shrinks_the_weights(settings_of: SettingsOf, tmp_path: Path) -> None:
    """By about learning rate times decay a step."""
    plain, decayed = (
        trained_weights(settings_of, tmp_path / str(decay), weight_decay=decay)["network.encoder.layer2.0.conv1.weight"]
        for decay in (0.0, 100.0)
    )
    assert decayed.norm() < 0.99 * plain.norm()


@pytest.mark.parametrize("bad_call", [1, 3])
def test_loss_that_is_not_finite_stops_the_training(
    settings_of: SettingsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad_call: int
) -> None:
    """At the first one; the error names step and epoch, and the checkpoint of the epoch before can be gone on from."""
    calls = []

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return logits.mean() * (math.nan if len(calls) == bad_call else 1.0)

    settings = settings_of(crops=TWO_STEPS)
    stands = "the checkpoint of epoch 1 stands" if bad_call > 2 else "there is no checkpoint yet"
    with monkeypatch.context() as patch:
        patch.setitem(LOSSES, "dice", loss)
        message = (
            rf"a loss of nan at step 1 of epoch {(bad_call + 1) // 2}, .* lower training\.learning_rate \({stands}"
        )
        with pytest.raises(SennetError, match=message) as caught:
            fit(settings, tmp_path / "run", device=CPU, observer=Silent())
    assert caught.value.exit_code == 2
    assert len(calls) == bad_call
    observer = Silent()
    fit(settings, tmp_path / "run", device=CPU, observer=observer)
    assert observer.epochs_done == bad_call // 2


def test_gradient_that_is_not_finite_spoils_no_weights(
    settings_of: SettingsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss may be finite where its slope is not: the square root of zero."""
    monkeypatch.setitem(LOSSES, "dice", lambda logits, _: torch.sqrt((logits - logits.detach()).square().mean()))
    with pytest.raises(SennetError, match="a gradient of nan at step 1 of epoch 1"):
        fit(settings_of(crops=TWO_STEPS), tmp_path / "run", device=CPU, observer=Silent())


def test_the_best_epoch_is_kept_even_in_the_middle(
    settings_of: SettingsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three epochs that score 0.2, 0.6 and 0.4, the second one's weights, threshold and scores."""
    scripted = ValidationScore(threshold=Threshold(value=0.5), surface_dice=0, dice=0, volumes={})
    script = [replace(scripted, surface_dice=score, threshold=Threshold(value=score)) for score in (0.2, 0.6, 0.4)]
    seen: list[dict[str, torch.Tensor]] = []

    def scores(segmenter: torch.nn.Module, *_: Any, **__: Any) -> ValidationScore:
        seen.append({name: value.clone() for name, value in segmenter.state_dict().items()})
        return script[len(seen) - 1]

    monkeypatch.setattr("sennet_trainer.fit.validation_score", scores)
    progress = fit(settings_of(crops=TWO_STEPS), tmp_path / "run", device=CPU, observer=Silent())
    trained = load_run(tmp_path / "run")
    assert (trained.epoch, trained.threshold.value, progress.best_surface_dice) == (2, 0.6, 0.6)
    assert all(torch.equal(value, seen[1][name]) for name, value in trained.segmenter.state_dict().items())


def test_network_with_dropout_goes_on_with_the_same_bits(settings_of: SettingsOf, tmp_path: Path) -> None:
    """What dropout draws depends on seed and epoch, not on what was drawn before."""
    network = {"encoder": "resnet18", "decoder": "FPN"}
    settings = settings_of(network=network, crops=TWO_STEPS, training={"epochs": 2, "batch": 4})
    assert any(isinstance(one, nn.Dropout2d) and one.p > 0 for one in build_segmenter(settings.network).modules())
    fit(settings, tmp_path / "whole", device=CPU, observer=Silent())
    with pytest.raises(KeyboardInterrupt):
        fit(settings, tmp_path / "resumed", device=CPU, observer=StopsAfter(1))
    torch.rand(7)
    fit(settings, tmp_path / "resumed", device=CPU, observer=Silent())
    whole, resumed = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


class ScalesTheLoss(Accelerator):
    """Scales the loss as a GPU does in float16, by far too much at first. The CPU computes in bfloat16 meanwhile."""

    def __init__(self, **_: Any) -> None:
        super().__init__(cpu=True, mixed_precision="bf16")
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=3)

    @property
    def mixed_precision(self) -> str:
        return "fp16"


class Scales(Silent):
    """Remembers what the checkpoint of every epoch says of the scale."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self._run = run
        self.scales: list[float] = []

    def epoch(self, row: EpochRow) -> None:
        super().epoch(row)
        self.scales.append(load_tensors(self._run / "checkpoint.safetensors")[1]["scaler"]["scale"])


def test_steps_that_overflow_in_float16_are_skipped(
    settings_of: SettingsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is scaled less until they pass, the learning rate waits, and the scale is gone on with."""
    monkeypatch.setattr("sennet_trainer.optimisation.Accelerator", ScalesTheLoss)
    training = {"epochs": 2, "batch": 4, "ema": 0.9, "loss": {"dice": 1000}}
    settings = settings_of(crops={"side": 64, "per_epoch": 64}, training=training)
    observer = Scales(tmp_path / "whole")
    fit(settings, tmp_path / "whole", device=CPU, observer=observer)
    with pytest.raises(KeyboardInterrupt):
        fit(settings, tmp_path / "resumed", device=CPU, observer=StopsAfter(1))
    fit(settings, tmp_path / "resumed", device=CPU, observer=Silent())
    whole, facts = load_tensors(tmp_path / "whole" / "checkpoint.safetensors")
    resumed, _ = load_tensors(tmp_path / "resumed" / "checkpoint.safetensors")
    taken = facts["scheduler"]["last_epoch"]
    assert observer.scales[0] < 2.0**127
    assert 0 < taken < len(observer.losses)
    assert whole["average.n_averaged"].item() == taken
    assert all(torch.equal(value, resumed[name]) and value.isfinite().all() for name, value in whole.items())


def test_gradients_that_are_never_finite_stop_a_scaled_training(
    settings_of: SettingsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as it cannot be the scale that makes them overflow."""
    monkeypatch.setattr("sennet_trainer.optimisation.Accelerator", ScalesTheLoss)
    monkeypatch.setitem(LOSSES, "dice", lambda logits, _: torch.sqrt((logits - logits.detach()).square().mean()))
    settings = settings_of(crops={"side": 64, "per_epoch": 600}, training={"epochs": 1, "batch": 4})
    with pytest.raises(SennetError, match="a gradient of nan at step 129 of epoch 1"):
        fit(settings, tmp_path / "run", device=CPU, observer=Silent())
