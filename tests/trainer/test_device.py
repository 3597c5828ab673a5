"""Which precision a device trains in."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sennet_engine.errors import ConfigError
from sennet_trainer.device import mixed_precision, precision_of
from sennet_trainer.fit import fit
from sennet_trainer.losses.table import LOSSES
from sennet_trainer.settings import FitSettings, Precision

from .conftest import CPU, Silent


@pytest.mark.parametrize("computes", [True, False])
def test_emulated_bfloat16_is_not_used(monkeypatch: pytest.MonkeyPatch, computes: bool) -> None:
    """Older GPUs emulate it, which torch counts as supported unless it is asked not to."""
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or computes
    )
    assert precision_of(torch.device("cuda")) == (torch.bfloat16 if computes else torch.float32)


@pytest.mark.parametrize(
    ("device", "bfloat16", "wanted", "expected"),
    [
        ("cpu", False, "auto", torch.float32),
        ("cpu", False, "float32", torch.float32),
        ("cpu", False, "bfloat16", torch.bfloat16),
        ("cpu", False, "float16", "expected one of float32, bfloat16 on this cpu"),
        ("cuda", True, "auto", torch.bfloat16),
        ("cuda", True, "float32", torch.float32),
        ("cuda", True, "float16", torch.float16),
        ("cuda", False, "auto", torch.float32),
        ("cuda", False, "bfloat16", "got 'bfloat16', expected one of float32, float16 on this cuda"),
        ("cuda", False, "float16", torch.float16),
    ],
)
def test_precision_is_the_wanted_one_where_the_device_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, device: str, bfloat16: bool, wanted: Precision, expected: torch.dtype | str
) -> None:
    """An older GPU has float16 but no bfloat16; a CPU no fast float16. Nothing is replaced in silence."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bfloat16)
    if isinstance(expected, str):
        with pytest.raises(ConfigError, match=expected):
            precision_of(torch.device(device), wanted)
    else:
        assert precision_of(torch.device(device), wanted) == expected


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_the_network_trains_in_the_precision_of_the_settings(
    settings_of: Callable[..., FitSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """Its weights and the loss stay in float32."""
    seen: list[torch.dtype] = []

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.append(logits.dtype)
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)

    def computed(module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        if module.training and isinstance(module, torch.nn.Conv2d):
            seen.append(output.dtype)

    monkeypatch.setitem(LOSSES, "bce", loss)
    settings = settings_of(
        volumes=[settings_of().volumes[0].model_dump()],
        crops={"side": 64, "per_epoch": 4},
        training={"epochs": 1, "batch": 4, "loss": "bce", "precision": precision},
    )
    handle = torch.nn.modules.module.register_module_forward_hook(computed)
    try:
        fit(settings, tmp_path / "run", device=CPU, observer=Silent())
    finally:
        handle.remove()
    assert seen[-1] == torch.float32
    assert set(seen[:-1]) == {getattr(torch, precision)}
    assert all(value.dtype != torch.bfloat16 for value in load_file(tmp_path / "run" / "network.safetensors").values())


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
