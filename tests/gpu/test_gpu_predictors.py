"""Models on a GPU answer as on the processors: engines, providers, graphs, contexts, overflow, too little memory."""

from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest

from sennet_bench.gpu_check.links import why_provider_cannot_load
from sennet_engine.errors import DeviceMemoryError, ModelError, OverflowedError
from sennet_engine.runtimes import open_predictor

pytestmark = pytest.mark.gpu

BATCH = 4
PACKAGES = {
    "tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt-rtx",
    "onnxruntime-cuda": "onnxruntime-gpu", "onnxruntime-tensorrt": "onnxruntime-gpu",
}  # fmt: skip
# In grey levels, of any pixel and on average: float32 in another order, and half.
TOLERANCES = {"fp32": (2, 0.02), "fp16": (40, 0.3)}


@pytest.fixture(autouse=True)
def installed(request):
    """Skips a runtime that is not installed, or that cannot be loaded beside what is."""
    parameters = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    for name in [parameters.get("runtime", "tensorrt")]:
        try:
            version(PACKAGES[name])
        except PackageNotFoundError:
            pytest.skip(f"{PACKAGES[name]} is not installed")
        if name == "onnxruntime-tensorrt" and (why := why_provider_cannot_load()):
            pytest.skip(why)


@pytest.fixture
def tiles(model):
    """Smooth noise with dark lumens in it, uint8 [4, 1, side, side]."""
    side = model.card.tiling.default_side
    draw = np.random.default_rng(7)
    rows, columns = np.ogrid[:side, :side]
    grey = 100 + 10 * np.sin(rows / 17) + 8 * np.cos(columns / 23) + draw.normal(0, 2, (BATCH, 1, side, side))
    for number in range(BATCH):
        for y, x in draw.integers(20, side - 20, (12, 2)):
            grey[number, 0][(rows - y) ** 2 + (columns - x) ** 2 < 36] -= 12
    return np.clip(grey, 0, 255).astype(np.uint8)


@pytest.fixture
def expected(model, tiles):
    """What onnxruntime answers on the processors in float32."""
    with open_predictor(model, runtime="onnxruntime", precision="fp32") as predictor:
        return np.concatenate([predictor.predict(tile[None]).copy() for tile in tiles])


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
    """The bright tile of four, and no other; the next batch is answered as if nothing had been."""
    predictor = open_model(overflowing, "fp16", runtime)
    assert predictor.watches_overflow
    grey = np.full((BATCH, 1, 64, 64), 10, np.uint8)
    bright = grey.copy()
    bright[2, 0, 5, 5] = 255
    with pytest.raises(OverflowedError) as raised:
        predictor.predict(bright)
    assert raised.value.tiles == (2,)
    assert np.all(predictor.predict(grey) == 255)


@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt-rtx"])
def test_an_engine_is_found_again(open_model, model, runtime):
    """Built once; the second start neither builds nor writes."""
    open_model(model, "fp16", runtime)
    files = {file: file.stat().st_mtime_ns for file in model.path.glob("*.engine")}
    assert files
    open_model(model, "fp16", runtime)
    assert {file: file.stat().st_mtime_ns for file in model.path.glob("*.engine")} == files


def test_a_changed_engine_is_never_loaded(open_model, model, tiles, expected):
    """One byte of it turned round: refused, or another one is built in its place."""
    open_model(model, "fp16", "tensorrt")
    (engine, *_) = model.path.glob("*.tensorrt-*.engine")
    content = engine.read_bytes()
    try:
        engine.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        try:
            answers = open_model(model, "fp16", "tensorrt").predict(tiles).copy()
        except ModelError as error:
            refusal = str(error)
        else:
            refusal = f"{engine.name} was built anew"
            assert np.abs(answers.astype(int) - expected).mean() <= TOLERANCES["fp16"][1]
    finally:
        engine.write_bytes(content)
    assert engine.name in refusal


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
