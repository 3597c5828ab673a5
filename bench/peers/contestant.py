"""What a contestant is given, what it gives back, and how it is found."""

import importlib
import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NOT_INSTALLED = "not installed: pip install 'sennet[bench]'"


@dataclass(frozen=True)
class Job:
    """One volume through one network.

    Attributes:
        volume: anything that `open_volume` opens.
        model: a bundle; its card says normalisation and threshold.
        mask: the TIFF file to write, 0/255; in its folder a contestant may leave what its next run can use.
        threads: to compute on.
    """

    volume: Path
    model: Path
    mask: Path
    threads: int


@dataclass(frozen=True)
class Outcome:
    """How long a job took, in seconds; importing libraries is not counted.

    Attributes:
        seconds: from opening the volume to the written mask, without loading the network.
        load_seconds: until the network was ready.
        stage_seconds: where the time went, where the contestant tells; stages may overlap.
        part_seconds: likewise, of what comes before and after the stages.
    """

    seconds: float
    load_seconds: float
    stage_seconds: dict[str, float] = field(default_factory=dict)
    part_seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Contestant:
    """One way to make a mask. Its module is imported when it runs, and not before.

    Attributes:
        name: for the command line.
        title: for the table.
        module: holds `run(job, **options) -> Outcome`.
        packages: modules that must be installed for it.
        options: its settings, which `run` gets.
        does: a sentence on how it comes to its mask.
        compiles: it needs the C++ compiler that torch calls.
        remembers: its first run finds out what later ones make use of.
    """

    name: str
    title: str
    module: str
    packages: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    does: str = ""
    compiles: bool = False
    remembers: bool = False

    @property
    def obstacle(self) -> str | None:
        """Why it cannot run here, and what to do; None where it can."""
        if any(importlib.util.find_spec(package) is None for package in self.packages):
            return NOT_INSTALLED
        if self.compiles and shutil.which(_compiler()) is None:
            return f"no C++ compiler: torch.compile needs {_compiler()}; install it or set CXX"
        return None

    def run(self, job: Job) -> Outcome:
        """Do the job, in this process."""
        outcome: Outcome = importlib.import_module(self.module).run(job, **self.options)
        return outcome


def _compiler() -> str:
    return os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
