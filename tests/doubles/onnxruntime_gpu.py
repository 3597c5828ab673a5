"""onnxruntime-gpu, played by the package for processors, whose sessions compute as kernels of a simulated GPU.

What its sessions are told goes to the real package: options, the arguments of bindings, and errors are real ones.
"""

import inspect
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as state

from .simulated_gpu import Memory, SimulatedGpu

PROCESSORS = "CPUExecutionProvider"
# That the providers know, of those of 1.22; they refuse others.
OPTIONS = {
    "CUDAExecutionProvider": {
        "device_id", "user_compute_stream", "gpu_mem_limit", "arena_extend_strategy", "cudnn_conv_algo_search",
        "do_copy_in_default_stream", "cudnn_conv_use_max_workspace", "enable_cuda_graph", "use_tf32", "prefer_nhwc",
    },
    "TensorrtExecutionProvider": {
        "device_id", "user_compute_stream", "trt_fp16_enable", "trt_int8_enable", "trt_engine_cache_enable",
        "trt_engine_cache_path", "trt_timing_cache_enable", "trt_layer_norm_fp32_fallback",
        "trt_builder_optimization_level", "trt_max_workspace_size",
    },
}  # fmt: skip
NO_MEMORY = (
    "Error in execution: Non-zero status code returned while running Conv node. Name:'conv' Status Message: "
    "bfc_arena.cc:376 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) "
    "Failed to allocate memory for requested buffer of size 16777216"
)


class OnnxruntimeGpu:
    """A module `onnxruntime` that computes on `gpu`.

    Args:
        folder: where its files would be.
        loaded: the providers whose libraries were found.
        room: tiles in a call for which there is memory.
        input_on: where the first operator computes: "Cuda", "Cpu".
        fails: the text of an error that every call ends with.
        refuses: the error that making a session ends with.

    Attributes:
        calls: all that was called, in its order: (name, arguments).
        sessions: those that were made.
        alive: those of them that somebody still holds.
        engines: that TensorRT built, and those that it found in its folder: ("built", folder).
        synchronised: calls that waited for the GPU.
    """

    def __init__(
        self, gpu: SimulatedGpu, folder: Path, *, loaded: tuple[str, ...] = tuple(OPTIONS), room: int = 1 << 30,
        input_on: str = "Cuda", fails: str = "", refuses: Exception | None = None,
    ) -> None:  # fmt: skip
        self.gpu, self.loaded, self.room, self.input_on, self.fails = gpu, loaded, room, input_on, fails
        self.refuses = refuses
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.sessions: list[Session] = []
        self.alive: weakref.WeakSet[Session] = weakref.WeakSet()
        self.engines: list[tuple[str, str]] = []
        self.synchronised = 0
        self.module = SimpleNamespace(
            __name__="onnxruntime",
            __file__=str(folder / "onnxruntime" / "__init__.py"),
            __version__="1.99.0",
            package_name="onnxruntime-gpu",
            cuda_version="12.8",
            SessionOptions=onnxruntime.SessionOptions,
            RunOptions=onnxruntime.RunOptions,
            InferenceSession=self._session,
            get_available_providers=lambda: [*OPTIONS, PROCESSORS],
            disable_telemetry_events=lambda: self.calls.append(("disable_telemetry_events", {})),
            preload_dlls=self._preload_dlls,
        )

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let `import onnxruntime` find it."""
        monkeypatch.setitem(sys.modules, "onnxruntime", self.module)
        monkeypatch.setitem(sys.modules, "onnxruntime.capi.onnxruntime_pybind11_state", state)

    def called(self, name: str) -> list[dict[str, Any]]:
        """The arguments of every call of `name`."""
        return [arguments for called, arguments in self.calls if called == name]

    def _preload_dlls(self) -> None:
        self.calls.append(("preload_dlls", {}))
        if "CUDAExecutionProvider" not in self.loaded:
            print("Failed to load libcudnn.so.9: no such file")  # noqa: T201 (as the real one does)

    def _session(self, *args: Any, **kwargs: Any) -> "Session":
        inspect.signature(onnxruntime.InferenceSession).bind(*args, **kwargs)
        if kwargs["enable_fallback"] != 0:
            raise AssertionError("without that, it would fall back to processors by itself")
        if self.refuses is not None:
            raise self.refuses
        self.sessions.append(Session(self, *args, providers=kwargs["providers"]))
        self.alive.add(self.sessions[-1])
        return self.sessions[-1]


class Session:
    """See `onnxruntime.InferenceSession`."""

    def __init__(self, owner: OnnxruntimeGpu, content: bytes, options: Any, *, providers: list[Any]) -> None:
        self._owner, self._busy = owner, threading.Lock()
        self.content, self.options = content, options
        self.provider_options: dict[str, dict[str, str]] = {}
        for name, given in (one for one in providers if isinstance(one, tuple)):
            if unknown := set(given) - OPTIONS[name]:
                raise state.EPFail(f"Unknown provider option: {unknown}")
            if name in owner.loaded:
                self.provider_options[name] = dict(given)
        self._providers = [*self.provider_options, *(one for one in providers if isinstance(one, str))]
        self.real = onnxruntime.InferenceSession(content, options, providers=[PROCESSORS], enable_fallback=0)
        self.get_inputs, self.get_outputs = self.real.get_inputs, self.real.get_outputs
        self._find_engine(self.provider_options.get("TensorrtExecutionProvider", {}))

    def get_providers(self) -> list[str]:
        return self._providers

    def get_input_memory_infos(self) -> list[Any]:
        return [SimpleNamespace(name=self._owner.input_on)]

    def io_binding(self) -> "Binding":
        return Binding(self)

    def run_with_iobinding(self, iobinding: "Binding", run_options: Any) -> None:
        owner = self._owner
        if not self._busy.acquire(blocking=False):
            raise AssertionError("two threads run one session")
        try:
            owner.calls.append(("run_with_iobinding", {"session": owner.sessions.index(self)}))
            if iobinding.session is not self:
                raise ValueError("IOBinding must be used with the session that created it.")
            if owner.fails:
                raise RuntimeError(owner.fails)
            batch = iobinding.bound["tiles"]["shape"][0]
            if batch > owner.room:
                raise RuntimeError(NO_MEMORY)
            iobinding.check_on_host(run_options)
            for provider in self.provider_options.values():
                stream = int(provider["user_compute_stream"])
                owner.gpu.launch(stream, iobinding.kernel(run_options))
                break
            if run_options.get_run_config_entry("disable_synchronize_execution_providers") != "1":
                owner.synchronised += 1
        finally:
            self._busy.release()

    def _find_engine(self, options: dict[str, str]) -> None:
        """TensorRT builds one where all dimensions are known; otherwise it waits for the first tiles."""
        if not options or not all(isinstance(size, int) for size in self.get_inputs()[0].shape):
            return
        file = Path(options["trt_engine_cache_path"]) / "engine"
        assert options["trt_engine_cache_enable"] == "1"
        found = file.exists()
        time.sleep(0 if found else 0.05)
        file.write_bytes(b"engine")
        self._owner.engines.append(("found" if found else "built", file.parent.name))


class Binding:
    """See `onnxruntime.IOBinding`. Attributes: `bound` has the arguments of each name, by that name."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.bound: dict[str, dict[str, Any]] = {}
        self._inputs: list[str] = []

    def bind_input(self, *args: Any, **kwargs: Any) -> None:
        self._bind(onnxruntime.IOBinding.bind_input, *args, **kwargs)
        self._inputs.append(args[0])

    def bind_output(self, *args: Any, **kwargs: Any) -> None:
        self._bind(onnxruntime.IOBinding.bind_output, *args, **kwargs)

    def check_on_host(self, run_options: Any) -> None:
        """What the real package says of the shapes, before anything is launched."""
        self._run({name: np.zeros(one["shape"], np.uint8) for name, one in self.bound.items()}, run_options)

    def kernel(self, run_options: Any) -> Callable[[Memory], None]:
        """Reads its tiles when it runs, and then computes them by the real package."""
        bound, inputs = dict(self.bound), set(self._inputs)

        def run(memory: Memory) -> None:
            arrays = {
                name: memory.read(one["buffer_ptr"], int(np.prod(one["shape"]))).reshape(one["shape"])
                if name in inputs
                else np.zeros(one["shape"], np.uint8)
                for name, one in bound.items()
            }
            self._run(arrays, run_options)
            for name in set(bound) - inputs:
                memory.write(bound[name]["buffer_ptr"], arrays[name])

        return run

    def _bind(self, real: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        arguments = inspect.signature(real).bind(None, *args, **kwargs).arguments
        name = arguments["name"]
        self.bound[name] = {key: value for key, value in arguments.items() if key not in ("self", "name")}
        owner = self.session._owner
        owner.calls.append((real.__name__, {"name": name, **self.bound[name]}))

    def _run(self, arrays: dict[str, Any], run_options: Any) -> None:
        real = self.session.real.io_binding()
        for name, one in self.bound.items():
            bind = real.bind_input if name in self._inputs else real.bind_output
            bind(name, **one | {"device_type": "cpu", "device_id": 0, "buffer_ptr": arrays[name].ctypes.data})
        self.session.real.run_with_iobinding(real, run_options)
