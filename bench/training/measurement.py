"""Training beside a plain loop: crops in a second from the data path, steps in a second, memory, and the losses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Literal

from sennet_bench.circumstances import Circumstances, Watch, installed_versions
from sennet_bench.peers.child import ContestantError
from sennet_bench.training.child import run_in_child
from sennet_bench.training.job import TASKS, Answer, Contestant, Job, Task
from sennet_bench.training.settings import comparable, settings_of_the_builtin_model
from sennet_engine.errors import ConfigError
from sennet_engine.runtimes import usable_processors
from sennet_trainer.inputs import check_inputs
from sennet_trainer.labelled_volume import LabelledVolume, cached_volume
from sennet_trainer.settings import FitSettings, load_fit_settings

PACKAGES = ("torch", "accelerate", "segmentation-models-pytorch", "timm", "albumentations", "opencv-python-headless")


@dataclass(frozen=True)
class TrainingRequest:
    """What a person asks for.

    Attributes:
        config: settings of `sennet-train fit`; by default those of the built-in model, on a phantom.
        crops: of each pass of the data path.
        steps: of each training.
        workers: of the passes of the data path, and the last ones of the training too; by default none, then as many
            as the settings say.
        threads: by default all processors.
    """

    config: Path | None = None
    crops: int = 400
    steps: int = 20
    workers: Sequence[int] = ()
    repeats: int = 3
    threads: int | None = None


@dataclass(frozen=True)
class Run:
    """One task of one contestant in one round, which counts from 0."""

    round: int
    contestant: Contestant
    task: Task
    answer: Answer


@dataclass(frozen=True)
class TrainingMeasurement:
    """All runs.

    Attributes:
        config: the file's name; None where the settings are those of the built-in model.
        settings: of the network, the crops, the augmentation and the training, as all contestants had them.
        left_out: of the settings, since a plain loop has nothing like it.
        volumes_zyx: the shapes of the volumes that crops are drawn from.
        cache_seconds: for windowing the volumes once before the first round, which stands in no other figure.
        workers: of the passes of the data path; the training has the last one's.
        versions: of the packages that train.
    """

    config: str | None
    settings: dict[str, Any]
    left_out: list[str]
    volumes_zyx: list[tuple[int, int, int]]
    cache_seconds: float
    crops: int
    steps: int
    workers: list[int]
    rounds: int
    threads: int
    runs: list[Run]
    versions: dict[str, str]
    circumstances: Circumstances
    kind: Literal["train"] = "train"


def measure_training(
    request: TrainingRequest,
    *,
    run: Callable[[Job], Answer] = run_in_child,
    told: Callable[[str], None] = lambda _line: None,
) -> TrainingMeasurement:
    """Give each task to its contestants, one after the other, in `request.repeats` rounds.

    Args:
        run: where a task is done; by default in a new process each.
        told: called with a line before each run.

    Raises:
        ConfigError: numbers below 1, or settings that cannot be used.
        VolumeError: a volume of the settings cannot be used.
        ContestantError: a contestant failed, or they do not train the same network.
    """
    threads = usable_processors() if request.threads is None else request.threads
    _check(request, threads)
    watch = Watch()
    with TemporaryDirectory() as folder:
        whole = _settings(request, Path(folder), told)
        settings, left_out = comparable(whole, threads=threads)
        check_inputs(settings)
        _check_network(settings)
        began = perf_counter()
        cache = Path(folder) / "cache"
        volumes = [cached_volume(volume, cache) for volume in settings.volumes]
        cache_seconds = perf_counter() - began
        shapes = [_shape_zyx(volume) for volume in volumes]
        workers = list(dict.fromkeys(request.workers or (0, settings.training.workers)))
        turns = [(task, one) for task, contestants in TASKS.items() for one in contestants]
        runs = []
        for number in range(request.repeats):
            for task, contestant in turns:
                told(f"round {number + 1} of {request.repeats}: {task}, {contestant}")
                job = Job(contestant, task, settings, cache, request.crops, request.steps, workers, threads)
                runs.append(Run(number, contestant, task, run(job)))
    _check_same_network(runs)
    return TrainingMeasurement(
        config=request.config.name if request.config else None,
        settings=_told_settings(settings),
        left_out=left_out,
        volumes_zyx=shapes,
        cache_seconds=cache_seconds,
        crops=request.crops,
        steps=request.steps,
        workers=workers,
        rounds=request.repeats,
        threads=threads,
        runs=runs,
        versions=installed_versions(PACKAGES),
        circumstances=watch.circumstances(),
    )


def _check(request: TrainingRequest, threads: int) -> None:
    if min(request.crops, request.steps, request.repeats, threads) < 1:
        raise ConfigError(
            f"got {request.crops} crops, {request.steps} steps, {request.repeats} repeats and {threads} threads, "
            f"expected 1 or more of each"
        )
    if min(request.workers, default=0) < 0:
        raise ConfigError(f"--workers: got {min(request.workers)}, expected 0, for none, or more")


def _check_network(settings: FitSettings) -> None:
    """A slip in the settings costs no time. Raises ConfigError where the network does not take the crops."""
    from sennet_trainer.network import build_segmenter
    from sennet_trainer.trial import check_sides

    crops = settings.crops.model_copy(update={"per_epoch": settings.training.batch})  # all steps are whole ones
    check_sides(build_segmenter(settings.network), settings.model_copy(update={"crops": crops}))


def _check_same_network(runs: list[Run]) -> None:
    trained = {run.answer.steps.trained_parameters for run in runs if run.answer.steps}
    if len(trained) > 1:
        raise ContestantError(f"got networks of {sorted(trained)} parameters with a gradient, expected the same one")


def _settings(request: TrainingRequest, folder: Path, told: Callable[[str], None]) -> FitSettings:
    if request.config is not None:
        return load_fit_settings(request.config)
    told("makes a phantom")
    return settings_of_the_builtin_model(folder)


def _told_settings(settings: FitSettings) -> dict[str, Any]:
    parts = settings.model_dump(mode="json", include={"network", "crops", "augmentation", "training"})
    # Given otherwise, or of no consequence here.
    del parts["crops"]["per_epoch"]
    for name in ("epochs", "workers", "tensorboard"):
        del parts["training"][name]
    return parts


def _shape_zyx(volume: LabelledVolume) -> tuple[int, int, int]:
    planes, rows, columns = volume.images.shape
    return planes, rows, columns
