"""Which device trains, and in which precision."""

from contextlib import AbstractContextManager, nullcontext

import torch

from sennet_engine.errors import ConfigError


def device_from_name(name: str) -> torch.device:
    """`auto` (a GPU where there is one), `cpu` or `cuda`.

    Raises:
        ConfigError: another name, or there is no such device here.
    """
    known = {"auto": "cuda" if torch.cuda.is_available() else "cpu", "cpu": "cpu", "cuda": "cuda"}
    if name not in known:
        raise ConfigError(f"device: got {name!r}, expected one of {', '.join(known)}")
    if known[name] == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: got 'cuda', but torch finds no GPU here; try --device cpu")
    return torch.device(known[name])


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 where a GPU computes in it; float32 everywhere else. Half precision on a CPU is slower by far."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
