"""The machine that a check ran on: its GPUs, driver, packages and system."""

import ctypes
import platform
import subprocess
from dataclasses import dataclass

from sennet_bench.circumstances import circumstances, installed_versions
from sennet_engine.gpu.present import LIBRARY, Census

PACKAGES = (
    "sennet", "numpy", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-cu13-libs", "tensorrt-cu12-libs",
    "tensorrt-rtx", "cuda-core", "cuda-bindings", "nvidia-cuda-runtime", "nvidia-cudnn-cu13", "nvidia-cublas",
)  # fmt: skip
SECONDS_FOR_SMI = 20


@dataclass(frozen=True)
class Facts:
    """Of the machine.

    Attributes:
        gpus: one line each: "cuda:0 NVIDIA H100 80GB HBM3, compute capability 9.0, 79.1 GiB".
        why_none: why there is no GPU; else empty.
        driver: its version, and the newest CUDA that it knows.
        load: processes at work on the machine in the minute before.
        versions: of Python and of PACKAGES as far as they are installed.
    """

    gpus: list[str]
    why_none: str
    driver: str
    system: str
    processor: str
    processors: int
    load: float | None
    commit: str | None
    versions: dict[str, str]


def facts_of_machine(found: Census) -> Facts:
    """Those of this machine, whose driver told of the GPUs `found`."""
    now = circumstances()
    return Facts(
        gpus=[
            f"cuda:{gpu.index} {gpu.name}, compute capability {gpu.compute_capability}, "
            f"{gpu.memory_bytes / 2**30:.1f} GiB"
            for gpu in found.gpus
        ],
        why_none=found.why_none,
        driver=_driver() if found.gpus else "",
        system=_system(),
        processor=now.processor,
        processors=now.processors,
        load=now.load,
        commit=now.commit,
        versions=installed_versions(PACKAGES),
    )


def _driver() -> str:
    """The version as nvidia-smi tells it, where it is there, and the newest CUDA as the driver itself does."""
    told = []
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_FOR_SMI, check=True)
        told += [done.stdout.splitlines()[0].strip()]
    except (OSError, subprocess.SubprocessError, IndexError):
        told += ["nvidia-smi does not tell its version"]
    number = ctypes.c_int()
    if ctypes.CDLL(LIBRARY).cuDriverGetVersion(ctypes.byref(number)) == 0:
        told += [f"CUDA up to {number.value // 1000}.{number.value % 1000 // 10}"]
    return ", ".join(told)


def _system() -> str:
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        name = platform.system()
    return f"{name}, {platform.machine()}, {platform.release()}"
