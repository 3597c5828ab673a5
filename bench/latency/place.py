"""Where the latency of networks is measured: on the processors, or on one GPU."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sennet_bench.latency.calls import GpuParts
from sennet_bench.latency.matrix_peak import gpu_gflops, processors_gflops
from sennet_engine.bundle import Bundle
from sennet_engine.card import Precision
from sennet_engine.device.cuda import CudaDevice
from sennet_engine.errors import ConfigError, DeviceError, MissingExtraError
from sennet_engine.gpu.choice import CPU, CUDA, device_choices
from sennet_engine.gpu.open import open_on_gpu
from sennet_engine.gpu.predictor import CudaGraphs, GpuPredictor
from sennet_engine.gpu.present import Gpu
from sennet_engine.predictor import Predictor, Tiles
from sennet_engine.runtimes import AUTO, DEFAULT_RUNTIME, checked_threads, open_predictor, usable_processors


@dataclass(frozen=True)
class PlaceRequest:
    """What a person asks for.

    Attributes:
        device: `cpu`, `cuda` or `cuda:1`.
        runtimes: names; none: the usual one of the device.
        threads: of one call on processors; by default all of them, divided among the contexts.
        contexts: how many calls may compute at the same time.
        cuda_graphs: whether launches on a GPU are recorded and replayed.
        engine_cache: the user's folder for engines of bundles that cannot be written to.
    """

    device: str = CPU
    runtimes: Sequence[str] = ()
    threads: int | None = None
    contexts: int = 1
    cuda_graphs: CudaGraphs = "auto"
    engine_cache: Path | None = None


class Place(Protocol):
    """What opens predictors, and knows of them what the protocol does not tell.

    Attributes:
        device: for people.
        runtimes: names.
        threads: of one call.
        peak_dtype: `float32` or `float16`: of the matrices whose product is the yardstick.
        usual_precision: the best first; the first that a model holds is taken.
        warm_up_calls: at the beginning of each round.
    """

    device: str
    runtimes: tuple[str, ...]
    threads: int
    peak_dtype: str
    usual_precision: tuple[Precision, ...]
    warm_up_calls: int

    def opened(self, bundle: Bundle, precision: Precision, runtime: str) -> Predictor:
        """A predictor of the bundle's file. Raises SennetError as the engine does."""
        ...

    def parts(self, predictor: Predictor, tiles: Tiles) -> GpuParts | None:
        """What tells the parts of its calls; None where a call has none."""
        ...

    def peak_gflops(self, runtime: str) -> float | str:
        """Of a product of matrices, or why there is none."""
        ...


def place_of(request: PlaceRequest, *, told: Callable[[str], None]) -> Place:
    """The processors or the GPU.

    Args:
        told: told what takes long.

    Raises:
        ConfigError: no such device or runtime, or more threads than processors.
        DeviceError: there is no such GPU.
        MissingExtraError: what computes there is not installed.
    """
    if request.device != CPU and not request.device.startswith(CUDA):
        raise ConfigError(f"device: got {request.device!r}, expected cpu, cuda, or a GPU by its number: cuda:1")
    choices = [device_choices(request.device, one)[0] for one in request.runtimes or (AUTO,)]
    runtimes = tuple(dict.fromkeys(DEFAULT_RUNTIME if one.runtime == AUTO else one.runtime for one in choices))
    gpus = choices[0].gpus
    if not gpus:
        return Processors(request, runtimes)
    if len(gpus) > 1:
        raise ConfigError(f"device: got {request.device}, expected one GPU: each is measured by itself")
    return OneGpu(request, runtimes, gpus[0], told)


class Processors:
    """See `Place`."""

    device = CPU
    peak_dtype = "float32"
    usual_precision: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    warm_up_calls = 3

    def __init__(self, request: PlaceRequest, runtimes: tuple[str, ...]) -> None:
        self.runtimes, self._contexts = runtimes, request.contexts
        self.threads = request.threads or max(1, usable_processors() // request.contexts)
        checked_threads(self.threads * request.contexts)

    def opened(self, bundle: Bundle, precision: Precision, runtime: str) -> Predictor:
        return open_predictor(
            bundle, runtime=runtime, precision=precision, threads=self.threads, contexts=self._contexts
        )

    def parts(self, predictor: Predictor, tiles: Tiles) -> None:
        del predictor, tiles  # nothing is copied, and the caller's thread computes

    def peak_gflops(self, runtime: str) -> float | str:
        return processors_gflops(runtime, threads=self.threads)


class OneGpu:
    """See `Place`."""

    threads = 1
    peak_dtype = "float16"
    usual_precision: tuple[Precision, ...] = ("fp16", "fp32", "int8")
    # More than the launches after which the engine decides whether to record them.
    warm_up_calls = 10

    def __init__(self, request: PlaceRequest, runtimes: tuple[str, ...], gpu: Gpu, told: Callable[[str], None]) -> None:
        self.runtimes, self._request, self._gpu, self._told = runtimes, request, gpu, told
        self._device = CudaDevice(gpu.index)
        self.device = f"{CUDA}:{gpu.index} ({gpu.name})"

    def opened(self, bundle: Bundle, precision: Precision, runtime: str) -> Predictor:
        return open_on_gpu(
            bundle, precision, self._gpu, self._device, runtime=runtime, cuda_graphs=self._request.cuda_graphs,
            cache=self._request.engine_cache, on_step=self._told, contexts=self._request.contexts,
        ).predictor  # fmt: skip

    def parts(self, predictor: Predictor, tiles: Tiles) -> GpuParts:
        gpu_predictor: GpuPredictor = predictor  # type: ignore[assignment] # it is what `opened` gave
        return GpuParts(self._device, gpu_predictor, tiles)

    def peak_gflops(self, runtime: str) -> float | str:
        del runtime  # the GPU is the same, and onnxruntime alone takes a product without a build
        try:
            return gpu_gflops(self._gpu.index)
        except (MissingExtraError, DeviceError) as error:
            return str(error)
