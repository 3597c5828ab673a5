"""A volume from end to end: what `sennet-infer` takes and consumes, where the time goes, how good the mask is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from sennet_bench.circumstances import Circumstances, Watch
from sennet_bench.inference import Inference, finished_in_child
from sennet_bench.mask_files import scores_of, shape_with_truth
from sennet_engine.errors import ConfigError
from sennet_engine.results.assembly import MASK
from sennet_engine.runtimes import AUTO, usable_processors
from sennet_engine.settings import InferSettings
from sennet_engine.trial_memory import TrialMemory
from sennet_engine.volumes.open import open_volume

BUILTIN_NAME = "builtin"


@dataclass(frozen=True)
class VolumeEntry:
    """All runs of one model, each in a process of its own.

    Attributes:
        model: the name of the bundle or of the ensemble.
        first: before the rounds, which the others learn from: it tries runtimes, and builds engines for a GPU.
        runs: one for each round.
        surface_dice_0, dice: of the runs' masks against the truth; None without one, or where they are 0 / 0.
    """

    model: str
    first: Inference
    runs: list[Inference]
    surface_dice_0: list[float | None]
    dice: list[float | None]

    @property
    def same_mask(self) -> bool:
        """Whether all runs gave the same voxels, the first one counted."""
        return len({one.mask_sha256 for one in (self.first, *self.runs)}) == 1


@dataclass(frozen=True)
class VolumeMeasurement:
    """Runs of `sennet-infer` over one volume.

    Attributes:
        truth: the name of the file that masks were scored with.
        precision, runtime, device: as they were asked for.
        memory_bytes: the limit that was asked for.
    """

    volume: str
    shape_zyx: tuple[int, int, int]
    dtype: str
    truth: str | None
    entries: list[VolumeEntry]
    precision: str
    runtime: str
    device: str
    threads: int
    memory_bytes: int | None
    repeats: int
    circumstances: Circumstances
    kind: Literal["volume"] = "volume"


@dataclass(frozen=True)
class VolumeRequest:
    """What a person asks for.

    Attributes:
        models: bundles or ensembles; None is the built-in model.
        truth: a mask of the volume's shape.
        precision, runtime, device, memory_bytes: see InferSettings.
        threads: by default all processors.
    """

    volume: Path
    models: Sequence[Path | None] = (None,)
    truth: Path | None = None
    precision: str = AUTO
    runtime: str = AUTO
    device: str = AUTO
    threads: int | None = None
    memory_bytes: int | None = None
    repeats: int = 3


def measure_volume(request: VolumeRequest, *, told: Callable[[str], None] = lambda _line: None) -> VolumeMeasurement:
    """Run all models over the volume: once uncounted, then `repeats` rounds of them in turns.

    Args:
        told: called with a line before each run.

    Raises:
        ConfigError: numbers below 1, or two models of the same name.
        VolumeError: the volume or the truth cannot be read, or their shapes differ.
        InferenceError: a run failed.
    """
    threads = usable_processors() if request.threads is None else request.threads
    if min(request.repeats, threads) < 1:
        raise ConfigError(f"got {request.repeats} repeats and {threads} threads, expected 1 or more")
    names = [BUILTIN_NAME if model is None else model.stem for model in request.models]
    if len(set(names)) < len(names):
        raise ConfigError(f"model: got {', '.join(names)}, expected names that differ; rename a bundle or an ensemble")
    shape = shape_with_truth(request.volume, request.truth)
    with open_volume(request.volume) as opened:
        dtype = str(opened.dtype)
    watch = Watch()
    with TemporaryDirectory() as folder:
        models = zip(names, request.models, strict=True)
        records = [_Record(name, request, _settings(request, model, Path(folder), name)) for name, model in models]
        for number in range(request.repeats + 1):
            for record in records:
                told(f"{f'round {number} of {request.repeats}' if number else 'first run'}: {record.name}")
                record.run()
        entries = [record.entry() for record in records]
    return VolumeMeasurement(
        volume=request.volume.name,
        shape_zyx=shape,
        dtype=dtype,
        truth=request.truth.name if request.truth else None,
        entries=entries,
        precision=request.precision,
        runtime=request.runtime,
        device=request.device,
        threads=threads,
        memory_bytes=request.memory_bytes,
        repeats=request.repeats,
        circumstances=watch.circumstances(),
    )


class _Record:
    """Gathers the runs of one model."""

    def __init__(self, name: str, request: VolumeRequest, settings: InferSettings) -> None:
        self.name, self._request, self._settings = name, request, settings
        self._runs: list[Inference] = []
        self._scores: dict[str, tuple[float | None, float | None]] = {}

    def run(self) -> None:
        """Once more; a mask that was not there yet is scored."""
        found = finished_in_child(self._request.volume, self._settings)
        if found.mask_sha256 not in self._scores:
            self._scores[found.mask_sha256] = scores_of(Path(str(self._settings.out)) / MASK, self._request.truth)
        self._runs.append(found)

    def entry(self) -> VolumeEntry:
        """All of them."""
        first, *runs = self._runs
        surface_dice_0, dice = zip(*(self._scores[one.mask_sha256] for one in runs), strict=True)
        return VolumeEntry(self.name, first, runs, list(surface_dice_0), list(dice))


def _settings(request: VolumeRequest, model: Path | None, folder: Path, name: str) -> InferSettings:
    return InferSettings(
        model=model, out=folder / name, overwrite=True, precision=request.precision, runtime=request.runtime,
        device=request.device, threads=request.threads, memory_bytes=request.memory_bytes,
        trials=TrialMemory(folder / "trials.json"), engine_cache=folder / "engines",
    )  # fmt: skip
