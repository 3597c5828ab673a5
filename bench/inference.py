"""`sennet-infer` and its `--dry-run` in a process of their own: what they took, what they told, what came out."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, TypeVar

from pydantic import TypeAdapter

from sennet_bench.mask_files import mask_sha256
from sennet_bench.peers.child import peak_mb
from sennet_bench.volume.consumption import Consumption, ConsumptionWatch
from sennet_engine.errors import SennetError
from sennet_engine.gpu.choice import device_choices
from sennet_engine.infer import dry_run, infer
from sennet_engine.results.assembly import MASK
from sennet_engine.settings import InferSettings

# The trial of the runtimes happens once on a machine, and is told apart from all other time.
TRIAL = "trial"

Answer = TypeVar("Answer", "Inference", "Forecast")


class InferenceError(SennetError):
    """A run in a process of its own that failed."""


@dataclass(frozen=True)
class Inference:
    """A run that ended; its output is where its settings say.

    Attributes:
        seconds: from opening the volume to the whole output, without the trial of the runtimes.
        trial_seconds: of the trial; hardly any where one was remembered, or not worth it.
        load_seconds: of `seconds`, until the networks were ready.
        network_seconds: of these, in which any network computed.
        peak_mb: the largest resident memory of its process, libraries included, in MB (10^6 bytes); None where the
            system does not tell (Linux does).
        tiles: that went through networks; `tiles_not_gone_on` were left out by a cascade.
        skipped_share: of the voxels, those left out as background.
        planes_resumed: that an interrupted run had done.
        mask_sha256: of the voxels of the mask.
        plan: for people: what was decided, and why.
        runtimes: likewise, by model, what computed it.
        stage_seconds, waiting_seconds: of the stages of the pipeline; see `Summary`.
        part_seconds: of what comes before and after the pipeline.
        consumption: of the machine from opening the volume to the whole output, with the trial of the runtimes.
    """

    seconds: float
    trial_seconds: float
    load_seconds: float
    network_seconds: float
    peak_mb: float | None
    tiles: int
    tiles_not_gone_on: int
    skipped_share: float
    planes_resumed: int
    mask_sha256: str
    plan: list[str]
    runtimes: dict[str, str] = field(default_factory=dict)
    stage_seconds: dict[str, float] = field(default_factory=dict)
    waiting_seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    part_seconds: dict[str, float] = field(default_factory=dict)
    consumption: Consumption = field(default_factory=Consumption)


@dataclass(frozen=True)
class Forecast:
    """What a dry run told.

    Attributes:
        seconds, peak_mb, tiles: to be expected of the run; the peak is None where the system does not tell.
        pixels: through networks; `pixels_without_skipping` were the organ everywhere.
        own_seconds: that the dry run took itself, without the trial of the runtimes.
        part_seconds: what `seconds` are made of; parts overlap.
    """

    seconds: float
    peak_mb: float | None
    tiles: int
    pixels: int
    pixels_without_skipping: int
    own_seconds: float
    part_seconds: dict[str, float]


def infer_in_child(volume: Path, settings: InferSettings, *, kill_after: float | None = None) -> Inference | None:
    """Run `infer`; None where it was killed, by SIGKILL, because it had not ended after `kill_after` seconds.

    Raises:
        InferenceError: it failed.
    """
    return _in_child(Inference, volume, settings, kill_after)


def finished_in_child(volume: Path, settings: InferSettings) -> Inference:
    """Run `infer` to its end. Raises InferenceError where it fails."""
    found = _in_child(Inference, volume, settings, None)
    assert found is not None
    return found


def forecast_in_child(volume: Path, settings: InferSettings) -> Forecast:
    """Run `dry_run`. Raises InferenceError where it fails."""
    found = _in_child(Forecast, volume, settings, None)
    assert found is not None
    return found


def infer_here(volume: Path, settings: InferSettings) -> Inference:
    """Run `infer` in this process, whose peak memory is then told. Raises SennetError where it fails."""
    gpus = [gpu.index for gpu in device_choices(settings.device, settings.runtime)[0].gpus]
    with ConsumptionWatch(gpus) as watch:
        summary = infer(volume, settings, on_planes=lambda _done, _planes: None)
    peak = peak_mb()
    trial = summary.seconds_by_part[TRIAL]
    return Inference(
        seconds=summary.seconds - trial,
        trial_seconds=trial,
        load_seconds=summary.seconds_by_part["load"],
        network_seconds=summary.stage_seconds["wall"] - summary.stage_seconds["outside_network"],
        peak_mb=peak,
        tiles=summary.tiles,
        tiles_not_gone_on=summary.tiles_not_gone_on,
        skipped_share=summary.skipped_share,
        planes_resumed=summary.planes_resumed,
        mask_sha256=mask_sha256(Path(summary.output) / MASK),
        plan=summary.plan,
        runtimes=summary.runtimes,
        stage_seconds=summary.stage_seconds,
        waiting_seconds=summary.waiting_seconds,
        part_seconds={name: seconds for name, seconds in summary.seconds_by_part.items() if name != TRIAL},
        consumption=watch.found,
    )


def forecast_here(volume: Path, settings: InferSettings) -> Forecast:
    """Run `dry_run` in this process. Raises SennetError where it fails."""
    began = perf_counter()
    estimate, ready = dry_run(volume, settings)
    took = perf_counter() - began
    return Forecast(
        seconds=estimate.seconds,
        peak_mb=estimate.memory_bytes / 1e6 or None,
        tiles=estimate.tiles,
        pixels=estimate.pixels,
        pixels_without_skipping=estimate.pixels_without_skipping or estimate.pixels,
        own_seconds=took - ready.seconds[TRIAL],
        part_seconds=dict(estimate.seconds_by_part),
    )


def _in_child(kind: type[Answer], volume: Path, settings: InferSettings, kill_after: float | None) -> Answer | None:
    with TemporaryDirectory() as folder:
        asked, answer = Path(folder) / "settings.json", Path(folder) / "answer.json"
        asked.write_bytes(TypeAdapter(InferSettings).dump_json(settings))
        program = [sys.executable, "-m", __name__, kind.__name__, str(volume), str(asked), str(answer)]
        try:
            done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=kill_after)
        except subprocess.TimeoutExpired:
            return None
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"ended with {done.returncode}"]
            raise InferenceError(f"{volume}: {lines[-1]}")
        return TypeAdapter(kind).validate_json(answer.read_bytes())


_TASKS: dict[str, Callable[[Path, InferSettings], Any]] = {
    Inference.__name__: infer_here,
    Forecast.__name__: forecast_here,
}


def _main(task: str, volume: str, asked: str, answer: str) -> None:
    settings = TypeAdapter(InferSettings).validate_json(Path(asked).read_bytes())
    found = _TASKS[task](Path(volume), settings)
    Path(answer).write_bytes(TypeAdapter(type(found)).dump_json(found))


if __name__ == "__main__":
    _main(*sys.argv[1:])
