"""Where a run computes: on the processors, or on which GPUs and by which runtime."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from sennet_engine.errors import ConfigError, DeviceError, MissingExtraError
from sennet_engine.gpu.present import Census, Gpu, census
from sennet_engine.runtimes import AUTO, RUNTIMES

CPU, CUDA = "cpu", "cuda"
# The distribution that a GPU runtime needs and the extra that installs it; the best first.
GPU_RUNTIMES = {
    "tensorrt": ("tensorrt", "gpu"),
    "tensorrt-rtx": ("tensorrt-rtx", "rtx"),
    "onnxruntime-cuda": ("onnxruntime-gpu", "gpu"),
    "onnxruntime-tensorrt": ("onnxruntime-gpu", "gpu"),
}
# onnxruntime's TensorRT provider builds its engines anew at every start: only where it is asked for.
USUAL_GPU_RUNTIMES = ("tensorrt", "tensorrt-rtx", "onnxruntime-cuda")
STREAMS = "cuda-core"


@dataclass(frozen=True)
class DeviceChoice:
    """Where a run computes.

    Attributes:
        gpus: none means the processors.
        runtime: a name of GPU_RUNTIMES; on the processors a name of RUNTIMES, or `auto`.
        reason: for people: what was chosen, and why.
    """

    gpus: tuple[Gpu, ...]
    runtime: str
    reason: str


def device_choices(device: str, runtime: str) -> list[DeviceChoice]:
    """What to try, the best first; where nothing else is to be tried, a single one.

    A GPU that was asked for, by `device` or by a runtime that needs one, is never replaced by the processors.

    Args:
        device: `auto`, `cpu`, `cuda` (the first GPU), or several: `cuda:0,cuda:1`.
        runtime: `auto`, or a name of RUNTIMES or of GPU_RUNTIMES.

    Raises:
        ConfigError: no such device or runtime, or a runtime that does not compute there.
        DeviceError: a GPU was asked for and is not there.
        MissingExtraError: a GPU was asked for, and what computes on it is not installed.
    """
    indices = _indices(device)
    if runtime not in (AUTO, *RUNTIMES, *GPU_RUNTIMES):
        raise ConfigError(
            f"runtime: got {runtime!r}, expected {AUTO} or one of {', '.join([*RUNTIMES, *GPU_RUNTIMES])}"
        )
    if device == CPU and runtime in GPU_RUNTIMES:
        raise ConfigError(f"device: got cpu with the runtime {runtime}, which needs a GPU; take --device cuda")
    if indices and runtime in RUNTIMES:
        raise ConfigError(
            f"device: got {device} with the runtime {runtime}, which computes on processors; take --runtime auto"
        )
    if device == CPU:
        return [DeviceChoice((), runtime, "cpu: as --device says")]
    if runtime in RUNTIMES:
        return [DeviceChoice((), runtime, f"cpu: where {runtime} computes")]
    found = census()
    if indices or runtime in GPU_RUNTIMES:
        gpus = _asked_for(indices or (0,), found)
        return list(_on_gpus(gpus, runtime))
    if not found.gpus:
        return [DeviceChoice((), runtime, f"cpu: {found.why_none}")]
    try:
        choices = list(_on_gpus(found.gpus[:1], runtime))
    except MissingExtraError as error:
        return [DeviceChoice((), runtime, f"cpu, although {found.gpus[0].name} is there: {error}")]
    return [*choices, DeviceChoice((), runtime, "cpu, since the GPU could not be used")]


def _indices(device: str) -> tuple[int, ...]:
    """Of the GPUs that are named; none for `auto` and `cpu`."""
    if device in (AUTO, CPU):
        return ()
    if device == CUDA:
        return (0,)
    found = [re.fullmatch(rf"{CUDA}:(\d{{1,3}})", part.strip()) for part in device.split(",")]
    indices = tuple(int(one[1]) for one in found if one)
    if len(indices) < len(found) or len(set(indices)) < len(indices):
        raise ConfigError(
            f"device: got {device!r}, expected auto, cpu, cuda, or GPUs by number, each once: cuda:0,cuda:1"
        )
    return indices


def _asked_for(indices: tuple[int, ...], found: Census) -> tuple[Gpu, ...]:
    if not found.gpus:
        raise DeviceError(f"a GPU was asked for, and {found.why_none}; take --device cpu, or mend that")
    there = {gpu.index: gpu for gpu in found.gpus}
    if missing := [index for index in indices if index not in there]:
        named = ", ".join(f"{CUDA}:{gpu.index} ({gpu.name})" for gpu in found.gpus)
        raise DeviceError(f"device: got {CUDA}:{missing[0]}, expected one of {named}")
    return tuple(there[index] for index in indices)


def _on_gpus(gpus: tuple[Gpu, ...], runtime: str) -> Iterator[DeviceChoice]:
    """By every runtime that is installed, or the one that is asked for."""
    names = ", ".join(f"{CUDA}:{gpu.index} ({gpu.name})" for gpu in gpus)
    wanted = USUAL_GPU_RUNTIMES if runtime == AUTO else (runtime,)
    installed = {one: _version(GPU_RUNTIMES[one][0]) for one in wanted}
    usable = [one for one in wanted if installed[one]]
    if not usable:
        package, extra = GPU_RUNTIMES[wanted[0]]
        others = " or 'sennet[rtx]'" if runtime == AUTO else ""
        raise MissingExtraError(f"{package} is not installed; run: pip install 'sennet[{extra}]'{others}")
    if not _version(STREAMS):
        extra = GPU_RUNTIMES[usable[0]][1]
        raise MissingExtraError(f"{STREAMS} is not installed; run: pip install 'sennet[{extra}]'")
    for one in usable:
        yield DeviceChoice(gpus, one, f"{names}, by {one} {installed[one]}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
