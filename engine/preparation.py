"""Everything that is settled before the first tile is computed: survey, ensemble, plan, and what computes it."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from sennet_engine.card import Precision
from sennet_engine.computing import Computing, Task, device_choice_fits, on_processors, timed
from sennet_engine.ensemble import Ensemble
from sennet_engine.ensemble_file import OpenedEnsemble, Pass, expanded_passes, opened_ensemble
from sennet_engine.errors import ConfigError, DeviceError, EngineError, MissingExtraError, OutputError
from sennet_engine.gpu.choice import DeviceChoice, device_choices
from sennet_engine.pipeline.overflow import OverflowWatch
from sennet_engine.pipeline.worker import Worker
from sennet_engine.planning.cells import Occupancy, everywhere
from sennet_engine.planning.memory import MemoryFacts, ModelMemory
from sennet_engine.planning.passes import Plan
from sennet_engine.planning.planner import DEFAULT_BATCH, PlanRequest, make_plan, refuse_tile
from sennet_engine.predictor import Predictor
from sennet_engine.runtimes import AUTO, checked_threads, precision_from_text
from sennet_engine.settings import InferSettings
from sennet_engine.survey.occupancy import surveyed_occupancy
from sennet_engine.trial import RuntimeChoice
from sennet_engine.volumes.volume import Volume
from sennet_engine.window import Window, surveyed_window

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Interrupted:
    """What the finished part of an interrupted run was computed by: another's answers may differ by a grey level.

    Attributes:
        runtimes: by the keys of the plan's models.
        batch: tiles in a call; None where nothing was finished.
    """

    runtimes: Mapping[str, str] = field(default_factory=dict)
    batch: int | None = None


@dataclass(frozen=True)
class Prepared:
    """What a run starts from.

    Attributes:
        device: where it computes, and why, for people.
        workers: what computes; several share the slabs.
        choices: by the keys of the plan's models.
        model_memory: likewise, where it was measured: if a memory limit was given, or for an estimate.
        overflows: answers in place of models that overflow.
        seconds: of the survey, the plan, the trial and loading.
        warnings: for people.
    """

    opened: OpenedEnsemble
    passes: tuple[Pass, ...]
    window: Window
    plan: Plan
    device: str
    workers: tuple[Worker, ...]
    choices: Mapping[str, RuntimeChoice]
    model_memory: Mapping[str, ModelMemory]
    memory_facts: MemoryFacts
    overflows: OverflowWatch
    seconds: Mapping[str, float]
    warnings: list[str]
    request: PlanRequest

    @property
    def predictors(self) -> Mapping[str, Predictor]:
        """Those of the first worker, by the keys of the plan's models."""
        return self.workers[0].predictors

    def plan_without_skipping(self) -> Plan:
        """The plan as it would be were the organ everywhere."""
        return make_plan(self.passes, everywhere(self.plan.shape_zyx, reason="for comparison"), self.request)


@contextmanager
def prepared(
    volume: Volume,
    settings: InferSettings,
    *,
    measure_memory: bool = False,
    interrupted: Interrupted | None = None,
) -> Iterator[Prepared]:
    """Survey `volume`, plan the run and load the models; they are let go of at the end.

    Args:
        measure_memory: whether the models' memory is measured, though no limit was given.
        interrupted: what is gone on with, by the runtimes and in the batches of which it is.

    Raises:
        SennetError: see its subclasses.
    """
    with ExitStack() as loaded:
        yield _Preparation(volume, settings, measure_memory, interrupted or Interrupted()).on_the_best(loaded)


class _Preparation:
    def __init__(self, volume: Volume, settings: InferSettings, measure_memory: bool, interrupted: Interrupted) -> None:
        self._volume, self._settings, self._measure_memory = volume, settings, measure_memory
        self._interrupted = interrupted
        self._seconds: dict[str, float] = {}
        self._surveyed: tuple[Window, Occupancy] | None = None

    def on_the_best(self, loaded: ExitStack) -> Prepared:
        """On the first device that can be used, of those that may be tried."""
        checked_threads(self._settings.threads)
        if self._settings.precision != AUTO:
            precision_from_text(self._settings.precision)
        choices = device_choices(self._settings.device, self._settings.runtime)
        fitting = [one for one in choices if device_choice_fits(one, self._interrupted.runtimes)]
        if not fitting:
            names = ", ".join(sorted(set(self._interrupted.runtimes.values())))
            raise ConfigError(
                f"--resume: what is done was computed by {names}, and this run would be on {choices[0].reason}; give "
                f"--runtime {names.split(',')[0]}, or begin anew with --overwrite"
            )
        if self._interrupted.runtimes and not fitting[-1].gpus:
            fitting = [replace(fitting[-1], reason="cpu, where what is done was computed")]
        problems: list[str] = []
        for choice in fitting[:-1]:
            try:
                with ExitStack() as attempt:
                    ready = self._on(choice, problems, attempt)
                    loaded.push(attempt.pop_all())
                    return ready
            except (DeviceError, EngineError, MissingExtraError, OutputError) as error:
                logger.warning("%s: not used: %s", choice.reason, error)
                problems.append(f"{choice.runtime}: {error}")
        return self._on(fitting[-1], problems, loaded)

    def _on(self, choice: DeviceChoice, problems: list[str], loaded: ExitStack) -> Prepared:
        volume, settings = self._volume, self._settings
        opened, precision_reason = _opened(choice, settings)
        ensemble = _ensemble(opened, settings)
        passes = expanded_passes(
            ensemble,
            opened.bundles,
            shape_zyx=volume.shape_zyx,
            voxel_size_um=volume.voxel_size_um,
            scale_override=settings.scale,
            precision=opened.precision,
        )
        batch = settings.batch if settings.batch is not None else self._interrupted.batch
        request = _request(ensemble, opened, settings, batch)
        request.refuse_bad()
        window, occupancy = self._survey()
        task = Task(passes, occupancy, request, settings, volume.dtype, batch, self._measure_memory, self._seconds)
        computing = self._computing(task, choice, loaded)
        return Prepared(
            opened=replace(opened, ensemble=ensemble),
            passes=passes,
            window=window,
            plan=computing.plan,
            device="; ".join([choice.reason, *precision_reason, *problems]),
            workers=computing.workers,
            choices=computing.choices,
            model_memory=computing.model_memory,
            memory_facts=computing.memory_facts,
            overflows=computing.overflows,
            seconds=self._seconds,
            warnings=_warnings(volume, passes),
            request=computing.request,
        )

    def _computing(self, task: Task, choice: DeviceChoice, loaded: ExitStack) -> Computing:
        if not choice.gpus:
            if task.settings.cuda_graphs == "on":
                logger.warning("--cuda-graphs on does nothing here: %s", choice.reason)
            return on_processors(task, loaded, runtime=choice.runtime, runtimes=self._interrupted.runtimes)
        from sennet_engine.gpu.computing import on_gpus  # which needs packages that a machine without one lacks

        return on_gpus(task, loaded, choice)

    def _survey(self) -> tuple[Window, Occupancy]:
        """Once, however many devices are tried."""
        if self._surveyed is None:
            volume, settings = self._volume, self._settings
            with timed(self._seconds, "window"):
                window = settings.window or surveyed_window(volume)
            with timed(self._seconds, "occupancy"):
                self._surveyed = window, _occupancy(volume, window, settings)
        return self._surveyed


def _ensemble(opened: OpenedEnsemble, settings: InferSettings) -> Ensemble:
    """With the tile side that the command line asks for."""
    if settings.tile is None:
        return opened.ensemble
    if len(opened.bundles) > 1:
        raise ConfigError(
            f"tile: got {settings.tile} for {len(opened.bundles)} models; write `tile` into the passes of the ensemble"
        )
    card = next(iter(opened.bundles.values())).card
    refuse_tile(settings.tile, card.tiling, model=card.name)
    passes = [one.model_copy(update={"tile": settings.tile}) for one in opened.ensemble.passes]
    return opened.ensemble.model_copy(update={"passes": passes})


def _opened(choice: DeviceChoice, settings: InferSettings) -> tuple[OpenedEnsemble, list[str]]:
    """The ensemble in the precision that is asked for, or that suits the device; and why, where that is a choice."""

    def opened(precision: Precision) -> OpenedEnsemble:
        return opened_ensemble(settings.model, models=settings.models, precision=precision)

    if settings.precision != AUTO:
        return opened(precision_from_text(settings.precision)), []
    found = opened("fp32")
    if not choice.gpus:
        return found, []
    without = [
        bundle.card.name
        for bundle in found.bundles.values()
        if not any(file.kind == "onnx" and file.precision == "fp16" for file in bundle.card.files.values())
    ]
    if without:
        return found, [f"in fp32, since {', '.join(without)} holds no fp16 file"]
    return opened("fp16"), ["in fp16, as a GPU is fastest"]


def _request(ensemble: Ensemble, opened: OpenedEnsemble, settings: InferSettings, batch: int | None) -> PlanRequest:
    return PlanRequest(
        threshold=opened.threshold if settings.threshold is None else settings.threshold,
        min_voxels=ensemble.min_voxels if settings.min_voxels is None else settings.min_voxels,
        cascade_bound=ensemble.cascade.low_bound if ensemble.cascade else None,
        batch=DEFAULT_BATCH if batch is None else batch,
        slab_planes=settings.slab_planes,
        memory_bytes=settings.memory_bytes,
    )


def _occupancy(volume: Volume, window: Window, settings: InferSettings) -> Occupancy:
    if not settings.skip:
        return everywhere(volume.shape_zyx, reason="nothing is left out, as --no-skip asks for")
    return surveyed_occupancy(volume, window)


def _warnings(volume: Volume, passes: tuple[Pass, ...]) -> list[str]:
    """What a person should know of the result; logged, and kept in the summary."""
    messages = []
    trained = sorted({one.bundle.card.voxel_size_um for one in passes})
    if volume.voxel_size_um is None:
        sizes = " and ".join(f"{size:g}" for size in trained)
        messages.append(
            f"{volume.path} does not tell its voxel size: taken as the {sizes} µm that the model was trained for; "
            f"give it with --voxel-size"
        )
    for message in messages:
        logger.warning(message)
    return messages
