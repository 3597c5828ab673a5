"""Models answer the same however many calls and threads compute them."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sennet_engine.bundle import BUILTIN, open_bundle
from sennet_engine.errors import ConfigError, ModelError
from sennet_engine.runtimes import RUNTIMES, installed_runtimes, open_predictor, usable_processors

WAYS = [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (1, 3)]


def noise(*shape):
    """uint8 tiles, smooth enough for vessels to be seen in some places."""
    coarse = np.random.default_rng(2).integers(0, 256, (shape[0], 1, shape[2] // 16 + 1, shape[3] // 16 + 1))
    return np.repeat(np.repeat(coarse, 16, 2), 16, 3)[..., : shape[2], : shape[3]].astype(np.uint8)


def answers(bundle, tiles, *, runtime, contexts, threads, precision="fp32", batch=1):
    """What every context says of all tiles, all of them asking at once: [contexts, tiles, 1, H, W]."""
    together = threading.Barrier(contexts)
    with (
        open_predictor(bundle, runtime=runtime, precision=precision, threads=threads, contexts=contexts) as predictor,
        ThreadPoolExecutor(contexts) as pool,
    ):
        assert (predictor.contexts, predictor.threads) == (contexts, threads)

        def ask(context):
            together.wait(timeout=20)
            return np.concatenate([
                predictor.predict(tiles[start : start + batch], context=context).copy()
                for start in range(0, len(tiles), batch)
            ])  # fmt: skip

        return np.stack(list(pool.map(ask, range(contexts))))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_contexts_threads_and_batch_do_not_change_an_answer(strided_bundle, runtime):
    """All ways give the same bits for rectangles of several shapes."""
    bundle = open_bundle(strided_bundle)
    for shape in ((4, 1, 64, 96), (4, 1, 128, 48)):
        tiles = noise(*shape)
        plain = answers(bundle, tiles, runtime=runtime, contexts=1, threads=1)[0]
        assert len(np.unique(plain)) > 5
        for contexts, threads in WAYS:
            for batch in (1, 4):
                found = answers(bundle, tiles, runtime=runtime, contexts=contexts, threads=threads, batch=batch)
                assert (found == plain).all(), (contexts, threads, batch)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_builtin_model_answers_the_same_bits_in_all_ways_on_onnxruntime(precision):
    """Masks are the same for any number of threads, contexts and tiles in a batch."""
    bundle, tiles = open_bundle(BUILTIN), noise(2, 1, 320, 384)
    plain = answers(bundle, tiles, runtime="onnxruntime", contexts=1, threads=1, precision=precision)[0]
    assert plain.max() > 25
    for contexts, threads, batch in ((1, 2, 2), (2, 1, 1), (2, 2, 2)):
        found = answers(
            bundle, tiles, runtime="onnxruntime", contexts=contexts, threads=threads, precision=precision, batch=batch
        )
        assert (found == plain).all()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_answer_stays_until_its_context_is_asked_again(strided_bundle, runtime):
    """What another context is asked, of another shape too, does not touch it."""
    tiles = noise(1, 1, 64, 96)
    with open_predictor(open_bundle(strided_bundle), runtime=runtime, threads=1, contexts=2) as predictor:
        held = predictor.predict(tiles, context=1)
        kept = held.copy()
        for other in (255 - tiles, noise(1, 1, 128, 128), noise(2, 1, 48, 48)):
            predictor.predict(other, context=0)
            assert (held == kept).all()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_tiles_that_a_model_does_not_take_name_its_file(strided_bundle, runtime):
    """The error of a runtime becomes one of ours."""
    with (
        open_predictor(open_bundle(strided_bundle), runtime=runtime, threads=1) as predictor,
        pytest.raises(ModelError, match=r"model\.onnx: cannot compute tiles of shape \(1, 3, 64, 64\)"),
    ):
        predictor.predict(np.zeros((1, 3, 64, 64), np.uint8))


def test_threads_are_those_of_one_call(identity_bundle):
    """By default the processors are divided among the contexts; more threads than the machine bears are refused."""
    bundle = open_bundle(identity_bundle)
    with open_predictor(bundle) as alone, open_predictor(bundle, contexts=2) as shared:
        assert alone.threads == usable_processors()
        assert shared.threads == max(1, usable_processors() // 2)
    for wrong in ({"contexts": 0}, {"contexts": 100000}, {"threads": 100, "contexts": 100}):
        with pytest.raises(ConfigError, match="expected 1 to"):
            open_predictor(bundle, **wrong)


def test_installed_runtimes_are_told_with_their_version():
    """What the trial's memory is keyed by."""
    for runtime, version in installed_runtimes().items():
        module = __import__(runtime)
        assert module.__version__.startswith(version)
    assert set(installed_runtimes()) == set(RUNTIMES)


def test_a_signal_is_handled_after_models_were_closed(strided_bundle):
    """Ctrl-C after several models have come and gone ends a run as at any other time."""
    script = f"""
import faulthandler, os, signal
from pathlib import Path
from sennet_engine.bundle import open_bundle
from sennet_engine.runtimes import installed_runtimes, open_predictor
faulthandler.enable()  # which has a stack for signals, as the runtimes may have
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
bundle = open_bundle(Path({str(strided_bundle)!r}))
for runtime in installed_runtimes():
    first, second = (open_predictor(bundle, runtime=runtime, threads=1) for _ in range(2))
    with first:
        pass
    del first
    with second:
        pass
    del second
    os.kill(os.getpid(), signal.SIGTERM)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode != -signal.SIGSEGV, ran.stderr
    assert (ran.returncode, ran.stdout.split()) == (0, ["handled"] * len(installed_runtimes())), ran.stderr
