"""Which precision a device trains in."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sennet_trainer.device import mixed_precision, precision_of
from sennet_trainer.fit import fit
from sennet_trainer.settings import FitSettings

from .conftest import CPU, Silent


@pytest.mark.parametrize("computes", [True, False])
def test_emulated_bfloat16_is_not_used(monkeypatch: pytest.MonkeyPatch, computes: bool) -> None:
    """Older GPUs emulate it, which torch counts as supported unless it is asked not to."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or computes
    )
    assert precision_of(torch.device("cuda")) == (torch.bfloat16 if computes else torch.float32)


def test_a_cpu_computes_in_float32() -> None:
    """Autocast stays off."""
    with mixed_precision(CPU):
        assert not torch.is_autocast_enabled("cpu")


def test_training_logs_its_precision(
    settings_of: Callable[..., FitSettings], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the device."""
    quick: dict[str, Any] = {"training": {"epochs": 1, "batch": 4}, "crops": {"side": 64, "per_epoch": 4}}
    with caplog.at_level(logging.INFO, "sennet_trainer"):
        fit(
            settings_of(**quick),
            tmp_path / "run",
            device=CPU,
            observer=Silent(),
        )
    assert "trains on cpu in torch.float32" in caplog.text
