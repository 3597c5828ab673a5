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


def precision_of(device: torch.device) -> torch.dtype:
    """bfloat16 where a GPU computes in it; float32 everywhere else. Half precision on a CPU is slower by far."""
    # Older GPUs emulate bfloat16, which is slower than float32.
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Computes in `precision_of` the device."""
    precision = precision_of(device)
    return nullcontext() if precision == torch.float32 else torch.autocast(device.type, dtype=precision)
