"""Models on a GPU answer as on the processors: engines, providers, graphs, contexts, overflow, too little memory."""

import re
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest

from sennet_bench.gpu_check.links import why_not_built_for, why_provider_cannot_load
from sennet_engine.errors import DeviceMemoryError, ModelError, OverflowedError

pytestmark = pytest.mark.gpu

BATCH = 4
PACKAGES = {
    "tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt-rtx",
    "onnxruntime-cuda": "onnxruntime-gpu", "onnxruntime-tensorrt": "onnxruntime-gpu",
}  # fmt: skip
# In grey levels, of any pixel and on average: float32 in another order, and half.
TOLERANCES = {"fp32": (2, 0.02), "fp16": (40, 0.3)}


@pytest.fixture(autouse=True)
def installed(request, gpu):
    """Skips a runtime that is not installed, that cannot be loaded beside what is, or that knows no such GPU."""
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    for name in [parameters.get("runtime", "tensorrt")]:
        try:
            version(PACKAGES[name])
        except PackageNotFoundError:
            pytest.skip(f"{PACKAGES[name]} is not installed")
        if name == "onnxruntime-tensorrt" and (why := why_provider_cannot_load()):
            pytest.skip(why)
        if why := why_not_built_for(PACKAGES[name], gpu):
            pytest.skip(why)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("runtime", list(PACKAGES))
def test_answers_are_those_of_the_processors(open_model, model, tiles, expected, runtime, precision):
    """Within some grey levels; twice the same bits, in either context."""
    predictor = open_model(model, precision, runtime)
    answers = predictor.predict(tiles, context=0).copy()
    difference = np.abs(answers.astype(int) - expected)
    largest, mean = TOLERANCES[precision]
    assert difference.max() <= largest
    assert difference.mean() <= mean
    assert np.array_equal(predictor.predict(tiles, context=0), answers)
    assert np.array_equal(predictor.predict(tiles, context=1), answers)


@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt-rtx"])
def test_graphs_answer_the_same_bits(open_model, model, tiles, runtime):
    """Off, on and chosen; over enough calls that graphs are recorded and replayed, with tiles that change."""
    other = tiles[::-1].copy()
    found = []
    for graphs in ("off", "on", "auto"):
        predictor = open_model(model, "fp16", runtime, cuda_graphs=graphs)
        found.append([predictor.predict(one).copy() for one in [tiles, other] * 8])
    for answers in found[1:]:
        assert all(np.array_equal(one, another) for one, another in zip(found[0], answers, strict=True))


@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt-rtx", "onnxruntime-cuda"])
def test_contexts_that_compute_at_the_same_time_do_not_mix(open_model, model, tiles, runtime):
    """Three threads, each with a context and a tile order of its own."""
    predictor = open_model(model, "fp16", runtime, contexts=3)
    orders = [tiles, tiles[::-1].copy(), np.roll(tiles, 1, axis=0)]
    alone = [predictor.predict(order, context=0).copy() for order in orders]

    def repeated(context):
        return [predictor.predict(orders[context], context=context).copy() for _ in range(20)]

    with ThreadPoolExecutor(3) as threads:
        for context, answers in enumerate(threads.map(repeated, range(3))):
            assert all(np.array_equal(one, alone[context]) for one in answers)


@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt-rtx", "onnxruntime-cuda"])
def test_an_overflow_is_told_with_its_tiles(open_model, overflowing, runtime):
    """The bright tile of four, and no other; the next batch is answered as if nothing had been: by sigmoid(0)."""
    predictor = open_model(overflowing, "fp16", runtime)
    assert predictor.watches_overflow
    dark = np.zeros((BATCH, 1, 64, 64), np.uint8)
    bright = dark.copy()
    bright[2, 0, 5, 5] = 255
    with pytest.raises(OverflowedError) as raised:
        predictor.predict(bright)
    assert raised.value.tiles == (2,)
    assert np.isin(predictor.predict(dark), (127, 128)).all()


@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt-rtx"])
def test_an_engine_is_found_again(open_model, model, runtime):
    """Built once; the second start neither builds nor writes."""
    open_model(model, "fp16", runtime)
    files = {file: file.stat().st_mtime_ns for file in model.path.glob("*.engine")}
    assert files
    open_model(model, "fp16", runtime)
    assert {file: file.stat().st_mtime_ns for file in model.path.glob("*.engine")} == files


def test_a_changed_engine_is_never_loaded(open_model, model):
    """One byte of it turned round: refused by its name, and not replaced."""
    open_model(model, "fp16", "tensorrt")
    (engine,) = model.path.glob("*.fp16.tensorrt-*.engine")
    content = engine.read_bytes()
    changed = content[:-1] + bytes([content[-1] ^ 1])
    try:
        engine.write_bytes(changed)
        with pytest.raises(ModelError, match=re.escape(engine.name)):
            open_model(model, "fp16", "tensorrt")
        assert engine.read_bytes() == changed
    finally:
        engine.write_bytes(content)
    open_model(model, "fp16", "tensorrt")


def test_too_little_memory_is_told_or_halves_the_batch(open_model, device, model, tiles):
    """With nearly all of the GPU's memory taken; what is answered is right, and later all is well again."""
    predictor = open_model(model, "fp32", "tensorrt", contexts=1)
    expected = predictor.predict(tiles).copy()
    batch = np.tile(tiles, (4, 1, 1, 1))
    taken = []
    try:
        while device.free_memory() > 96 << 20:
            taken.append(device.buffer(max(32 << 20, (device.free_memory() - (64 << 20)) // 2)))
        try:
            answers = predictor.predict(batch)[:BATCH].astype(int)
        except DeviceMemoryError:
            answers = expected.astype(int)
    finally:
        taken.clear()
    assert np.abs(answers - expected).max() <= 1
    assert np.abs(predictor.predict(tiles).astype(int) - expected).max() <= 1
