"""TensorBoard's curves are an option."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sennet_engine.errors import MissingExtraError
from sennet_trainer.fit import fit
from sennet_trainer.progress import Progress
from sennet_trainer.settings import FitSettings

from .conftest import CPU, Silent, StopsAfter

SettingsOf = Callable[..., FitSettings]

TWO_EPOCHS: dict[str, Any] = {"epochs": 2, "batch": 4}
FEW: dict[str, Any] = {"side": 64, "per_epoch": 8}


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    """What TensorBoard shows as the curve `name`."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = EventAccumulator(str(folder))
    shown.Reload()
    return [(event.step, event.value) for event in shown.Scalars(name)]


def losses_of(progress: Progress) -> list[tuple[int, float]]:
    return [(row.epoch, pytest.approx(row.loss)) for row in progress.rows]


def test_curves_have_every_epoch_once_also_after_an_interruption(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Even where the option was switched on in between: it does not change the result, so it is free."""
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        fit(settings_of(training=TWO_EPOCHS, crops=FEW), run, device=CPU, observer=StopsAfter(1))
    assert not (run / "tensorboard").exists()
    settings = settings_of(training=TWO_EPOCHS | {"tensorboard": True}, crops=FEW)
    progress = fit(settings, run, device=CPU, observer=Silent())
    assert curve(run / "tensorboard", "loss") == losses_of(progress)
    assert len(curve(run / "tensorboard", "surface_dice")) == 2


def test_a_new_run_has_its_own_curves_only(settings_of: SettingsOf, tmp_path: Path) -> None:
    """--overwrite deletes those of the run before."""
    run = tmp_path / "run"
    fit(settings_of(training=TWO_EPOCHS | {"tensorboard": True}, crops=FEW), run, device=CPU, observer=Silent())
    one_epoch = settings_of(training={"epochs": 1, "batch": 4, "tensorboard": True}, crops=FEW)
    progress = fit(one_epoch, run, device=CPU, observer=Silent(), overwrite=True)
    assert curve(run / "tensorboard", "loss") == losses_of(progress)
    fit(settings_of(training=TWO_EPOCHS, crops=FEW), run, device=CPU, observer=Silent(), overwrite=True)
    assert not (run / "tensorboard").exists()


def test_missing_tensorboard_is_said_before_the_training(
    settings_of: SettingsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that installs it; no run folder appears."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    settings = settings_of(training={"epochs": 1, "batch": 4, "tensorboard": True})
    with pytest.raises(MissingExtraError, match=r"pip install 'sennet\[tensorboard\]'"):
        fit(settings, tmp_path / "run", device=CPU, observer=Silent())
    assert not (tmp_path / "run").exists()
