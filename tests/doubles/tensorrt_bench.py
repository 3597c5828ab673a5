"""A TensorrtPredictor over the recording double, as a loaded engine would give one."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sennet_engine.device.cuda import CudaDevice
from sennet_engine.engine_file import EngineFacts, EngineIdentity, Profile
from sennet_engine.gpu.predictor import CudaGraphs, GpuArray
from sennet_engine.tensorrt.loaded import LoadedEngine
from sennet_engine.tensorrt.log import BuildLog
from sennet_engine.tensorrt.predictor import TensorrtPredictor
from sennet_engine.tensorrt.products import PRODUCTS, Product

from .recording_tensorrt import VERSION, RecordingTensorrt
from .simulated_gpu import SimulatedGpu

PROFILES = (
    Profile(side=16, batch_smallest=1, batch_usual=2, batch_largest=4),
    Profile(side=32, batch_smallest=2, batch_usual=2, batch_largest=8),
)


@dataclass
class Bench:
    """A simulated GPU with an engine and its predictor on it.

    Attributes:
        kept: all arrays that were handed over: callers keep them until they are done with.
    """

    gpu: SimulatedGpu
    trt: RecordingTensorrt
    device: CudaDevice
    predictor: TensorrtPredictor
    kept: list[GpuArray] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Of the calls that contexts got."""
        return [call.name for call in self.trt.calls]

    def stream(self) -> Any:
        """A `cuda.core.Stream`."""
        return self.device.driver.make_current().create_stream()

    def array(self, content: np.ndarray, stream: Any) -> GpuArray:
        """Memory of the GPU, with `content` once the stream has come to it."""
        memory = self.device.array(content.size)
        kept = content.copy()
        self.gpu.launch(int(stream.handle), lambda one: one.write(memory.address, kept), milliseconds=0.0)
        return GpuArray(memory.address, content.shape, memory)

    def read(self, array: GpuArray) -> np.ndarray:
        """What is there now; streams have to be synchronised before."""
        return self.gpu.memory.read(array.address, int(np.prod(array.shape))).reshape(array.shape)

    def enqueue(self, tiles: np.ndarray, *, stream: Any, context: int = 0) -> tuple[GpuArray, GpuArray]:
        """Hand a batch over: where its answers and its flags will be."""
        empty = np.zeros_like(tiles), np.zeros(len(tiles), np.uint8)
        arrays = [self.array(content, stream) for content in (tiles, *empty)]
        self.kept += arrays
        self.predictor.enqueue(stream, *arrays, context=context)
        return arrays[1], arrays[2]


def loaded_engine(trt: RecordingTensorrt) -> LoadedEngine:
    """As `load_engine` gives it."""
    identity = EngineIdentity(
        onnx_sha256="0" * 64, product="tensorrt-rtx", product_version=VERSION, compute_capabilities=["8.6"],
        profiles=list(trt.profiles),
    )  # fmt: skip
    facts = EngineFacts(
        identity=identity, key=identity.key, onnx="model.fp16.onnx", precision="fp16", inspected="network",
        multiply_adds=1, share_by_precision={"fp16": 1.0}, layers_by_precision={"fp16": 1}, build_seconds=1.0,
        verified=True, sha256="0" * 64, bytes=1,
    )  # fmt: skip
    log = BuildLog(trt.module)
    trt.logger = log.logger
    return LoadedEngine(
        product=Product(PRODUCTS["rtx"], trt.module, VERSION), path=Path("model.engine"), facts=facts, runtime=None,
        engine=trt.engine, reason="fits", log=log,
    )  # fmt: skip


def bench(
    seed: int = 0,
    *,
    contexts: int = 1,
    cuda_graphs: CudaGraphs = "off",
    memory_bytes: int = 1 << 30,
    profiles: tuple[Profile, ...] = PROFILES,
    **engine: Any,
) -> Bench:
    """A bench; `engine` is as RecordingTensorrt takes it."""
    gpu = SimulatedGpu(seed, memory_bytes=memory_bytes)
    trt = RecordingTensorrt(gpu, profiles, **engine)
    device = CudaDevice(0, core=gpu.core)
    return Bench(
        gpu, trt, device, TensorrtPredictor(loaded_engine(trt), device, contexts=contexts, cuda_graphs=cuda_graphs)
    )
