"""`sennet-bench latency`: percentiles, turns, warnings, the parts of a call on a GPU, and the share of the peak."""

import dataclasses
import json
import re
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from sennet_bench.circumstances import Circumstances
from sennet_bench.latency import calls as latency_calls
from sennet_bench.latency import matrix_peak
from sennet_bench.latency import measurement as measuring
from sennet_bench.latency import place as latency_place
from sennet_bench.latency.calls import call_seconds, noise
from sennet_bench.latency.matrix_peak import gpu_gflops, processors_gflops, product_model
from sennet_bench.latency.measurement import Latency, LatencyMeasurement
from sennet_bench.latency.view import latency_charts, latency_figures, latency_short, peak_share
from sennet_bench.measurements import read_measurement, write_measurement
from sennet_bench.report.chart import Distribution
from sennet_engine.bundle import open_bundle
from sennet_engine.device import cuda_driver
from sennet_engine.device.cuda import CudaDevice
from sennet_engine.engine_file import Profile
from sennet_engine.errors import OverflowedError
from sennet_engine.gpu import choice
from sennet_engine.gpu import open as opening
from sennet_engine.gpu.present import Census, Gpu
from sennet_engine.runtimes import open_predictor

from ..doubles.recording_tensorrt import RecordingTensorrt
from ..doubles.simulated_gpu import SimulatedGpu
from ..doubles.tensorrt_bench import loaded_engine

QUIET = Circumstances("2026-01-01", None, "a processor", 2, 0.0, {}, others_share=0.01)
EVEN = [[0.020, 0.021, 0.020, 0.0202]] * 3


@pytest.fixture(autouse=True)
def _small_matrices(monkeypatch):
    monkeypatch.setattr(matrix_peak, "SIDE", 128)
    monkeypatch.setattr(matrix_peak, "SECONDS", 0.0)


def entry(warm_seconds, **changes):
    return dataclasses.replace(
        Latency("small", "fp32", "onnxruntime", "onnxruntime 1", 64, 2, 0.1, 0.2, warm_seconds, {}, [], 0.5), **changes
    )


def measured(*entries, **changes):
    one = LatencyMeasurement(
        device="cpu", threads=1, contexts=1, cuda_graphs="auto", told=[], calls=4, rounds=3, warm_up_calls=3,
        peak_dtype="float32", peak_gflops={"onnxruntime": [90.0, 100.0]}, no_peak="", entries=list(entries),
        circumstances=QUIET,
    )  # fmt: skip
    return dataclasses.replace(one, **changes)


def rows_of(markdown):
    """The cells of each row, by the row's name and the head of the column."""
    lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in markdown.splitlines() if line.startswith("|")]
    return {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]}


@pytest.fixture
def table(command, tmp_path):
    """What `sennet-bench table` prints of a measurement."""

    def shown(one):
        write_measurement(tmp_path / "made.json", one)
        ran = command("sennet-bench", "table", tmp_path / "made.json")
        assert ran.code == 0, ran.err
        assert read_measurement(tmp_path / "made.json") == one
        return ran.out

    return shown


def test_every_combination_is_measured_and_kept(command, strided_bundle, tmp_path):
    """Both runtimes, two tiles, two batches; the JSON has each call, and its table is what was printed."""
    ran = command(
        "sennet-bench", "latency", strided_bundle, "--tile", "64", "--tile", "128", "--batch", "1", "--batch", "2",
        "--runtime", "onnxruntime", "--runtime", "openvino", "--threads", "1", "--calls", "10", "--repeats", "2",
        "--json", tmp_path / "l.json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    kept = json.loads((tmp_path / "l.json").read_text())
    found = {(one["runtime"], one["tile"], one["batch"]) for one in kept["entries"]}
    assert found == {
        (name, tile, batch) for name in ("onnxruntime", "openvino") for tile in (64, 128) for batch in (1, 2)
    }
    for one in kept["entries"]:
        assert [len(calls) for calls in one["warm_seconds"]] == [10, 10]
        assert one["computed_by"].startswith(one["runtime"])
        assert min(map(min, one["warm_seconds"])) > 0
        assert 0 < one["first_seconds"] < 5
        assert 0 < one["load_seconds"] < 60
    assert set(kept["peak_gflops"]) == {"onnxruntime", "openvino"}
    assert all(len(peaks) == 2 and min(peaks) > 0 for peaks in kept["peak_gflops"].values())
    assert "all of it is compute" in ran.out
    assert "after 3 calls at the beginning of each round that are not counted" in ran.out
    assert command("sennet-bench", "table", tmp_path / "l.json").out.strip() == ran.out.strip()


def test_operations_are_counted_from_the_graph(command, strided_bundle, tmp_path):
    """Convolutions of 3 x 3 at full, half, quarter and full resolution, by hand, 2 for a multiply-add."""
    ran = command(
        "sennet-bench", "latency", strided_bundle, "--tile", "64", "--threads", "1", "--calls", "1", "--repeats", "1",
        "--json", tmp_path / "l.json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    (one,) = json.loads((tmp_path / "l.json").read_text())["entries"]
    by_hand = 2 * 9 * (1 * 4 + 4 * 8 / 4 + 8 * 8 / 16 + 8 * 1) * 64**2
    assert one["gflop_per_tile"] * 1e9 == pytest.approx(by_hand)


def test_percentiles_are_those_of_all_calls_of_all_rounds(table):
    """As numpy's; tiles in a second follow from the mean and the batch; the share of the peak from the median."""
    warm = np.random.default_rng(1).uniform(0.001, 0.009, (3, 40)).tolist()
    one = measured(entry(warm), calls=40)
    (row,) = rows_of(table(one)).values()
    calls = np.array(warm) * 1e3
    for share in (50, 90, 95, 99):
        assert float(row[f"p{share}, ms"]) == pytest.approx(np.percentile(calls, share), abs=6e-4)
    assert float(row["mean, ms"]) == pytest.approx(calls.mean(), abs=6e-4)
    assert float(row["tiles/s"]) == pytest.approx(2 / calls.mean() * 1e3, rel=1e-3)
    assert float(row["Mpixel/s"]) == pytest.approx(2 / calls.mean() * 1e3 * 64**2 / 1e6, rel=1e-3)
    assert row["coefficient of variation"] == f"{calls.std() / calls.mean():.1%} (too wide)"
    assert peak_share(one, one.entries[0]) == pytest.approx(2 * 0.5 / (np.median(calls) / 1e3) / 100)
    assert row["of the peak"] == f"{peak_share(one, one.entries[0]):.0%}"
    assert row["loading, s"] == "0.10"
    assert row["first call, ms"] == "200.0"


def test_of_few_calls_there_is_no_99th_percentile(table):
    """99 of them are too few, 100 are enough."""
    for calls, told in ((99, False), (100, True)):
        (row,) = rows_of(table(measured(entry([[0.02] * calls])))).values()
        assert (row["p99, ms"] != "–") == told


@pytest.mark.parametrize(
    ("warm", "others", "said"),
    [
        (EVEN, 0.01, None),
        (EVEN, None, None),
        (EVEN, 0.06, "others took 6% of the processors"),
        ([[0.01, 0.01, 0.01, 0.02]] * 3, 0.01, "batch 2 has a coefficient of variation of 35%"),
        ([[0.0100] * 4, [0.0100] * 4, [0.0106] * 4], 0.01, "batch 2 has medians of rounds that differ by 6%"),
        ([[0.0100] * 4, [0.0100] * 4, [0.0104] * 4], 0.01, None),
    ],
)
def test_a_spread_that_is_too_wide_is_warned_of(table, warm, others, said):
    """By which rule, and of which combination; a narrow one is not."""
    shown = table(measured(entry(warm), circumstances=dataclasses.replace(QUIET, others_share=others)))
    assert ("Too uncertain to conclude" in shown) == (said is not None)
    assert said is None or said in shown
    (row,) = rows_of(shown).values()
    assert ("too wide" in row["coefficient of variation"]) == (said is not None and "others" not in said)


class Clocked:
    """A predictor whose calls take as long as it is told, on a clock that goes on with nothing else."""

    contexts, runtime, threads = 1, "clocked 1", 1

    def __init__(self, clock, calls):
        self._clock, self._calls = clock, calls
        self.closed = False

    def predict(self, tiles):
        # The first calls of both, and then the first three of each five, which warm up.
        slow = len(self._calls) < 2 or (len(self._calls) - 2) % 5 < 3
        assert not self.closed
        self._calls.append(tiles.shape)
        self._clock.now += 10.0 if slow else 0.25 * len(tiles)
        return tiles

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True
        self._clock.closed.append(len(self._calls))


def test_combinations_take_turns_and_warm_up_calls_are_not_counted(command, strided_bundle, tmp_path, monkeypatch):
    """A B A B; loading and the first call come before, of a predictor each, of which one is kept to the end."""
    clock = SimpleNamespace(now=0.0, closed=[])
    calls, opened = [], []

    def opening_clocked(bundle, **options):
        clock.now += 3.0
        opened.append(options)
        return Clocked(clock, calls)

    for module in (latency_calls, measuring):
        monkeypatch.setattr(module, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(latency_place, "open_predictor", opening_clocked)
    monkeypatch.setattr(latency_place.Processors, "warm_up_calls", 3)
    ran = command(
        "sennet-bench", "latency", strided_bundle, "--tile", "64", "--batch", "1", "--batch", "2", "--threads", "1",
        "--calls", "2", "--repeats", "3", "--json", tmp_path / "l.json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    one, two = ((batch, 1, 64, 64) for batch in (1, 2))
    assert calls == [one, two] + 3 * ([one] * 5 + [two] * 5)
    assert opened == 2 * [{"runtime": "onnxruntime", "precision": "fp32", "threads": 1, "contexts": 1}]
    assert clock.closed == [2, 32]
    kept = json.loads((tmp_path / "l.json").read_text())["entries"]
    assert [(one["load_seconds"], one["first_seconds"]) for one in kept] == [(3.0, 10.0)] * 2
    assert kept[0]["warm_seconds"] == [[0.25] * 2] * 3
    assert kept[1]["warm_seconds"] == [[0.5] * 2] * 3


def test_a_call_that_overflows_is_timed_like_any_other(monkeypatch):
    """Noise may be what a network has no finite answer to."""
    clock = SimpleNamespace(now=0.0)

    def predict(tiles):
        clock.now += 0.5
        raise OverflowedError("infinite", tiles=(0,), answers=tiles)

    monkeypatch.setattr(latency_calls, "perf_counter", lambda: clock.now)
    assert call_seconds(SimpleNamespace(predict=predict), noise(16, 1)) == 0.5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--precision", "int8"], "holds no int8 ONNX file"),
        (["--precision", "fp8"], "expected auto or one of fp32, fp16, int8"),
        (["--tile", "80"], "tile: got 80, expected one of the sides that strided takes: 48, 64, 96, 128"),
        (["--runtime", "tensorflow"], "runtime: got 'tensorflow'"),
        (["--runtime", "tensorrt"], "which needs a GPU"),
        (["--device", "auto"], "expected cpu, cuda, or a GPU by its number"),
        (["--device", "cuda"], "a GPU was asked for"),
        (["--calls", "0"], "expected 1 or more of each"),
        (["--threads", "0"], "expected 1 or more of each"),
        (["--batch", "0"], "expected 1 or more of each"),
        (["--threads", "1000"], "threads: got 1000"),
        (["--cuda-graphs", "perhaps"], "expected one of auto, on, off"),
    ],
)
def test_what_cannot_be_measured_is_refused(command, strided_bundle, monkeypatch, options, said):
    """With exit code 2, before anything is measured."""
    monkeypatch.setattr(choice, "census", lambda: Census((), why_none="there is none"))
    monkeypatch.setattr(measuring, "Watch", lambda: pytest.fail("it began to measure"))
    ran = command("sennet-bench", "latency", strided_bundle, *options)
    assert ran.code == 2
    assert said in ran.err


def test_two_models_of_one_name_are_refused(command, strided_bundle):
    """Their rows could not be told apart."""
    ran = command("sennet-bench", "latency", strided_bundle, strided_bundle)
    assert ran.code == 2
    assert "strided more than once" in ran.err


def test_all_contexts_at_work_have_a_column(command, strided_bundle, tmp_path):
    """A sample for each round, and none with one context."""
    ran = command(
        "sennet-bench", "latency", strided_bundle, "--tile", "64", "--threads", "1", "--contexts", "2", "--calls", "3",
        "--repeats", "2", "--json", tmp_path / "l.json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    found = read_measurement(tmp_path / "l.json")
    assert len(found.entries[0].busy_tiles_per_second) == 2
    (row,) = rows_of(ran.out).values()
    assert float(row["tiles/s, 2 contexts"]) == pytest.approx(np.mean(found.entries[0].busy_tiles_per_second), rel=1e-3)
    assert float(row["tiles/s"]) / 1000 < float(row["tiles/s, 2 contexts"]) < float(row["tiles/s"]) * 1000
    assert [one.name.split(": ")[1] for one in latency_figures(found)] == ["p50", "tiles/s", "tiles/s, all contexts"]


def test_figures_are_samples_of_rounds(table):
    """The median of each round's calls, in ms; more tiles in a second are better, more ms are not."""
    p50, rate = latency_figures(measured(entry([[0.01, 0.02, 0.06], [0.03] * 3])))
    assert (p50.name, p50.unit, p50.more_is_better) == ("small fp32, onnxruntime, 64 × 64, batch 2: p50", "ms", False)
    assert p50.samples == pytest.approx((20.0, 30.0))
    assert rate.samples == pytest.approx((2 / 0.03, 2 / 0.03))
    assert rate.more_is_better


def test_many_combinations_have_a_chart_for_each_model():
    """Up to eight curves share one; every call is in it."""
    eight = [entry(EVEN, model=model, tile=tile) for model in "ab" for tile in (64, 128, 192, 256)]
    found = [one for one in latency_charts(measured(*eight)) if isinstance(one, Distribution)]
    assert [len(one.curves) for one in found] == [8]
    assert found[0].curves[0][1] == pytest.approx(np.ravel(EVEN) * 1e3)
    found = [
        one
        for one in latency_charts(measured(*eight, entry(EVEN, model="b", tile=320)))
        if isinstance(one, Distribution)
    ]
    assert [len(one.curves) for one in found] == [4, 5]


def test_a_short_table_has_the_columns_that_matter():
    """For a README: five figures and the circumstances."""
    short = latency_short(measured(entry(EVEN)))
    assert short.heads == ("", "p50, ms", "p95, ms", "tiles/s", "Mpixel/s", "of the peak")
    assert short.rows[0][1:3] == ("20.1", "21.0")
    assert len(short.notes) == 1


def test_onnxruntime_does_not_spin_as_the_note_says(strided_bundle):
    """In the sessions that the engine makes."""
    with open_predictor(open_bundle(strided_bundle), threads=2) as predictor:
        options = predictor._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


# On a GPU


@pytest.fixture
def machine(monkeypatch):
    """A machine with a simulated GPU, cuda.core and TensorRT for RTX; kernels take the given milliseconds."""

    def made(*, milliseconds, devices=1):
        gpu = SimulatedGpu(0, devices=devices)
        gpus = tuple(Gpu(index, "NVIDIA simulated", "8.6", 2**30) for index in range(devices))
        profiles = (Profile(side=64, batch_smallest=1, batch_usual=2, batch_largest=4),)
        trt = RecordingTensorrt(gpu, profiles, milliseconds=milliseconds)
        monkeypatch.setattr(choice, "census", lambda: Census(gpus, driver="13.2"))
        monkeypatch.setattr(choice, "_version", lambda name: {"tensorrt-rtx": "1.7", "cuda-core": "1.2"}.get(name, ""))
        monkeypatch.setattr(cuda_driver, "_installed_core", lambda: gpu.core)
        monkeypatch.setattr(opening, "open_product", lambda _: None)
        monkeypatch.setattr(opening, "load_engine", lambda *_, **__: loaded_engine(trt))
        monkeypatch.setattr(opening, "CompiledKernels", lambda *_, **__: SimpleNamespace(runtime_cache=None))
        return gpu

    return made


def on_gpu(command, bundle, tmp_path, *options):
    ran = command(
        "sennet-bench", "latency", bundle, "--device", "cuda", "--tile", "64", "--batch", "2", "--calls", "3",
        "--repeats", "2", "--json", tmp_path / "g.json", *options,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    return ran, read_measurement(tmp_path / "g.json")


def test_on_a_gpu_a_call_is_told_in_parts(command, machine, identity_bundle, tmp_path):
    """By the GPU's clock: a copy is 1 ms and the kernel 7; answers and flags are copied back."""
    gpu = machine(milliseconds=7.0)
    ran, found = on_gpu(command, identity_bundle, tmp_path, "--cuda-graphs", "off")
    parts = found.entries[0].part_seconds
    for part, seconds in (("copy in", 0.001), ("compute", 0.007), ("copy out", 0.002)):
        assert np.shape(parts[part]) == (2, 3)
        assert np.ravel(parts[part]) == pytest.approx(seconds)
    assert np.shape(parts["enqueue"]) == (2, 3)
    assert 0 < np.max(parts["enqueue"]) < 0.5
    (row,) = rows_of(ran.out).values()
    assert [row[f"{part}, ms"] for part in ("copy in", "compute", "copy out")] == ["1.000", "7.000", "2.000"]
    assert float(row["tiles/s by compute alone"]) == pytest.approx(2 / 0.007, rel=1e-3)
    assert row["of the peak"] == "–"
    assert re.search(r"peak was not measured: .*onnxruntime-gpu", ran.out)
    assert "cuda:0 (NVIDIA simulated), TensorRT for RTX" in ran.out
    assert "blocking_sync" in ran.out
    assert all(gpu.bytes_in_use(index) == 0 for index in (0, None))
    parts_chart = latency_charts(found)[-1]
    assert parts_chart.bars[0][1] == pytest.approx({"copy in": 1.0, "compute": 7.0, "copy out": 2.0})


@pytest.mark.parametrize(
    ("milliseconds", "said", "options"),
    [
        (0.0, "by a CUDA graph", ["--calls", "1", "--repeats", "1"]),
        (1000.0, "without a CUDA graph", ["--calls", "1", "--repeats", "1"]),
        (1000.0, "without a CUDA graph", ["--contexts", "2", "--calls", "8"]),
    ],
)
def test_what_the_engine_decides_on_cuda_graphs_is_told(
    command, machine, identity_bundle, tmp_path, milliseconds, said, options
):
    """Within the calls that warm up; once, however many calls and contexts there are."""
    machine(milliseconds=milliseconds)
    ran, found = on_gpu(command, identity_bundle, tmp_path, *options)
    assert len(found.told) == 1
    assert said in found.told[0]
    assert f"CUDA graphs: auto, by runtimes of TensorRT alone: {found.told[0]}" in ran.out


def test_several_gpus_are_refused(command, machine, identity_bundle):
    """Each is measured by itself."""
    machine(milliseconds=1.0, devices=2)
    ran = command("sennet-bench", "latency", identity_bundle, "--device", "cuda:0,cuda:1")
    assert ran.code == 2
    assert "expected one GPU" in ran.err


def test_on_a_gpu_the_share_of_the_peak_is_that_of_compute_alone():
    """Without the copies."""
    one = measured(entry(EVEN, part_seconds={"compute": [[0.004, 0.005, 0.006]]}))
    assert peak_share(one, one.entries[0]) == pytest.approx(2 * 0.5 / 0.005 / 100)


def test_streams_are_closed(command, machine, identity_bundle, tmp_path, monkeypatch):
    """All but the one in whose order the device allocates: the predictor's, and one a round for the parts."""
    machine(milliseconds=1.0)
    opened, real = [], CudaDevice.open_stream
    monkeypatch.setattr(CudaDevice, "open_stream", lambda self: opened.append(real(self)) or opened[-1])
    on_gpu(command, identity_bundle, tmp_path)
    assert [one.is_closed for one in opened] == [False, True, True, True]


def test_the_host_sleeps_until_the_answers_are_there(command, machine, identity_bundle, tmp_path, monkeypatch):
    """As the note says: every event that a call is waited for with is of that kind."""
    gpu = machine(milliseconds=1.0)
    made, real = [], gpu.core.EventOptions
    monkeypatch.setattr(gpu.core, "EventOptions", lambda **options: made.append(options) or real(**options))
    on_gpu(command, identity_bundle, tmp_path, "--cuda-graphs", "off")
    assert made
    assert all(options["blocking_sync"] for options in made)


# The peak


def test_the_peak_is_the_fastest_product(monkeypatch):
    """Operations over seconds, 2 for a multiply-add; the first products are not counted."""
    clock = SimpleNamespace(now=0.0)
    seconds = iter([9.0, 0.0001, 0.5, 0.2, 0.4])

    def product():
        clock.now += next(seconds)

    monkeypatch.setattr(matrix_peak, "perf_counter", lambda: clock.now)
    monkeypatch.setitem(matrix_peak.PRODUCTS, "onnxruntime", lambda *_: product)
    monkeypatch.setattr(matrix_peak, "SIDE", 1000)
    assert processors_gflops("onnxruntime", threads=1) == 2e9 / 0.2 / 1e9


def test_the_product_is_one_of_matrices():
    """By constant weights, as a network's are."""
    session = onnxruntime.InferenceSession(product_model(64, "float32"), providers=["CPUExecutionProvider"])
    rows = np.random.default_rng(0).standard_normal((64, 64), np.float32)
    assert np.allclose(session.run(None, {"rows": rows})[0], rows @ rows, atol=1e-4)


def test_the_gpus_product_lies_in_its_memory(monkeypatch):
    """On a stand-in for onnxruntime-gpu: float16, by the CUDA provider of that GPU."""
    places, providers = [], []

    class OrtValue:
        @staticmethod
        def ortvalue_from_numpy(array, *place):
            places.append((array.dtype, place))
            return onnxruntime.OrtValue.ortvalue_from_numpy(array)

        @staticmethod
        def ortvalue_from_shape_and_type(shape, dtype, *place):
            places.append((np.dtype(dtype), place))
            return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, dtype)

    def session(content, options, **asked):
        assert asked["enable_fallback"] == 0
        providers.append(asked["providers"])
        real = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return SimpleNamespace(
            get_providers=lambda: ["CUDAExecutionProvider"], io_binding=real.io_binding,
            run_with_iobinding=real.run_with_iobinding,
        )  # fmt: skip

    module = SimpleNamespace(OrtValue=OrtValue, InferenceSession=session, SessionOptions=onnxruntime.SessionOptions)
    heard = pytest.MonkeyPatch.context
    monkeypatch.setattr(
        matrix_peak, "OnnxruntimeOnGpu", lambda _: SimpleNamespace(module=module, heard=heard, errors=(RuntimeError,))
    )
    monkeypatch.setattr(matrix_peak, "GPU_SIDE", 64)
    assert gpu_gflops(1) > 0
    assert places == [(np.dtype("float16"), ("cuda", 1))] * 2
    assert providers == [[("CUDAExecutionProvider", {"device_id": "1"})]]
