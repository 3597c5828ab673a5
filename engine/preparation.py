"""Everything that is settled before the first tile is computed: survey, ensemble, plan, runtimes."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from types import MappingProxyType

from sennet_engine.ensemble import Ensemble
from sennet_engine.ensemble_file import OpenedEnsemble, Pass, expanded_passes, opened_ensemble
from sennet_engine.errors import ConfigError
from sennet_engine.pipeline.stream_pipeline import RING
from sennet_engine.planning.cells import Occupancy, everywhere
from sennet_engine.planning.memory import MemoryFacts, ModelMemory, memory_needed, model_memory
from sennet_engine.planning.passes import Plan
from sennet_engine.planning.planner import PlanRequest, make_plan, refuse_tile, smallest_plan
from sennet_engine.planning.tile_counts import Shape, costliest_shape, largest_shape, tile_counts
from sennet_engine.predictor import Predictor
from sennet_engine.resident import release_freed_memory, resident_bytes
from sennet_engine.runtimes import checked_threads, open_predictor, precision_from_text
from sennet_engine.settings import InferSettings
from sennet_engine.survey.occupancy import surveyed_occupancy
from sennet_engine.trial import AUTO, RuntimeChoice, chosen_runtime
from sennet_engine.volumes.volume import Volume
from sennet_engine.window import Window, surveyed_window

logger = logging.getLogger(__name__)

# Large enough to tell runtimes apart, and small enough that a trial is short.
LARGEST_TRIAL_SIDE = 640


@dataclass(frozen=True)
class Prepared:
    """What a run starts from.

    Attributes:
        choices, predictors: by the keys of the plan's models.
        model_memory: likewise, where it was measured: if a memory limit was given, or for an estimate.
        seconds: of the survey, the plan, the trial and loading.
        warnings: for people.
    """

    opened: OpenedEnsemble
    passes: tuple[Pass, ...]
    window: Window
    plan: Plan
    choices: Mapping[str, RuntimeChoice]
    predictors: Mapping[str, Predictor]
    model_memory: Mapping[str, ModelMemory]
    memory_facts: MemoryFacts
    seconds: Mapping[str, float]
    warnings: list[str]
    request: PlanRequest

    def plan_without_skipping(self) -> Plan:
        """The plan as it would be were the organ everywhere."""
        return make_plan(self.passes, everywhere(self.plan.shape_zyx, reason="for comparison"), self.request)


@contextmanager
def prepared(
    volume: Volume,
    settings: InferSettings,
    *,
    measure_memory: bool = False,
    runtimes: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Prepared]:
    """Survey `volume`, plan the run and load the models; they are let go of at the end.

    Args:
        measure_memory: whether the models' memory is measured, though no limit was given.
        runtimes: by the keys of the plan's models, what takes the place of `auto`.

    Raises:
        SennetError: see its subclasses.
    """
    seconds: dict[str, float] = {}
    threads = checked_threads(settings.threads)
    opened = opened_ensemble(settings.model, models=settings.models, precision=precision_from_text(settings.precision))
    ensemble = _ensemble(opened, settings)
    passes = expanded_passes(
        ensemble,
        opened.bundles,
        shape_zyx=volume.shape_zyx,
        voxel_size_um=volume.voxel_size_um,
        scale_override=settings.scale,
        precision=opened.precision,
    )
    request = _request(ensemble, opened, settings)
    request.refuse_bad()
    with _timed(seconds, "window"):
        window = settings.window or surveyed_window(volume)
    with _timed(seconds, "occupancy"):
        occupancy = _occupancy(volume, window, settings)
    base = resident_bytes()
    with _timed(seconds, "plan"):
        # Under a limit the models are first tried and measured with what they need least for.
        plan = (smallest_plan if settings.memory_bytes else make_plan)(passes, occupancy, request)
    choices: dict[str, RuntimeChoice] = {}
    predictors: dict[str, Predictor] = {}
    held: dict[str, ModelMemory] = {}
    by_key = {one.key: one for one in passes}
    with ExitStack() as loaded:
        for key, one in by_key.items():
            shape, before = _trial_shape(plan, one, limited=settings.memory_bytes is not None), resident_bytes()
            with _timed(seconds, "trial"):
                choices[key] = chosen_runtime(
                    one.bundle, one.precision, tile_shape=shape, batch=settings.batch, threads=threads,
                    memory=settings.trials, tiles=_pixels(plan, key) / (shape[0] * shape[1]),
                    runtime=runtimes.get(key, AUTO) if settings.runtime == AUTO else settings.runtime,
                    workspace_bytes=settings.memory_bytes,
                )  # fmt: skip
            # What a trial leaves behind would be taken for room that the model does not need.
            release_freed_memory()
            choice = choices[key]
            with _timed(seconds, "load"):
                predictors[key] = loaded.enter_context(
                    open_predictor(
                        one.bundle,
                        runtime=choice.runtime,
                        precision=one.precision,
                        threads=choice.threads,
                        contexts=choice.contexts,
                    )
                )
            if measure_memory or settings.memory_bytes:
                largest = largest_shape(plan, key) or shape
                held[key] = model_memory(predictors[key], before=before, shape=largest, batch=settings.batch)
        facts = MemoryFacts(base, held, volume.dtype, ring=RING, probability=settings.probability)
        if settings.memory_bytes:
            with _timed(seconds, "plan"):
                plan = make_plan(passes, occupancy, request, memory_needed=lambda one: memory_needed(one, facts))
        yield Prepared(
            opened=replace(opened, ensemble=ensemble),
            passes=passes,
            window=window,
            plan=plan,
            choices=choices,
            predictors=predictors,
            model_memory=held,
            memory_facts=facts,
            seconds=seconds,
            warnings=_warnings(volume, passes),
            request=replace(request, memory_bytes=None),
        )


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


def _request(ensemble: Ensemble, opened: OpenedEnsemble, settings: InferSettings) -> PlanRequest:
    return PlanRequest(
        threshold=opened.threshold if settings.threshold is None else settings.threshold,
        min_voxels=ensemble.min_voxels if settings.min_voxels is None else settings.min_voxels,
        cascade_bound=ensemble.cascade.low_bound if ensemble.cascade else None,
        batch=settings.batch,
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


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = perf_counter()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + perf_counter() - began
