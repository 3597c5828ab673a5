"""onnxruntime on a GPU: right answers in the order of streams, and no quiet fallback to processors.

The GPU is simulated; the sessions compute by onnxruntime's package for processors, through real I/O bindings.
"""

import gc
import hashlib
import inspect
import json
import logging
import re
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from sennet_engine.bundle import open_bundle
from sennet_engine.device.cuda import CudaDevice
from sennet_engine.errors import (
    ConfigError,
    DeviceError,
    DeviceMemoryError,
    MissingExtraError,
    ModelError,
    OverflowedError,
)
from sennet_engine.gpu.onnxruntime_predictor import OnnxruntimeGpuPredictor
from sennet_engine.gpu.predictor import GpuArray

from ...doubles.onnxruntime_gpu import OnnxruntimeGpu, state
from ...doubles.simulated_gpu import SimulatedGpu

BOTH = pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
TENSORRT = "TensorrtExecutionProvider"


class Lab:
    """A simulated GPU with onnxruntime on it, and a caller's streams and buffers."""

    def __init__(self, monkeypatch, tmp_path, seed=1, **options):
        self.gpu = SimulatedGpu(seed)
        self.onnxruntime = OnnxruntimeGpu(self.gpu, tmp_path, **options)
        self.onnxruntime.install(monkeypatch)
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        self.device = CudaDevice(0, core=self.gpu.core)

    def open(self, bundle, provider="cuda", **options):
        return OnnxruntimeGpuPredictor(open_bundle(bundle), "fp32", self.device, provider=provider, **options)

    def stream(self):
        device = self.gpu.core.Device(0)
        device.set_current()
        return device.create_stream()

    def array(self, stream, shape):
        buffer = self.gpu.core.Device(0).allocate(int(np.prod(shape)), stream=stream)
        return GpuArray(int(buffer.handle), tuple(shape), buffer)

    def write(self, stream, array, content):
        """When the stream comes to it."""
        self.gpu.launch(int(stream.handle), lambda memory: memory.write(array.address, content))

    def read(self, array):
        return self.gpu.memory.read(array.address, int(np.prod(array.shape))).reshape(array.shape)

    def answer(self, predictor, tiles, *, context=0):
        """Tiles through `enqueue` on a new stream, whose memory is overwritten right after: answers and flags."""
        stream = self.stream()
        given, answers = self.array(stream, tiles.shape), self.array(stream, tiles.shape)
        flags, kept = self.array(stream, (len(tiles),)), self.array(stream, tiles.shape)
        self.write(stream, given, tiles)
        self.write(stream, flags, np.zeros(len(tiles), np.uint8))
        predictor.enqueue(stream, given, answers, flags, context=context)
        self.write(stream, given, 255 - tiles)
        self.gpu.launch(
            int(stream.handle), lambda memory: memory.write(kept.address, memory.read(answers.address, tiles.size))
        )
        stream.sync()
        return self.read(kept), self.read(flags)


@pytest.fixture
def lab(monkeypatch, tmp_path):
    """See Lab."""
    return lambda **options: Lab(monkeypatch, tmp_path, **options)


@pytest.fixture
def watching_bundle(identity_bundle):
    """Answers with the tile itself, and tells of tiles that hold a 255."""
    ends = [helper.make_tensor_value_info(name, TensorProto.UINT8, ["batch", 1, "h", "w"]) for name in "ab"]
    ends[0].name, ends[1].name = "tiles", "probabilities"
    flags = helper.make_tensor_value_info("overflowed", TensorProto.UINT8, ["batch"])
    nodes = [
        helper.make_node("Cast", ["tiles"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["grey"], ["probabilities"], to=TensorProto.UINT8),
        helper.make_node("ReduceMax", ["grey", "axes"], ["largest"], keepdims=0),
        helper.make_node("Equal", ["largest", "infinity"], ["bad"]),
        helper.make_node("Cast", ["bad"], ["overflowed"], to=TensorProto.UINT8),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3]),
        helper.make_tensor("infinity", TensorProto.FLOAT, [], [255.0]),
    ]
    graph = helper.make_graph(nodes, "watching", ends[:1], [ends[1], flags], constants)
    return exchanged(identity_bundle, graph)


def exchanged(folder, graph):
    """The bundle with another network in place of its own."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    card = json.loads((folder / "model.json").read_text())
    card["files"]["model.onnx"] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / "model.json").write_text(json.dumps(card))
    return folder


def tiles_of(shape, seed=0):
    """Noise, without the 255 that `watching_bundle` takes for an overflow."""
    return np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)


def expected(bundle, tiles):
    """What the same file answers on a processor."""
    session = onnxruntime.InferenceSession(bundle / "model.onnx", providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"tiles": tiles})[0]


@BOTH
@pytest.mark.parametrize("seed", range(6))
def test_tiles_are_answered_when_the_callers_stream_comes_to_it(lab, strided_bundle, provider, seed):
    """After what was handed to it before, and before what is handed to it later, by whichever context."""
    here = lab(seed=seed)
    with here.open(strided_bundle, provider) as predictor:
        for context, shape in [(0, (2, 1, 32, 64)), (1, (2, 1, 32, 64)), (0, (1, 1, 64, 32))]:
            tiles = tiles_of(shape, seed)
            answers, flags = here.answer(predictor, tiles, context=context)
            np.testing.assert_array_equal(answers, expected(strided_bundle, tiles))
            assert not flags.any()
    assert here.onnxruntime.synchronised == 0


def test_contexts_compute_in_threads_of_their_own(lab, strided_bundle):
    """Each with its own session on its own stream, whatever streams its callers have."""
    here = lab(seed=2)
    given = [tiles_of((2, 1, 32, 32), seed) for seed in range(8)]
    with here.open(strided_bundle, contexts=2) as predictor, ThreadPoolExecutor(2) as pool:
        assert (predictor.contexts, predictor.threads, predictor.watches_overflow) == (2, 1, False)
        assert predictor.runtime == "onnxruntime 1.99.0 CUDAExecutionProvider"

        def answer(context):
            return [here.answer(predictor, tiles, context=context)[0] for tiles in given[context::2]]

        found = list(pool.map(answer, range(2)))
    for context in range(2):
        for answers, tiles in zip(found[context], given[context::2], strict=True):
            np.testing.assert_array_equal(answers, expected(strided_bundle, tiles))
    streams = [
        one.provider_options["CUDAExecutionProvider"]["user_compute_stream"] for one in here.onnxruntime.sessions
    ]
    assert len(set(streams)) == len(streams) == 2
    assert {one["session"] for one in here.onnxruntime.called("run_with_iobinding")} == {0, 1}


@BOTH
def test_single_tiles_are_brought_there_and_back(lab, watching_bundle, provider):
    """`predict` takes arrays of the host, and tells of an overflow as other predictors do."""
    here = lab()
    tiles = tiles_of((3, 1, 32, 32))
    with here.open(watching_bundle, provider) as predictor:
        np.testing.assert_array_equal(predictor.predict(tiles, context=1), tiles)
        tiles[1, 0, 5, 5] = 255
        with pytest.raises(OverflowedError) as caught:
            predictor.predict(tiles)
    assert caught.value.tiles == (1,)
    np.testing.assert_array_equal(caught.value.answers[[0, 2]], tiles[[0, 2]])


def test_what_is_bound_and_in_which_order(lab, watching_bundle):
    """The tiles, the answers and the flags, where they lie on the GPU; then the session runs."""
    here = lab()
    with here.open(watching_bundle) as predictor:
        assert predictor.watches_overflow
        here.onnxruntime.calls.clear()
        tiles = tiles_of((2, 1, 32, 32))
        tiles[0] = 255
        answers, flags = here.answer(predictor, tiles)
    np.testing.assert_array_equal(answers, tiles)
    assert flags.tolist() == [1, 0]
    assert [name for name, _ in here.onnxruntime.calls] == [
        "bind_input", "bind_output", "bind_output", "run_with_iobinding",
    ]  # fmt: skip
    bound = [arguments for _, arguments in here.onnxruntime.calls[:3]]
    assert [(one["name"], tuple(one["shape"])) for one in bound] == [
        ("tiles", (2, 1, 32, 32)), ("probabilities", (2, 1, 32, 32)), ("overflowed", (2,)),
    ]  # fmt: skip
    assert {(one["device_type"], one["device_id"], one["element_type"]) for one in bound} == {("cuda", 0, np.uint8)}
    assert len({one["buffer_ptr"] for one in bound}) == 3


def test_sessions_are_made_to_answer_alike(lab, identity_bundle):
    """No kernels that are found by timing, no rounded float32, nothing sent to anybody, libraries of pip found."""
    here = lab()
    with here.open(identity_bundle):
        [session, _] = here.onnxruntime.sessions
    assert [name for name, _ in here.onnxruntime.calls] == ["disable_telemetry_events", "preload_dlls"]
    options = session.provider_options["CUDAExecutionProvider"]
    assert options["device_id"] == "0"
    assert (options["cudnn_conv_algo_search"], options["use_tf32"]) == ("HEURISTIC", "0")
    assert session.options.use_deterministic_compute
    assert session.options.intra_op_num_threads == 1
    assert session.content == (identity_bundle / "model.onnx").read_bytes()


def test_a_file_that_changed_is_never_loaded(lab, identity_bundle):
    """The session is made from the bytes that were hashed."""
    here, bundle = lab(), open_bundle(identity_bundle)
    (identity_bundle / "model.onnx").write_bytes(b"another")
    with pytest.raises(ModelError, match="the file is not the one that its card describes"):
        OnnxruntimeGpuPredictor(bundle, "fp32", here.device, provider="cuda")
    assert here.onnxruntime.sessions == []


@pytest.mark.parametrize(
    ("provider", "loaded"), [("cuda", ()), ("tensorrt", ()), ("tensorrt", ("CUDAExecutionProvider",))]
)
def test_a_provider_that_was_not_loaded_is_an_error_with_its_reason(lab, tmp_path, identity_bundle, provider, loaded):
    """The reason is the loader's, which onnxruntime does not tell; what it printed is told as well."""
    library = tmp_path / "onnxruntime" / "capi" / f"libonnxruntime_providers_{provider}.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"no library")
    with pytest.raises(DeviceError) as caught:
        lab(loaded=loaded).open(identity_bundle, provider)
    message = str(caught.value)
    wanted = {"cuda": "CUDAExecutionProvider", "tensorrt": TENSORRT}[provider]
    assert f"expected {wanted}" in message
    assert f"got {', '.join([*loaded, 'CPUExecutionProvider'])}" in message
    assert str(library) in message
    assert ("Failed to load libcudnn.so.9" in message) is (not loaded)
    assert "CUDA 12.8" in message
    assert threading.active_count() < 10


def test_the_package_for_processors_is_named(monkeypatch, identity_bundle):
    """With the package that is really installed here: what to install, and that both do not go together."""
    gpu = SimulatedGpu()
    for provider in ("cuda", "tensorrt"):
        with pytest.raises(MissingExtraError) as caught:
            OnnxruntimeGpuPredictor(
                open_bundle(identity_bundle), "fp32", CudaDevice(0, core=gpu.core), provider=provider
            )
        message = str(caught.value)
        assert f"onnxruntime {onnxruntime.__version__}: got the package for processors" in message
        assert "pip install 'sennet[gpu]'" in message
        assert "must not be in one environment" in message
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'sennet[gpu]'")):
        OnnxruntimeGpuPredictor(open_bundle(identity_bundle), "fp32", CudaDevice(0, core=gpu.core), provider="cuda")


def test_a_first_operator_on_a_processor_is_refused(lab, identity_bundle):
    """Tiles would be copied there when they are bound, which is too early."""
    with pytest.raises(ModelError, match="first operator"):
        lab(input_on="Cpu").open(identity_bundle)


def test_out_of_memory_halves_the_batch_and_says_so(lab, watching_bundle, caplog):
    """Down to what fits, and from then on no larger batch is tried."""
    here = lab(room=2)
    tiles = tiles_of((7, 1, 32, 32))
    tiles[[0, 5]] = 255
    with here.open(watching_bundle) as predictor, caplog.at_level(logging.WARNING):
        for _ in range(2):
            answers, flags = here.answer(predictor, tiles)
            np.testing.assert_array_equal(answers, tiles)
            assert flags.tolist() == [1, 0, 0, 0, 0, 1, 0]
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        "cuda:0: has no memory for 7 tiles at a time; computing 4 at a time",
        "cuda:0: has no memory for 4 tiles at a time; computing 2 at a time",
    ]
    ran = [len(here.onnxruntime.called(name)) for name in ("bind_input", "run_with_iobinding")]
    assert ran == [10, 10]  # two that failed, and four parts of seven tiles twice


@pytest.mark.parametrize(("provider", "room", "calls"), [("cuda", 0, 2), ("tensorrt", 1, 1)])
def test_no_memory_at_all_is_an_error(lab, identity_bundle, provider, room, calls):
    """Not even for a single tile; TensorRT's engine is made for the batch and is not halved."""
    here = lab(room=room)
    with here.open(identity_bundle, provider) as predictor:
        with pytest.raises(DeviceMemoryError, match="try a smaller --batch"):
            here.answer(predictor, tiles_of((2, 1, 32, 32)))
        assert len(here.onnxruntime.called("run_with_iobinding")) == calls


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("Error in execution: CUDA failure 2: out of memory ; GPU=0", DeviceMemoryError),
        ("Status Message: CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", DeviceMemoryError),
        ("CUDA_ERROR_OUT_OF_MEMORY", DeviceMemoryError),
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", DeviceError),
        ("TensorRT EP execution context enqueue failed.", DeviceError),
        ("Non-zero status code returned while running Concat node", ModelError),
    ],
)
def test_errors_of_a_call_are_what_they_mean(lab, identity_bundle, said, error):
    """Memory, the GPU, or the model; with what onnxruntime said."""
    here = lab(fails=said)
    with here.open(identity_bundle) as predictor:
        with pytest.raises(error, match=re.escape(said)) as caught:
            here.answer(predictor, tiles_of((1, 1, 32, 32)))
        assert caught.type is error


@pytest.mark.parametrize(
    ("refused", "error"),
    [
        (state.InvalidGraph("no such operator"), ModelError),
        (state.EPFail("CUDA failure 35: CUDA driver version is insufficient"), DeviceError),
        (RuntimeError("Failed to allocate memory for requested buffer of size 7"), DeviceMemoryError),
        (state.Fail("whatever"), DeviceError),
    ],
)
def test_errors_of_making_a_session_are_what_they_mean(lab, identity_bundle, refused, error):
    """And nothing is left open."""
    here = lab(refuses=refused)
    with pytest.raises(error, match=re.escape(str(refused))) as caught:
        here.open(identity_bundle)
    assert caught.type is error


def test_tiles_that_the_model_does_not_take_are_an_error(lab, identity_bundle):
    """It is the real package that says so, of a file with a fixed side."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["tiles"], ["probabilities"])], "fixed",
        [helper.make_tensor_value_info("tiles", TensorProto.UINT8, ["batch", 1, 32, 32])],
        [helper.make_tensor_value_info("probabilities", TensorProto.UINT8, ["batch", 1, 32, 32])],
    )  # fmt: skip
    here = lab()
    with here.open(exchanged(identity_bundle, graph)) as predictor:
        with pytest.raises(ModelError, match=r"cannot compute tiles of shape \(1, 1, 64, 64\)"):
            here.answer(predictor, tiles_of((1, 1, 64, 64)))
        tiles = tiles_of((1, 1, 32, 32))
        np.testing.assert_array_equal(here.answer(predictor, tiles)[0], tiles)


def test_a_model_of_something_else_is_refused(lab, identity_bundle):
    """Its ends are told."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1, "h", "w"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "other", ends[:1], ends[1:])
    with pytest.raises(ModelError, match=r"got x tensor\(float\)"):
        lab().open(exchanged(identity_bundle, graph))


def test_tensorrt_has_an_engine_for_each_shape_that_all_contexts_share(lab, identity_bundle, tmp_path):
    """The first context builds it, the second finds it; another batch of the same side takes the place of the first."""
    here, cache = lab(), tmp_path / "engines"
    with here.open(identity_bundle, "tensorrt", cache=cache) as predictor:
        assert here.onnxruntime.engines == []
        for context in (0, 1, 0):
            for shape in [(2, 1, 32, 32), (2, 1, 64, 32)]:
                tiles = tiles_of(shape)
                np.testing.assert_array_equal(here.answer(predictor, tiles, context=context)[0], tiles)
        assert [what for what, _ in here.onnxruntime.engines] == ["built", "built", "found", "found"]
        here.answer(predictor, tiles_of((4, 1, 32, 32)))
        here.answer(predictor, tiles_of((2, 1, 32, 32)))
        assert [what for what, _ in here.onnxruntime.engines][4:] == ["built", "found"]
    assert len({folder for _, folder in here.onnxruntime.engines}) == 3
    shapes = [one.get_inputs()[0].shape for one in here.onnxruntime.sessions]
    assert shapes[1:3] == [[2, 1, 32, 32], [2, 1, 64, 32]]
    assert list(here.onnxruntime.sessions[1].provider_options) == [TENSORRT, "CUDAExecutionProvider"]
    again = lab()
    with again.open(identity_bundle, "tensorrt", cache=cache) as predictor:
        again.answer(predictor, tiles_of((2, 1, 32, 32)))
    assert [what for what, _ in again.onnxruntime.engines] == ["found"]
    newer = lab()
    newer.onnxruntime.module.__version__ = "2.0.0"
    with newer.open(identity_bundle, "tensorrt", cache=cache) as predictor:
        newer.answer(predictor, tiles_of((2, 1, 32, 32)))
    assert [what for what, _ in newer.onnxruntime.engines] == ["built"]


def test_contexts_that_come_at_once_share_an_engine(lab, identity_bundle):
    """One builds it while the other waits: engines of two builds may answer differently."""
    here, tiles = lab(), tiles_of((2, 1, 32, 32))
    with here.open(identity_bundle, "tensorrt") as predictor, ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda context: here.answer(predictor, tiles, context=context), range(2)))
    assert [what for what, _ in here.onnxruntime.engines] == ["built", "found"]


@pytest.mark.parametrize(("provider", "held"), [("cuda", 2), ("tensorrt", 0)])
def test_no_session_is_held_that_is_not_needed(lab, identity_bundle, provider, held):
    """TensorRT's are made for shapes, so that which told of the file has to go; at the end all of them."""
    here = lab()
    with here.open(identity_bundle, provider):
        here.onnxruntime.sessions.clear()
        gc.collect()
        assert len(here.onnxruntime.alive) == held
    gc.collect()
    assert not here.onnxruntime.alive


def test_engines_without_a_folder_of_the_user_are_gone_at_the_end(lab, identity_bundle):
    """They lie where nobody else could write to meanwhile."""
    here = lab()
    with here.open(identity_bundle, "tensorrt") as predictor:
        here.answer(predictor, tiles_of((2, 1, 32, 32)))
        folder = Path(here.onnxruntime.sessions[-1].provider_options[TENSORRT]["trt_engine_cache_path"])
        assert stat.S_IMODE(folder.parent.parent.stat().st_mode) == 0o700
        assert (folder / "engine").exists()
    assert not folder.parent.parent.exists()


@pytest.mark.parametrize("below", [".", "onnxruntime-tensorrt"])
def test_a_folder_that_others_may_write_to_is_refused(lab, identity_bundle, tmp_path, below):
    """Whoever puts an engine there runs code."""
    cache = tmp_path / "engines"
    (cache / below).mkdir(parents=True)
    (cache / below).chmod(0o777)
    here = lab()
    with pytest.raises(ConfigError, match="others may write to"):
        here.open(identity_bundle, "tensorrt", cache=cache)
    assert here.onnxruntime.sessions == []


@pytest.mark.parametrize(
    ("precision", "options"), [("fp16", {"trt_fp16_enable": "1"}), ("int8", {"trt_int8_enable": "1"})]
)
def test_tensorrt_is_allowed_the_types_of_the_file(lab, identity_bundle, precision, options):
    """Where it does not follow them in any case."""
    card = json.loads((identity_bundle / "model.json").read_text())
    card["files"]["model.onnx"]["precision"] = precision
    (identity_bundle / "model.json").write_text(json.dumps(card))
    here = lab()
    with OnnxruntimeGpuPredictor(open_bundle(identity_bundle), precision, here.device, provider="tensorrt"):
        given = here.onnxruntime.sessions[0].provider_options[TENSORRT]
    assert options.items() <= given.items()


def test_the_real_package_has_every_name():
    """Of the methods, their parameters, and the keys that are mere text."""
    session, binding = onnxruntime.InferenceSession, onnxruntime.IOBinding
    assert 'kwargs.get("enable_fallback"' in inspect.getsource(session.__init__)
    inspect.signature(session).bind(b"", None, providers=[], enable_fallback=0)
    for bind in (binding.bind_input, binding.bind_output):
        inspect.signature(bind).bind(
            None, "tiles", device_type="cuda", device_id=0, element_type=np.uint8, shape=(1,), buffer_ptr=1
        )
    inspect.signature(session.run_with_iobinding).bind(None, None, None)
    names = ["get_inputs", "get_outputs", "get_providers", "io_binding", "get_input_memory_infos"]
    assert all(hasattr(session, name) for name in names)
    names = ["get_available_providers", "disable_telemetry_events", "preload_dlls", "package_name", "cuda_version"]
    assert all(hasattr(onnxruntime, name) for name in names)
    inspect.signature(onnxruntime.preload_dlls).bind()
    names = [
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NotImplemented",
        "RuntimeException",
        "EPFail",
    ]
    assert all(issubclass(getattr(state, name), Exception) for name in names)
    [library] = (Path(onnxruntime.__file__).parent / "capi").glob("onnxruntime_pybind11_state*")
    content = library.read_bytes()
    for key in (b"disable_synchronize_execution_providers", b"session.intra_op.allow_spinning"):
        assert key in content
    real = onnxruntime.InferenceSession(
        Path(__file__).parents[3].joinpath("engine/models/builtin.model/model.onnx").read_bytes(),
        providers=["CPUExecutionProvider"],
    )
    assert real.get_input_memory_infos()[0].name == "Cpu"
