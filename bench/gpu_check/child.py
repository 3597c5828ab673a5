"""Run a command as a process of its own, and tell how it ended: a crash is an outcome too."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

# Of what a process said last; crashes of CUDA leave long ones.
WORDS_KEPT = 20_000


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        code: its exit code; None where it was stopped because its time was over.
        words: the last that it said on stdout and stderr.
    """

    code: int | None
    words: str
    seconds: float

    @property
    def succeeded(self) -> bool:
        """Whether its exit code is 0."""
        return self.code == 0

    @property
    def how(self) -> str:
        """For people."""
        if self.code is None:
            return f"was stopped after {self.seconds:.0f} s"
        if self.code < 0:
            return f"crashed: it was ended by {_signal_name(-self.code)}"
        return f"ended with exit code {self.code}"


def run_child(command: Sequence[str], *, seconds: float, environment: Mapping[str, str], folder: Path) -> Ended:
    """Run `command` in `folder` for at most that long.

    Args:
        environment: added to that of this process.
    """
    began = perf_counter()
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder,
            env=os.environ | environment, timeout=max(seconds, 0.0), check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        return Ended(None, _words(error.stdout or b""), perf_counter() - began)
    return Ended(done.returncode, _words(done.stdout), perf_counter() - began)


def _words(said: bytes) -> str:
    return said.decode(errors="replace")[-WORDS_KEPT:].strip()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
