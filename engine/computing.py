"""Load the models of a run where they will compute: on the processors, or on GPUs."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from time import perf_counter
from types import MappingProxyType

import numpy as np

from sennet_engine.device.host import HostDevice
from sennet_engine.ensemble_file import Pass
from sennet_engine.gpu.choice import DeviceChoice
from sennet_engine.pipeline.overflow import OverflowWatch
from sennet_engine.pipeline.stream_pipeline import RING
from sennet_engine.pipeline.worker import Worker
from sennet_engine.planning.cells import Occupancy
from sennet_engine.planning.memory import MemoryFacts, ModelMemory, memory_needed, model_memory
from sennet_engine.planning.passes import Plan
from sennet_engine.planning.planner import PlanRequest, make_plan, smallest_plan
from sennet_engine.planning.tile_counts import Shape, costliest_shape, largest_shape, tile_counts
from sennet_engine.predictor import Predictor
from sennet_engine.resident import release_freed_memory, resident_bytes
from sennet_engine.runtimes import AUTO, RUNTIMES, checked_threads, open_predictor
from sennet_engine.settings import InferSettings
from sennet_engine.trial import RuntimeChoice, chosen_runtime

logger = logging.getLogger(__name__)

# Large enough to tell runtimes apart, and small enough that a trial is short.
LARGEST_TRIAL_SIDE = 640

OpenInFp32 = Callable[[], Predictor]


@dataclass(frozen=True)
class Task:
    """What is to be computed.

    Attributes:
        dtype: of the volume.
        batch: tiles in a call, where that is settled already; None leaves it to what computes.
        measure_memory: whether what the models hold is to be measured, though no limit was given.
        seconds: of the parts of the preparation; they are added to.
    """

    passes: tuple[Pass, ...]
    occupancy: Occupancy
    request: PlanRequest
    settings: InferSettings
    dtype: np.dtype[np.generic]
    batch: int | None
    measure_memory: bool
    seconds: dict[str, float]

    @property
    def by_model(self) -> dict[str, Pass]:
        """A pass of each model, by its key."""
        return {one.key: one for one in self.passes}


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds of the block to those of `name`."""
    began = perf_counter()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + perf_counter() - began


@dataclass(frozen=True)
class Computing:
    """The models of a plan, loaded.

    Attributes:
        plan: with the batch and the tile sides that suit what computes.
        workers: what computes; several share the slabs.
        choices: how each model is computed, by its key.
        model_memory: likewise, where it was measured: if a memory limit was given, or for an estimate.
    """

    plan: Plan
    request: PlanRequest
    workers: tuple[Worker, ...]
    choices: Mapping[str, RuntimeChoice]
    memory_facts: MemoryFacts
    overflows: OverflowWatch
    model_memory: Mapping[str, ModelMemory] = field(default_factory=lambda: MappingProxyType({}))


def on_processors(task: Task, loaded: ExitStack, *, runtime: str, runtimes: Mapping[str, str]) -> Computing:
    """Choose a runtime for each model, by a trial where that pays, and load it; `loaded` lets go of them.

    Args:
        runtime: a name of RUNTIMES, or `auto`.
        runtimes: by the keys of the models, what takes the place of `auto`.

    Raises:
        SennetError: see `chosen_runtime` and `make_plan`.
    """
    settings, request, limited = task.settings, task.request, task.settings.memory_bytes is not None
    threads, base = checked_threads(settings.threads), resident_bytes()
    with timed(task.seconds, "plan"):
        # Under a limit the models are first tried and measured with what they need least for.
        plan = (smallest_plan if limited else make_plan)(task.passes, task.occupancy, request)
    choices: dict[str, RuntimeChoice] = {}
    predictors: dict[str, Predictor] = {}
    held: dict[str, ModelMemory] = {}
    for key, one in task.by_model.items():
        shape, before = _trial_shape(plan, one, limited=limited), resident_bytes()
        with timed(task.seconds, "trial"):
            choices[key] = chosen_runtime(
                one.bundle, one.precision, tile_shape=shape, batch=request.batch, threads=threads,
                memory=settings.trials, tiles=_pixels(plan, key) / (shape[0] * shape[1]),
                runtime=runtimes.get(key, AUTO) if runtime == AUTO else runtime,
                workspace_bytes=settings.memory_bytes,
            )  # fmt: skip
        # What a trial leaves behind would be taken for room that the model does not need.
        release_freed_memory()
        with timed(task.seconds, "load"):
            predictors[key] = loaded.enter_context(_opened(one, choices[key]))
        if task.measure_memory or limited:
            largest = largest_shape(plan, key) or shape
            held[key] = model_memory(predictors[key], before=before, shape=largest, batch=request.batch)
    facts = MemoryFacts(base, held, task.dtype, ring=RING, probability=settings.probability)
    if limited:
        with timed(task.seconds, "plan"):
            plan = make_plan(task.passes, task.occupancy, request, memory_needed=lambda one: memory_needed(one, facts))
    in_fp32 = {key: _in_fp32(one, choices[key]) for key, one in task.by_model.items() if one.precision != "fp32"}
    return Computing(
        plan=plan,
        request=replace(request, memory_bytes=None),
        workers=(Worker("cpu", HostDevice(), predictors),),
        choices=choices,
        memory_facts=facts,
        overflows=loaded.enter_context(overflow_watch(task, predictors, in_fp32)),
        model_memory=held,
    )


def overflow_watch(task: Task, predictors: Mapping[str, Predictor], in_fp32: Mapping[str, OpenInFp32]) -> OverflowWatch:
    """As the settings say; files in half that do not tell of overflow are named."""
    halves = [key for key, one in task.by_model.items() if one.precision == "fp16"]
    if blind := [key for key in halves if not predictors[key].watches_overflow]:
        logger.warning(
            "%s: its file does not tell which tiles overflow, so NaN and infinity go unseen; export it again",
            ", ".join(blind),
        )
    return OverflowWatch(in_fp32 if task.settings.on_overflow == "fp32" else None)


def device_choice_fits(choice: DeviceChoice, runtimes: Mapping[str, str]) -> bool:
    """Whether a run that was begun by `runtimes`, by model, is gone on with by `choice`."""
    names = set(runtimes.values())
    return not names or (names <= set(RUNTIMES) if not choice.gpus else names == {choice.runtime})


def _opened(one: Pass, choice: RuntimeChoice) -> Predictor:
    return open_predictor(
        one.bundle,
        runtime=choice.runtime,
        precision=one.precision,
        threads=choice.threads,
        contexts=choice.contexts,
    )


def _in_fp32(one: Pass, choice: RuntimeChoice) -> OpenInFp32:
    return lambda: open_predictor(one.bundle, runtime=choice.runtime, precision="fp32", threads=choice.threads)


def _trial_shape(plan: Plan, one: Pass, *, limited: bool) -> Shape:
    """What a trial computes: a tile of the plan, or of the same few sides for all plans where the network is exact.

    `limited`: where memory is, nothing larger than the plan's own.
    """
    tiling = one.bundle.card.tiling
    if tiling.exact and one.tile is None and not limited:
        side = max((side for side in tiling.sides if side <= LARGEST_TRIAL_SIDE), default=tiling.sides[0])
        return side, side
    return costliest_shape(plan, one.key) or (tiling.default_side, tiling.default_side)


def _pixels(plan: Plan, key: str) -> int:
    return sum(rows * columns * count for (model, (rows, columns)), count in tile_counts(plan).items() if model == key)
