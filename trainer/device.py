"""Which device trains, and in which precision."""

from contextlib import AbstractContextManager, nullcontext

import torch

from sennet_engine.errors import ConfigError
from sennet_trainer.settings import Precision

DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


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


def precision_of(device: torch.device, wanted: Precision = "auto") -> torch.dtype:
    """The arithmetic of a network on `device`. `auto`: bfloat16 where a GPU computes in it, float32 everywhere else.

    Raises:
        ConfigError: the device does not compute in the wanted one.
    """
    able = _precisions_of(device)
    if wanted == "auto":
        return torch.bfloat16 if device.type == "cuda" and "bfloat16" in able else torch.float32
    if wanted not in able:
        raise ConfigError(
            f"training.precision: got {wanted!r}, expected one of {', '.join(able)} on this {device.type} device; "
            f'set precision = "auto"'
        )
    return DTYPES[wanted]


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Predicts in `precision_of` the device, whatever a network was trained in."""
    precision = precision_of(device)
    return nullcontext() if precision == torch.float32 else torch.autocast(device.type, dtype=precision)


def _precisions_of(device: torch.device) -> list[Precision]:
    if device.type != "cuda":
        return ["float32", "bfloat16"]  # half precision on a CPU is slower by far
    # Older GPUs emulate bfloat16, which is slower than float32.
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return ["float32", "bfloat16", "float16"]
    return ["float32", "float16"]
