"""Under which circumstances something was measured: a figure without them cannot be repeated."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sennet_engine.runtimes import usable_processors

CPU_FACTS = Path("/proc/cpuinfo")
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
    """

    date: str
    commit: str | None
    processor: str
    processors: int
    load: float | None
    versions: dict[str, str]

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        load = "" if self.load is None else f", load {self.load:.1f} at the start"
        commit = f", commit {self.commit}" if self.commit else ""
        return f"{self.processor}, {self.processors} processors{load}; {versions}; {self.date}{commit}."


def circumstances() -> Circumstances:
    """Those of this moment."""
    return Circumstances(
        date=datetime.now(UTC).date().isoformat(),
        commit=_commit(),
        processor=_processor(),
        processors=usable_processors(),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        versions=installed_versions(PACKAGES),
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


def _commit() -> str | None:
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")
