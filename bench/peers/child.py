"""Run a contestant in a process of its own, so that neither memory nor threads of one weigh on another."""

import importlib
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sennet_bench.peers.contestant import Contestant, Job, Outcome
from sennet_engine.errors import SennetError

STATUS = Path("/proc/self/status")


class ContestantError(SennetError):
    """A contestant that ended without a mask."""


@dataclass(frozen=True)
class Run:
    """An outcome, and what it cost the process.

    Attributes:
        cpu_seconds: of the processors, over all threads, loading the network counted.
        peak_mb: its largest resident memory, libraries included, in MB (10^6 bytes); None where the system does not
            tell (Linux does).
    """

    outcome: Outcome
    cpu_seconds: float
    peak_mb: float | None


def run_in_child(contestant: Contestant, job: Job) -> Run:
    """Run `contestant` in a new process.

    What torch compiles is kept beside the mask: a contestant's later runs find it, and no other's do.

    Raises:
        ContestantError: it failed.
    """
    with TemporaryDirectory() as folder:
        answer, request = Path(folder) / "answer.json", {"contestant": asdict(contestant), "job": asdict(job)}
        program = [sys.executable, "-m", __name__, json.dumps(request, default=str), str(answer)]
        done = subprocess.run(
            program, capture_output=True, text=True, check=False,
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(job.threads),
                "TORCHINDUCTOR_CACHE_DIR": str(job.mask.with_name(f"compiled-{contestant.name}")),
            },
        )  # fmt: skip
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
            raise ContestantError(f"{contestant.title}: {lines[-1]}")
        found = json.loads(answer.read_text(encoding="utf-8"))
    return Run(Outcome(**found["outcome"]), found["cpu_seconds"], found["peak_mb"])


def run_here(contestant: Contestant, job: Job) -> Run:
    """Run `contestant` in this process."""
    importlib.import_module(contestant.module)  # outside of what is timed
    began = time.process_time()
    outcome = contestant.run(job)
    return Run(outcome, time.process_time() - began, peak_mb())


def peak_mb() -> float | None:
    """The largest resident memory of this process so far. Not ru_maxrss, which a child takes over from its parent."""
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text()) if STATUS.exists() else None
    return int(found[1]) * 1024 / 1e6 if found else None


def _main(request: str, answer: str) -> None:
    table = json.loads(request)
    volume, model, mask = (Path(table["job"][key]) for key in ("volume", "model", "mask"))
    job = Job(volume, model, mask, threads=table["job"]["threads"])
    ran = run_here(Contestant(**table["contestant"]), job)
    Path(answer).write_text(json.dumps(asdict(ran)), encoding="utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])
