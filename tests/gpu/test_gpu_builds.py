"""TensorRT builds on the GPU: what it has timed is kept for the next build, and the engine tells its precision."""

from importlib.util import find_spec

import pytest

from sennet_engine.tensorrt.build.builder import build_engine
from sennet_engine.tensorrt.build.settings import BuildSettings

pytestmark = pytest.mark.gpu


@pytest.fixture
def build(gpu, overflowing, tmp_path):
    """Build an engine of a small fp16 network into a folder."""
    if find_spec("tensorrt") is None:
        pytest.skip("tensorrt is not installed")
    onnx, timings = overflowing.path / "model.fp16.onnx", tmp_path / "timings"
    settings = BuildSettings(precision="fp16", sides=(64,), timing_cache=timings)

    def run(name):
        (tmp_path / name).mkdir()
        built = build_engine(
            onnx, tmp_path / name, target="tensorrt", settings=settings, on_progress=lambda *_: None
        )  # fmt: skip
        return built, timings

    return run


def test_timings_of_one_build_are_taken_by_the_next(build, caplog):
    """Neither refused nor replaced."""
    _, timings = build("first")
    kept = timings.read_bytes()
    assert kept
    build("second")
    assert "timings" not in caplog.text
    assert len(timings.read_bytes()) >= len(kept)


def test_the_precision_is_read_from_the_engine(build):
    """The inspector tells it of most multiply-adds: in half, as the network has them."""
    built, _ = build("inspected")
    assert built.facts.inspected == "engine"
    assert built.facts.share_by_precision["fp16"] > 0.9
