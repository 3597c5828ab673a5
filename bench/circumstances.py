"""Under which circumstances something was measured: a figure without them cannot be repeated."""

import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import numpy as np

from sennet_engine.gpu.present import census
from sennet_engine.runtimes import usable_processors

CPU_FACTS = Path("/proc/cpuinfo")
MEMORY_FACTS = Path("/proc/meminfo")
PROCESSOR_TIMES = Path("/proc/stat")
# A product of square float32 matrices of this side, again and again for so long.
MATRIX_SIDE, MATRIX_SECONDS = 1024, 0.2
PACKAGES = ("sennet", "numpy", "onnxruntime", "openvino", "torch", "monai", "nnunetv2")


@dataclass(frozen=True)
class Circumstances:
    """Of one measurement.

    Attributes:
        date: the day it began, in UTC.
        commit: of the checkout that the code lies in, with `+` where files differ from it; None outside of one.
        processor, processors: its name, and how many of its cores this process may use.
        load: processes that ran or waited on the machine in the minute before it began; None where nothing tells.
        versions: of python and of PACKAGES as far as they are installed.
        memory_gb: of the machine, in 10^9 bytes; None where nothing tells.
        gpus: their names.
        matrix_gflops: what the processors gave, in 10^9 operations of float32 in a second, for a product of matrices by
            numpy before the measurement and after it; empty in files that do not tell.
        others_share: of the processors' time meanwhile, what other programs, or other machines on the same hardware,
            took; None where nothing tells (Linux does).
    """

    date: str
    commit: str | None
    processor: str
    processors: int
    load: float | None
    versions: dict[str, str]
    memory_gb: float | None = None
    gpus: list[str] = field(default_factory=list)
    matrix_gflops: list[float] = field(default_factory=list)
    others_share: float | None = None

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        commit = f", commit {self.commit}" if self.commit else ""
        return f"{', '.join(self.machine())}; {versions}; {self.date}{commit}."

    def machine(self) -> list[str]:
        """What it was and how busy, for people."""
        told = [self.processor, f"{self.processors} processors"]
        if self.memory_gb is not None:
            told.append(f"{self.memory_gb:.0f} GB")
        told += self.gpus
        if self.matrix_gflops:
            told.append(f"{' and '.join(f'{one:.0f}' for one in self.matrix_gflops)} GFLOP/s in matrix products before "
                        "and after")  # fmt: skip
        if self.load is not None:
            told.append(f"load {self.load:.1f} at the start")
        if self.others_share is not None:
            told.append(f"others took {self.others_share:.0%} of the processors meanwhile")
        return told


class Watch:
    """Watches the machine from its making on, while something is measured."""

    def __init__(self) -> None:
        self._before = replace(circumstances(), matrix_gflops=[matrix_gflops()])
        self._times = _processor_seconds()

    def circumstances(self) -> Circumstances:
        """Those of the measurement, which has just ended."""
        share = None
        if self._times and (now := _processor_seconds()):
            whole, busy, own = (after - before for after, before in zip(now, self._times, strict=True))
            share = round(min(max((busy - own) / whole, 0.0), 1.0), 3) if whole > 0 else None
        gflops = [*self._before.matrix_gflops, matrix_gflops()]
        return replace(self._before, matrix_gflops=gflops, others_share=share)


def matrix_gflops() -> float:
    """10^9 operations of float32 in a second, on all processors: the fastest of a moment's matrix products by numpy."""
    matrix = np.ones((MATRIX_SIDE, MATRIX_SIDE), np.float32)
    began = perf_counter()
    fastest = float("inf")
    while perf_counter() - began < MATRIX_SECONDS:
        started = perf_counter()
        matrix @ matrix
        fastest = min(fastest, perf_counter() - started)
    return round(2 * MATRIX_SIDE**3 / fastest / 1e9, 1)


def circumstances() -> Circumstances:
    """Those of this moment."""
    return Circumstances(
        date=datetime.now(UTC).date().isoformat(),
        commit=_commit(),
        processor=_processor(),
        processors=usable_processors(),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        versions=installed_versions(PACKAGES),
        memory_gb=_memory_gb(),
        gpus=[gpu.name for gpu in census().gpus],
    )


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Of python and of those of `packages` that are installed."""
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _processor() -> str:
    facts = CPU_FACTS.read_text(encoding="utf-8") if CPU_FACTS.exists() else ""
    names = [line.partition(":")[2].strip() for line in facts.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    facts = MEMORY_FACTS.read_text(encoding="utf-8") if MEMORY_FACTS.exists() else ""
    found = re.search(r"MemTotal:\s+(\d+) kB", facts)
    return round(int(found[1]) * 1024 / 1e9, 1) if found else None


def _processor_seconds() -> tuple[float, float, float] | None:
    """So far, over all processors: all seconds, those that were not idle, and of these our own with ended children."""
    if not PROCESSOR_TIMES.exists():
        return None
    # user, nice, system, idle, iowait, irq, softirq, steal; guests are in user already
    ticks = [int(word) for word in PROCESSOR_TIMES.read_text(encoding="utf-8").split("\n")[0].split()[1:9]]
    per_second = os.sysconf("SC_CLK_TCK")
    idle = sum(ticks[3:5])
    return sum(ticks) / per_second, (sum(ticks) - idle) / per_second, sum(os.times()[:4])


def _commit() -> str | None:
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
