"""Load the models of a run on GPUs, with the batch that the first of them computes fastest."""

import logging
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace

from sennet_engine.computing import Computing, OpenInFp32, Task, overflow_watch, timed
from sennet_engine.device.cuda import CudaDevice
from sennet_engine.ensemble_file import Pass
from sennet_engine.errors import ConfigError, DeviceError
from sennet_engine.gpu.batch_sweep import BatchChoice, seconds_per_tile, swept_batch
from sennet_engine.gpu.choice import DeviceChoice
from sennet_engine.gpu.open import CONTEXTS, OpenedModel, open_on_gpu
from sennet_engine.gpu.present import Gpu, census
from sennet_engine.pipeline.stream_pipeline import RING
from sennet_engine.pipeline.worker import Worker
from sennet_engine.planning.memory import MemoryFacts, ModelMemory, memory_needed, model_memory
from sennet_engine.planning.passes import Plan
from sennet_engine.planning.planner import make_plan
from sennet_engine.planning.tile_counts import Shape, costliest_shape, largest_shape
from sennet_engine.predictor import Predictor
from sennet_engine.resident import resident_bytes
from sennet_engine.tensorrt.runtime_cache import CompiledKernels
from sennet_engine.trial import RuntimeChoice

logger = logging.getLogger(__name__)


def on_gpus(task: Task, loaded: ExitStack, choice: DeviceChoice) -> Computing:
    """Load every model on every GPU of `choice`; `loaded` lets go of them.

    Tile sides are those that the loaded files take. The batch is that of `task`, or what a sweep on the first
    GPU finds, the smallest over the models.

    Raises:
        SennetError: see `open_on_gpu` and `make_plan`.
    """
    devices = {gpu: CudaDevice(gpu.index) for gpu in choice.gpus}
    first = choice.gpus[0]
    held: dict[str, ModelMemory] = {}
    with timed(task.seconds, "load"):
        opened = {gpu: _opened(task, choice, gpu, device, loaded) for gpu, device in devices.items()}
    base = resident_bytes()  # with the models and all that their runtimes bring
    sides = _common_sides(opened)
    _refuse_other_sides(task.passes, sides)
    request = replace(task.request, sides=sides)
    with timed(task.seconds, "plan"):
        plan = make_plan(task.passes, task.occupancy, replace(request, memory_bytes=None))
    with timed(task.seconds, "trial"):
        batches = {key: _batch(task, plan, key, one, first, devices[first]) for key, one in opened[first].items()}
    request = replace(request, batch=min(one.batch for one in batches.values()))
    if task.measure_memory or request.memory_bytes is not None:
        for key, one in opened[first].items():
            shape = largest_shape(plan, key) or _usual_shape(task.by_model[key])
            held[key] = model_memory(one.predictor, before=base, shape=shape, batch=request.batch)
    # Each GPU has slabs of its own under way.
    facts = MemoryFacts(base, held, task.dtype, ring=RING * len(devices), probability=task.settings.probability)
    with timed(task.seconds, "plan"):
        plan = make_plan(task.passes, task.occupancy, request, memory_needed=lambda one: memory_needed(one, facts))
    predictors = {key: one.predictor for key, one in opened[first].items()}
    in_fp32 = {
        key: _in_fp32(task, choice, one, devices) for key, one in task.by_model.items() if one.precision != "fp32"
    }
    return Computing(
        plan=plan,
        request=replace(request, memory_bytes=None),
        workers=tuple(
            Worker(device.name, device, {key: one.predictor for key, one in opened[gpu].items()})
            for gpu, device in devices.items()
        ),
        choices={key: _choice(choice, [opened[gpu][key] for gpu in devices], batches[key]) for key in opened[first]},
        memory_facts=facts,
        overflows=loaded.enter_context(overflow_watch(task, predictors, in_fp32)),
        model_memory=held,
    )


def _opened(
    task: Task, choice: DeviceChoice, gpu: Gpu, device: CudaDevice, loaded: ExitStack
) -> dict[str, OpenedModel]:
    found = {}
    for key, one in task.by_model.items():
        found[key] = open_on_gpu(
            one.bundle, one.precision, gpu, device, runtime=choice.runtime, cuda_graphs=task.settings.cuda_graphs,
            cache=task.settings.engine_cache, on_step=logger.warning,
        )  # fmt: skip
        loaded.enter_context(found[key].predictor)
        if (kernels := found[key].kernels) is not None:
            loaded.callback(_keep, kernels, device)
    return found


def _keep(kernels: CompiledKernels, device: CudaDevice) -> None:
    """Before the engine is let go of: by now the run's own shapes have been compiled as well."""
    # A GPU that failed has nothing to keep, and whoever used it has been told.
    with suppress(DeviceError), device.driver.calls("to keep compiled kernels"):
        device.driver.make_current()
        kernels.keep()


def _in_fp32(task: Task, choice: DeviceChoice, one: Pass, devices: Mapping[Gpu, CudaDevice]) -> OpenInFp32:
    """On the first GPU that still works."""

    def opened() -> Predictor:
        failures: list[DeviceError] = []
        for gpu, device in devices.items():
            try:
                return open_on_gpu(
                    one.bundle, "fp32", gpu, device, runtime=choice.runtime, cuda_graphs="off",
                    cache=task.settings.engine_cache, on_step=logger.warning, contexts=1,
                ).predictor  # fmt: skip
            except DeviceError as error:
                failures.append(error)
        raise failures[0]

    return opened


def _common_sides(opened: Mapping[Gpu, Mapping[str, OpenedModel]]) -> dict[str, tuple[int, ...]]:
    """By model, the tile sides that every GPU's engine takes; those that take any are not in it."""
    common: dict[str, tuple[int, ...]] = {}
    for models in opened.values():
        for key, one in models.items():
            if one.sides:
                common[key] = tuple(side for side in one.sides if side in common.get(key, one.sides))
    if without := [key for key, sides in common.items() if not sides]:
        raise ConfigError(
            f"{', '.join(without)}: got engines for the GPUs that have no tile side in common; take one kind of GPU"
        )
    return common


def _refuse_other_sides(passes: tuple[Pass, ...], sides: Mapping[str, tuple[int, ...]]) -> None:
    for one in passes:
        if one.tile is not None and one.key in sides and one.tile not in sides[one.key]:
            raise ConfigError(
                f"tile: got {one.tile}, expected one of the sides that the engine of {one.key} was built for: "
                f"{', '.join(map(str, sides[one.key]))}; build another with sennet-export --tile {one.tile}"
            )


def _batch(task: Task, plan: Plan, key: str, one: OpenedModel, gpu: Gpu, device: CudaDevice) -> BatchChoice:
    shape = costliest_shape(plan, key) or _usual_shape(task.by_model[key])
    if task.batch is not None:
        return BatchChoice(task.batch, None, remembered=False, reason="as was asked for")
    return swept_batch(
        lambda batch: seconds_per_tile(one.predictor, device, shape, batch=batch),
        smallest=one.smallest_batch,
        largest=one.largest_batch,
        free_memory=device.free_memory,
        memory=task.settings.trials,
        facts={
            "gpu": gpu.name, "driver": census().driver, "runtime": one.predictor.runtime,
            "file": one.fingerprint, "tile": list(shape), "contexts": one.predictor.contexts,
        },
    )  # fmt: skip


def _usual_shape(one: Pass) -> Shape:
    side = one.tile or one.bundle.card.tiling.default_side
    return side, side


def _choice(choice: DeviceChoice, opened: list[OpenedModel], batch: BatchChoice) -> RuntimeChoice:
    kinds = {
        f"{gpu.name} {gpu.compute_capability}: {one.fingerprint}" for gpu, one in zip(choice.gpus, opened, strict=True)
    }
    return RuntimeChoice(
        runtime=choice.runtime,
        threads=1,
        contexts=CONTEXTS,
        seconds_per_tile=batch.seconds_per_tile,
        remembered=batch.remembered,
        reason=f"{opened[0].reason}; batches of {batch.batch}: {batch.reason}",
        fingerprint=", ".join(sorted(kinds)),
    )
