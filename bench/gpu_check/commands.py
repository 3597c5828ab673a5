"""`sennet-infer` as a person runs it, in processes of their own that must end by a common deadline."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from sennet_bench.gpu_check.child import Ended, run_child
from sennet_engine.results.assembly import MASK
from sennet_engine.storage.work_folder import JOURNAL
from sennet_engine.summary import SUMMARY_NAME

INFER = (sys.executable, "-c", "from sennet_engine.cli.infer import main; main()")
LONGEST_SECONDS = 240.0
# How often a run that is to be killed is looked at.
LOOK_SECONDS = 0.005


class OutOfTimeError(Exception):
    """The time of the whole check is over."""


@dataclass(frozen=True)
class Place:
    """Where the processes of a check work.

    Attributes:
        folder: of their files.
        volume: to segment.
        model: a copy of the bundle of its own, so that engines are built anew.
        deadline: by the clock `monotonic`.
    """

    folder: Path
    volume: Path
    model: Path
    deadline: float

    @property
    def environment(self) -> Mapping[str, str]:
        """Keeps what earlier runs of this user remembered out of the check."""
        own = str(self.folder / "settings")
        return {"XDG_CONFIG_HOME": own, "XDG_CACHE_HOME": own, "APPDATA": own, "PYTHONFAULTHANDLER": "1"}

    def seconds_left(self) -> float:
        """For the next process. Raises OutOfTimeError where none is left."""
        left = self.deadline - monotonic()
        if left <= 0:
            raise OutOfTimeError
        return min(left, LONGEST_SECONDS)

    def run(self, *command: str) -> Ended:
        """Run a command until its end, its own limit or the deadline. Raises OutOfTimeError."""
        return run_child(command, seconds=self.seconds_left(), environment=self.environment, folder=self.folder)


def infer(place: Place, name: str, *options: str) -> Ended:
    """Run `sennet-infer` over the volume; the result is the folder `name`. Raises OutOfTimeError."""
    return place.run(*_command(place, name, "--overwrite", *options))


def resume(place: Place, name: str, *options: str) -> Ended:
    """Go on with a run that was killed. Raises OutOfTimeError."""
    return place.run(*_command(place, name, "--resume", *options))


def killed_midway(place: Place, name: str, *options: str, units: int) -> Ended | None:
    """Kill `sennet-infer` by SIGKILL once it has finished so many slabs; how it ended where it did before that.

    Raises:
        OutOfTimeError: it did not come so far in time.
    """
    began = monotonic()
    end = began + place.seconds_left()
    journal, said = place.folder / f".{name}.work" / JOURNAL, place.folder / f"{name}.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            _command(place, name, "--overwrite", *options), stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, cwd=place.folder, env=os.environ | place.environment,
        )  # fmt: skip
        try:
            while process.poll() is None and monotonic() < end:
                if _lines(journal) > units:  # the first line is of the plan
                    process.kill()
                    if process.wait() == -signal.SIGKILL:
                        return None
                    break
                sleep(LOOK_SECONDS)
            if process.returncode is None:
                raise OutOfTimeError
            words = said.read_text(encoding="utf-8", errors="replace")
            return Ended(process.returncode, words, monotonic() - began)
        finally:
            process.kill()
            process.wait()


def summary_of(place: Place, name: str) -> dict[str, Any]:
    """What a run that ended tells of itself."""
    told: dict[str, Any] = json.loads((place.folder / name / SUMMARY_NAME).read_text(encoding="utf-8"))
    return told


def mask_of(place: Place, name: str) -> Path:
    """The mask of a run that ended."""
    return place.folder / name / MASK


def _command(place: Place, name: str, *options: str) -> tuple[str, ...]:
    return (
        *INFER, str(place.volume), "--out", str(place.folder / name), "--model", str(place.model), "--quiet", *options,
    )  # fmt: skip


def _lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except OSError:
        return 0
