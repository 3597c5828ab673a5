"""Load a model on a GPU, by whichever runtime computes there."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sennet_engine.bundle import Bundle
from sennet_engine.card import Precision
from sennet_engine.device.cuda import CudaDevice
from sennet_engine.gpu.onnxruntime_predictor import OnnxruntimeGpuPredictor
from sennet_engine.gpu.predictor import CudaGraphs, GpuPredictor
from sennet_engine.gpu.present import Gpu
from sennet_engine.tensorrt.golden import prove
from sennet_engine.tensorrt.loading import load_engine
from sennet_engine.tensorrt.predictor import TensorrtPredictor
from sennet_engine.tensorrt.products import EngineTarget, open_product
from sennet_engine.tensorrt.runtime_cache import CompiledKernels

# Two keep the GPU busy while one waits for copies.
CONTEXTS = 2
TARGETS: dict[str, EngineTarget] = {"tensorrt": "tensorrt", "tensorrt-rtx": "rtx"}
PROVIDERS: dict[str, Literal["cuda", "tensorrt"]] = {"onnxruntime-cuda": "cuda", "onnxruntime-tensorrt": "tensorrt"}
# Tiles in a call of runtimes that say no more than that they take any number.
LARGEST_BATCH = 16


@dataclass(frozen=True)
class OpenedModel:
    """A model that is loaded on a GPU.

    Attributes:
        sides: of the tiles that it takes; empty: any.
        smallest_batch, largest_batch: tiles in a call.
        fingerprint: of what computes: two that differ may differ in speed and in a grey level.
        reason: for people: which file, and what was done to get it.
        kernels: to be kept for the next run, where the runtime compiles some.
    """

    predictor: GpuPredictor
    sides: tuple[int, ...]
    smallest_batch: int
    largest_batch: int
    fingerprint: str
    reason: str
    kernels: CompiledKernels | None


def open_on_gpu(
    bundle: Bundle,
    precision: Precision,
    gpu: Gpu,
    device: CudaDevice,
    *,
    runtime: str,
    cuda_graphs: CudaGraphs,
    cache: Path | None,
    on_step: Callable[[str], None],
    contexts: int = CONTEXTS,
) -> OpenedModel:
    """Load the bundle's file of `precision`; an engine is built where none fits, and proven where it was never run.

    Args:
        device: of `gpu`.
        runtime: a name of GPU_RUNTIMES.
        cache: the user's folder for engines of bundles that cannot be written to; None keeps none.
        on_step: told what takes long.

    Raises:
        ModelError: the bundle has no such file, or it changed, or answers otherwise than its card says.
        DeviceError: the GPU or the runtime cannot be used.
        MissingExtraError: a package is missing.
    """
    if runtime in TARGETS:
        device.driver.make_current()  # engines are deserialised onto the current device of the thread
        loaded = load_engine(bundle, precision, open_product(TARGETS[runtime]), gpu, on_step=on_step, cache=cache)
        kernels = CompiledKernels(loaded, gpu, folder=cache)
        with ExitStack() as until_proven:
            tensorrt = until_proven.enter_context(
                TensorrtPredictor(
                    loaded, device, contexts=contexts, cuda_graphs=cuda_graphs, runtime_cache=kernels.runtime_cache
                )
            )
            proof = prove(tensorrt, bundle, loaded, gpu=gpu)
            until_proven.pop_all()
        profiles = loaded.facts.identity.profiles
        return OpenedModel(
            predictor=tensorrt,
            sides=tuple(sorted({profile.side for profile in profiles})),
            smallest_batch=max(profile.batch_smallest for profile in profiles),
            largest_batch=min(profile.batch_largest for profile in profiles),
            fingerprint=loaded.facts.sha256,
            reason=f"{loaded.reason}; {proof.text}",
            kernels=kernels,
        )
    predictor = OnnxruntimeGpuPredictor(
        bundle, precision, device, provider=PROVIDERS[runtime], contexts=contexts, cache=cache
    )
    return OpenedModel(
        predictor=predictor,
        sides=(),
        smallest_batch=1,
        largest_batch=LARGEST_BATCH,
        fingerprint=bundle.card.files[bundle.onnx_name(precision)].sha256,
        reason=f"{bundle.onnx_name(precision)}, as it is",
        kernels=None,
    )
