"""Sessions of onnxruntime on a GPU: made on a stream of ours, and refused where they would compute on processors."""

import contextlib
import ctypes
import importlib
import io
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sennet_engine.errors import DeviceError, DeviceMemoryError, MissingExtraError, ModelError, SennetError

Provider = Literal["cuda", "tensorrt"]

PROVIDERS: dict[Provider, str] = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
PROCESSORS = "CPUExecutionProvider"
NEEDS: dict[Provider, str] = {
    "cuda": "an NVIDIA driver for CUDA {cuda} and cuDNN 9 (pip install 'onnxruntime-gpu[cuda,cudnn]')",
    "tensorrt": "an NVIDIA driver for CUDA {cuda}, cuDNN 9, and the major version of TensorRT that it was built with",
}
# All computing is reproducible: the same bits from every context, and float32 that is not rounded to 10 bits.
CUDA_OPTIONS = {
    # To look for the fastest kernels by timing them would find others in every session.
    "cudnn_conv_algo_search": "HEURISTIC",
    "use_tf32": "0",
    # Twice as much, the default, takes memory that others of our contexts need.
    "arena_extend_strategy": "kSameAsRequested",
}
# Answers of a call are then waited for by events on our streams alone.
RUN_CONFIG = {"disable_synchronize_execution_providers": "1"}
NO_MEMORY = re.compile(r"out of memory|OUT_OF_MEMORY|failed to allocate|BFCArena|ALLOC(ATION)?_FAILED", re.IGNORECASE)
GPU_FAILED = re.compile(r"(CUDA|CUDNN|CUBLAS|CUFFT) (failure|error)|TensorRT EP|enqueue failed", re.IGNORECASE)


@dataclass(frozen=True)
class SessionPlace:
    """Where a session computes.

    Attributes:
        gpu: the driver's index.
        stream: the address of a CUDA stream, which outlives the session.
        tensorrt_options: of the TensorRT provider, beside these.
        dimensions: of the tiles, by name; TensorRT makes its engine for these alone.
    """

    provider: Provider
    gpu: int
    stream: int
    tensorrt_options: Mapping[str, str]
    dimensions: Mapping[str, int]

    @property
    def providers(self) -> list[Any]:
        """As `InferenceSession` takes them: what a provider does not know is computed by the next one."""
        here = {"device_id": str(self.gpu), "user_compute_stream": str(self.stream)}
        found: list[Any] = [(PROVIDERS["cuda"], here | CUDA_OPTIONS), PROCESSORS]
        if self.provider == "tensorrt":
            found.insert(0, (PROVIDERS["tensorrt"], here | dict(self.tensorrt_options)))
        return found


class OnnxruntimeOnGpu:
    """onnxruntime with a provider for GPUs.

    Attributes:
        module: `onnxruntime`.
        version: of it.
        tensorrt_version: of the package `tensorrt`, where its provider is asked for and it is installed.
        errors: what it raises, which has no base of its own.

    Raises:
        MissingExtraError: it is not installed, or the package for processors is.
    """

    def __init__(self, provider: Provider) -> None:
        self._said = io.StringIO()
        self.tensorrt_version = ""
        try:
            with self.heard():
                if provider == "tensorrt":
                    with contextlib.suppress(ImportError):
                        # Which finds its own libraries; the provider then finds them loaded.
                        self.tensorrt_version = str(importlib.import_module("tensorrt").__version__)
                module: Any = importlib.import_module("onnxruntime")
                state: Any = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
        except ImportError as error:
            raise MissingExtraError(f"onnxruntime-gpu is not installed ({error}); {HOW_TO_INSTALL}") from error
        self.module, self.version, self._provider = module, str(module.__version__), provider
        if module.package_name == "onnxruntime" and PROVIDERS[provider] not in module.get_available_providers():
            raise MissingExtraError(
                f"onnxruntime {self.version}: got the package for processors, which has "
                f"{', '.join(module.get_available_providers())}; expected onnxruntime-gpu, which has "
                f"{PROVIDERS[provider]}; {HOW_TO_INSTALL}"
            )
        self.errors = (
            state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented,
            state.RuntimeException, state.EPFail, RuntimeError, ValueError,
        )  # fmt: skip
        self._errors_of_file = (state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented)
        module.disable_telemetry_events()  # a program on people's scans reports to nobody
        with self.heard():
            module.preload_dlls()  # finds CUDA and cuDNN where pip puts them

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Keep what onnxruntime prints and warns of, which nobody could place, for the reason of an error.

        For the whole process, so not while other threads have something to say.
        """
        with contextlib.redirect_stdout(self._said), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        self._said.writelines(f"{one.message}\n" for one in caught)

    def session(self, path: Path, content: bytes, place: SessionPlace) -> Any:
        """An `InferenceSession` of the ONNX file `content`, which lay at `path`.

        Raises:
            ModelError: onnxruntime cannot load the file, or would compute its first operator on a processor.
            DeviceMemoryError: the GPU has no memory for it.
            DeviceError: the provider was not loaded, or failed.
        """
        options = self.module.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.use_deterministic_compute = True
        # It would keep a block of memory for every shape of tiles.
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        for name, size in place.dimensions.items():
            options.add_free_dimension_override_by_name(name, size)
        try:
            # By itself it would fall back to processors, and print so.
            session = self.module.InferenceSession(content, options, providers=place.providers, enable_fallback=0)
        except self._errors_of_file as error:
            raise ModelError(f"{path}: onnxruntime cannot load it: {error}; export the model again") from error
        except self.errors as error:
            raise self.error(path, f"load it on cuda:{place.gpu}", error, otherwise=DeviceError) from error
        self._check_provider(path, session, place)
        return session

    def run_options(self) -> Any:
        """For calls that return as soon as their work is handed to the stream."""
        options = self.module.RunOptions()
        for key, value in RUN_CONFIG.items():
            options.add_run_config_entry(key, value)
        return options

    def error(self, path: Path, wanted: str, error: Exception, *, otherwise: type[SennetError]) -> SennetError:
        """What an error of onnxruntime means for a person; `otherwise` where it is no matter of the GPU."""
        text = f"{path}: onnxruntime {self.version} cannot {wanted}: {error}"
        if NO_MEMORY.search(str(error)):
            return DeviceMemoryError(
                f"{text}; try a smaller --batch or fewer contexts, or end other programs that use the GPU"
            )
        if GPU_FAILED.search(str(error)):
            return DeviceError(f"{text}; see nvidia-smi for the GPU's state, or compute with --device cpu")
        return otherwise(f"{text}; expected the model that its card describes: export it again")

    def _check_provider(self, path: Path, session: Any, place: SessionPlace) -> None:
        wanted, found = PROVIDERS[place.provider], session.get_providers()
        if found[0] != wanted:
            needs = NEEDS[place.provider].format(cuda=self.module.cuda_version or "12 or 13")
            why = self._why_not_loaded(place.provider)
            raise DeviceError(
                f"cuda:{place.gpu}: onnxruntime {self.version} did not load its provider: got {', '.join(found)}, "
                f"expected {wanted}{why}; it needs {needs}; mend that, take another --runtime, or --device cpu"
            )
        # Tiles would be copied there when they are bound, which is before they are on the GPU.
        if session.get_input_memory_infos()[0].name.lower() == "cpu":
            raise ModelError(
                f"{path}: got a first operator that {wanted} of onnxruntime {self.version} computes on a processor, "
                f"expected it on the GPU; take another --runtime"
            )

    def _why_not_loaded(self, provider: Provider) -> str:
        """onnxruntime tells it to the terminal alone; the system's loader tells it again."""
        prefix, suffix = ("", ".dll") if sys.platform == "win32" else ("lib", ".so")
        library = Path(self.module.__file__).parent / "capi" / f"{prefix}onnxruntime_providers_{provider}{suffix}"
        reasons = [line for line in self._said.getvalue().splitlines() if line.strip()]
        try:
            ctypes.CDLL(str(library))
        except OSError as error:
            reasons.insert(0, str(error))
        return f" ({'; '.join(reasons)})" if reasons else ""


HOW_TO_INSTALL = (
    "run: pip uninstall onnxruntime onnxruntime-gpu; pip install 'sennet[gpu]'. The two overwrite each other's module "
    "and must not be in one environment"
)
