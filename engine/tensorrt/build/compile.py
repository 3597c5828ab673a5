"""An engine from an ONNX file, in this process: parse, prove the precision, build, look into the engine."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from sennet_engine.engine_file import BuilderOptions, Profile
from sennet_engine.errors import ConfigError, ModelError
from sennet_engine.gpu.present import present_compute_capability
from sennet_engine.tensorrt.build.inspector import work_of_engine
from sennet_engine.tensorrt.build.messages import Built
from sennet_engine.tensorrt.build.network import named_with_source, parsed_network
from sennet_engine.tensorrt.build.precision import refuse_other_precision, share_by_precision, work_of_network
from sennet_engine.tensorrt.build.settings import BuildSettings
from sennet_engine.tensorrt.build.timing_cache import open_timing_cache
from sennet_engine.tensorrt.log import BuildLog
from sennet_engine.tensorrt.products import Product, member_name

OnProgress = Callable[[str, int, int], None]


def compiled_engine(
    product: Product, onnx: bytes, *, name: str, capabilities: tuple[str, ...], settings: BuildSettings,
    on_progress: OnProgress,
) -> tuple[bytes, Built]:  # fmt: skip
    """The engine of the ONNX file `name` whose bytes are `onnx`, and what is known of it.

    Raises:
        ModelError: the parser or the builder refuses the network, with all that they said.
        WrongPrecisionError: most of the multiply-adds are in another precision than `settings.precision`.
        ConfigError: the network does not take the tiles or batches asked for.
    """
    trt, log = product.module, BuildLog(product.module)
    builder = trt.Builder(log.logger)
    network = parsed_network(trt, builder, log, onnx, name=name)
    for profile in settings.profiles:
        _refuse_other_tiles(network, profile, name=name)
    work = work_of_network(trt, network, side=settings.sides[0])
    refuse_other_precision(work, settings.precision, name=name)
    config = builder.create_builder_config()
    _configure(trt, config, settings.options)
    _set_capabilities(trt, config, product, capabilities)
    for profile in settings.profiles:
        _add_profile(builder, config, network, profile)
    cache = open_timing_cache(config, settings.timing_cache, product=product)
    monitor = _monitor(trt, on_progress)  # a name of its own keeps it alive for as long as the builder calls it
    config.progress_monitor = monitor
    start = time.monotonic()
    serialized = builder.build_serialized_network(network, config)
    seconds = time.monotonic() - start
    if serialized is None:
        said = [named_with_source(error, onnx) for error in log.errors] or ["no reason was given"]
        raise ModelError("\n  ".join([f"{name}: {product.kind.title} {product.version} built no engine", *said]))
    cache.save()
    engine = bytes(serialized)
    seen = work_of_engine(trt, log.logger, engine, work) if present_compute_capability() else None
    refuse_other_precision(seen or work, settings.precision, name=name)
    built = Built(
        onnx_sha256=hashlib.sha256(onnx).hexdigest(),
        inspected="engine" if seen else "network",
        multiply_adds=sum(layer.multiply_adds for layer in work),
        share_by_precision=share_by_precision(seen or work),
        layers_by_precision=dict(Counter(layer.precision for layer in seen or work)),
        build_seconds=seconds,
        warnings=cache.warnings,
        said=(*log.warnings, *log.errors),
    )
    return engine, built


def _refuse_other_tiles(network: Any, profile: Profile, *, name: str) -> None:
    batch, _, height, width = network.get_input(0).shape
    if any(fixed not in (-1, profile.side) for fixed in (height, width)):
        raise ConfigError(f"{name}: takes tiles of {height} x {width} alone, got {profile.side}; take --tile {height}")
    if batch != -1 and {profile.batch_smallest, profile.batch_largest} != {batch}:
        raise ConfigError(
            f"{name}: takes batches of {batch} alone, got {profile.batch_smallest} to {profile.batch_largest}; take "
            f"--batch {batch},{batch},{batch}"
        )


def _configure(trt: Any, config: Any, options: BuilderOptions) -> None:
    # Without details the inspector shows no types.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.float32 == "ieee":
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default
    if options.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb << 20)
    if options.level is not None:
        config.builder_optimization_level = options.level


def _set_capabilities(trt: Any, config: Any, product: Product, capabilities: tuple[str, ...]) -> None:
    if not product.kind.usual_capabilities:
        return  # it builds for the GPU that is there
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        config.set_compute_capability(getattr(trt.ComputeCapability, member_name(capability)), index)


def _add_profile(builder: Any, config: Any, network: Any, profile: Profile) -> None:
    shapes = [
        (batch, 1, profile.side, profile.side)
        for batch in (profile.batch_smallest, profile.batch_usual, profile.batch_largest)
    ]
    optimization = builder.create_optimization_profile()
    optimization.set_shape(network.get_input(0).name, *shapes)
    if config.add_optimization_profile(optimization) < 0:
        raise ModelError(
            f"the builder does not take the profile {shapes[0]} to {shapes[-1]}; choose other tiles or batches"
        )


def _monitor(trt: Any, on_progress: OnProgress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Phases lie within phases; each says how many steps it has."""

        def __init__(self) -> None:
            super().__init__()
            self._steps_by_phase: dict[str, int] = {}

        def phase_start(self, phase: str, _parent: str | None, steps: int) -> None:
            self._steps_by_phase[phase] = steps
            on_progress(phase, 0, steps)

        def step_complete(self, phase: str, step: int) -> bool:
            on_progress(phase, step + 1, self._steps_by_phase.get(phase, step + 1))
            return True

        def phase_finish(self, phase: str) -> None:
            self._steps_by_phase.pop(phase, None)

    return Monitor()
