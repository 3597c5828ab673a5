"""Run a task of `sennet-bench train` in a process of its own, so that no memory or threads weigh on another."""

import importlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import TypeAdapter

from sennet_bench.peers.child import ContestantError, peak_mb
from sennet_bench.training.job import OURS, PLAIN, TUNED, Answer, Contestant, Job
from sennet_engine.errors import SennetError

MODULES: dict[Contestant, str] = {
    OURS: "sennet_bench.training.ours",
    PLAIN: "sennet_bench.training.plain",
    TUNED: "sennet_bench.training.plain",
}


def run_in_child(job: Job) -> Answer:
    """Do `job` in a new process.

    Raises:
        ContestantError: it failed.
    """
    with TemporaryDirectory() as folder:
        asked, answer = Path(folder) / "job.json", Path(folder) / "answer.json"
        asked.write_bytes(TypeAdapter(Job).dump_json(job))
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(asked), str(answer)], capture_output=True, text=True, check=False,
            env={**os.environ, "OMP_NUM_THREADS": str(job.threads)},
        )  # fmt: skip
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
            raise ContestantError(f"{job.contestant}, {job.task}: {lines[-1]}")
        return TypeAdapter(Answer).validate_json(answer.read_bytes())


def run_here(job: Job) -> Answer:
    """Do `job` in this process, whose peak memory is then told. Raises SennetError where it fails."""
    contestant = importlib.import_module(MODULES[job.contestant])
    found = getattr(contestant, job.task)(job)
    answer = Answer(crops=found) if job.task == "crops" else Answer(steps=found)
    return replace(answer, peak_mb=peak_mb())


def _main(asked: str, answer: str) -> None:
    import cv2
    import torch

    from sennet_trainer.allocator import keep_freed_memory

    job = TypeAdapter(Job).validate_json(Path(asked).read_bytes())
    torch.set_num_threads(job.threads)
    cv2.setNumThreads(job.threads)
    if job.contestant != PLAIN:
        keep_freed_memory()  # as `sennet-train fit` does, and as others do by loading jemalloc
    try:
        found = run_here(job)
    except SennetError as error:
        sys.exit(str(error))
    Path(answer).write_bytes(TypeAdapter(Answer).dump_json(found))


if __name__ == "__main__":
    _main(*sys.argv[1:])
