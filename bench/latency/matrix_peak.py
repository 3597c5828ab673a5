"""What a runtime gets out of the machine for a single product of matrices: the yardstick for networks on it."""

import importlib
from collections.abc import Callable
from time import perf_counter
from typing import Any, Literal

import numpy as np

from sennet_engine.errors import ConfigError, DeviceError
from sennet_engine.gpu.onnxruntime_session import PROVIDERS, OnnxruntimeOnGpu
from sennet_engine.openvino_predictor import openvino_core
from sennet_engine.runtimes import RUNTIMES

# Sides of the square matrices; on a GPU large enough that its every unit has something to do.
SIDE, GPU_SIDE = 2048, 8192
# The product is repeated for so long, but so often at least; products before that are not counted.
SECONDS, LEAST_PRODUCTS, UNCOUNTED = 0.5, 3, 2
# Old enough for every onnxruntime that computes bundles.
OPSET, IR_VERSION = 18, 9


def processors_gflops(runtime: str, *, threads: int) -> float:
    """10^9 operations of float32 in a second, in the fastest of some products of matrices by `runtime`.

    The weights are constant, as a network's are, and the settings are those that the engine computes networks with.

    Raises:
        ConfigError: no such runtime.
        MissingExtraError: it is not installed.
    """
    if runtime not in PRODUCTS:
        raise ConfigError(f"runtime: got {runtime!r}, expected one of {', '.join(PRODUCTS)}")
    return _gflops(PRODUCTS[runtime](SIDE, threads), SIDE)


def gpu_gflops(index: int) -> float:
    """10^9 operations of float16 in a second, by onnxruntime's CUDA provider; nothing is copied meanwhile.

    Args:
        index: the driver's, of the GPU.

    Raises:
        MissingExtraError: onnxruntime-gpu is not installed.
        DeviceError: its provider was not loaded, or the GPU failed.
    """
    runtime = OnnxruntimeOnGpu("cuda")
    wanted = PROVIDERS["cuda"]
    options = runtime.module.SessionOptions()
    options.log_severity_level = 3
    try:
        with runtime.heard():
            session = runtime.module.InferenceSession(
                product_model(GPU_SIDE, "float16"), options, providers=[(wanted, {"device_id": str(index)})],
                enable_fallback=0,
            )  # fmt: skip
        if session.get_providers()[0] != wanted:
            raise DeviceError(f"cuda:{index}: got {', '.join(session.get_providers())}, expected {wanted}")
        run = bound_product(runtime.module, session, GPU_SIDE, "float16", ("cuda", index))
        return _gflops(run, GPU_SIDE)
    except runtime.errors as error:
        raise DeviceError(f"cuda:{index}: onnxruntime cannot multiply matrices: {error}") from error


def bound_product(
    module: Any, session: Any, side: int, dtype: Literal["float16", "float32"], place: tuple[str, int]
) -> Callable[[], object]:
    """A call that computes the product once, from memory of `place` ("cuda", 0) to memory of it, and waits for it."""
    rows = module.OrtValue.ortvalue_from_numpy(_matrix(side, dtype), *place)
    product = module.OrtValue.ortvalue_from_shape_and_type([side, side], np.dtype(dtype).type, *place)
    binding = session.io_binding()
    binding.bind_ortvalue_input("rows", rows)
    binding.bind_ortvalue_output("product", product)
    return lambda: session.run_with_iobinding(binding)


def product_model(side: int, dtype: Literal["float16", "float32"]) -> bytes:
    """The ONNX file of one product: `rows` [side, side] by a constant of the same shape."""
    from onnx import TensorProto, helper, numpy_helper

    kind = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT}[dtype]
    ends = [helper.make_tensor_value_info(name, kind, [side, side]) for name in ("rows", "product")]
    node = helper.make_node("MatMul", ["rows", "weights"], ["product"])
    weights = [numpy_helper.from_array(_matrix(side, dtype), "weights")]
    graph = helper.make_graph([node], "product", ends[:1], ends[1:], weights)
    opset = [helper.make_opsetid("", OPSET)]
    content: bytes = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION).SerializeToString()
    return content


def _by_onnxruntime(side: int, threads: int) -> Callable[[], object]:
    module = importlib.import_module("onnxruntime")
    options = module.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = module.InferenceSession(product_model(side, "float32"), options, providers=["CPUExecutionProvider"])
    return bound_product(module, session, side, "float32", ("cpu", 0))


def _by_openvino(side: int, threads: int) -> Callable[[], object]:
    core = openvino_core()
    settings = {
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32",
    }  # fmt: skip
    request = core.compile_model(
        core.read_model(product_model(side, "float32"), b""), "CPU", settings
    ).create_infer_request()
    rows = _matrix(side, "float32")
    return lambda: request.infer({0: rows}, share_inputs=True, share_outputs=True)


PRODUCTS = dict(zip(RUNTIMES, (_by_onnxruntime, _by_openvino), strict=True))


def _gflops(product: Callable[[], object], side: int) -> float:
    for _ in range(UNCOUNTED):
        product()
    seconds: list[float] = []
    began = perf_counter()
    while len(seconds) < LEAST_PRODUCTS or perf_counter() - began < SECONDS:
        started = perf_counter()
        product()
        seconds.append(perf_counter() - started)
    return round(2 * side**3 / min(seconds) / 1e9, 1)


def _matrix(side: int, dtype: str) -> Any:
    # Zeros, and numbers that are no numbers, take some processors less or more time and power.
    return np.random.default_rng(0).standard_normal((side, side), np.float32).astype(dtype)
