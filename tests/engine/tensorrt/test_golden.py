"""Golden tiles: an engine that has not run on such a GPU is used only if it answers them."""

import hashlib
import io
import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from sennet_engine.bundle import open_bundle, update_files
from sennet_engine.card import ModelFile
from sennet_engine.engine_file import facts_path, read_facts
from sennet_engine.errors import ModelError, OverflowedError
from sennet_engine.tensorrt import golden
from sennet_engine.tensorrt.golden import limits_for, prove
from sennet_engine.tensorrt.loading import load_engine

from .rtx_without_gpu import RtxWithoutGpu, gpu_of, rtx

SIDE = 64
DRAW = np.random.default_rng(3)
TILES = DRAW.integers(0, 256, (2, 1, SIDE, SIDE), dtype=np.uint8)


def sparse_vessels():
    """What a good network answers: 2 % vessel, the rest dark and none of it near the threshold."""
    answers = DRAW.integers(0, 40, TILES.shape, dtype=np.uint8)
    answers[:, :, 20, ::1] = 200
    return answers


EXPECTED = sparse_vessels()


class Answering:
    """A predictor with the answer `change(EXPECTED)`, tile by tile."""

    def __init__(self, change=lambda answers: answers):
        self.calls = []
        self._answers = change(EXPECTED.copy())

    def predict(self, tiles):
        self.calls.append(tiles.copy())
        which = [next(i for i, one in enumerate(TILES) if np.array_equal(one, tile)) for tile in tiles]
        return self._answers[which]


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


GOLDEN = npz(**{f"tiles_{SIDE}": TILES, f"probabilities_{SIDE}": EXPECTED})


@pytest.fixture
def loaded(bundle, with_engine):
    """The engine of a bundle with golden tiles: the bundle and the engine; facts and card as asked."""

    def load(*, content=GOLDEN, parity=None, capability="8.6", **changed):
        with_engine(bundle, **changed)
        if content is not None:
            (bundle.path / "golden.npz").write_bytes(content)
            sha256 = hashlib.sha256(content).hexdigest()
            update_files(bundle.path, {"golden.npz": ModelFile(sha256=sha256, bytes=len(content), kind="golden")})
        if parity:
            card = json.loads((bundle.path / "model.json").read_text())
            measured = {"against": "model.onnx", "tiles": "phantom", "tile_count": 4, "largest_difference": 200}
            card["files"]["model.fp16.onnx"]["parity"] = measured | parity
            (bundle.path / "model.json").write_text(json.dumps(card))
        opened = open_bundle(bundle.path)
        engine = load_engine(
            opened, "fp16", rtx(RtxWithoutGpu()), gpu_of(capability), on_step=lambda _: None, cache=None
        )  # fmt: skip
        return opened, engine

    return load


def moved(by):
    return lambda answers: (answers.astype(int) + by).clip(0, 255).astype(np.uint8)


def with_flips(count):
    """`count` pixels of the background become vessel."""

    def change(answers):
        answers[0, 0, 30].flat[:count] = 128
        return answers

    return change


def test_an_engine_that_answers_is_marked_for_this_kind_of_gpu(loaded):
    """The facts are written whole, nothing else changes, and the tiles are not run again; on another GPU they are."""
    bundle, engine = loaded()
    before, content = engine.facts, engine.path.read_bytes()
    predictor = Answering()
    proof = prove(predictor, bundle, engine, gpu=gpu_of("8.6"))
    assert proof.verified
    assert "differ by 0 of 255 at most, 0 flips" in proof.text
    np.testing.assert_array_equal(predictor.calls, [TILES])
    marked = read_facts(engine.path)
    assert marked == before.model_copy(update={"verified": True, "verified_on": ["8.6"]})
    assert engine.path.read_bytes() == content
    _, again = loaded_again(bundle, "8.6")
    assert prove(None, bundle, again, gpu=gpu_of("8.6")).verified
    on_another = Answering()
    assert prove(on_another, bundle, again, gpu=gpu_of("8.9")).verified
    assert len(on_another.calls) == 1
    assert read_facts(engine.path).verified_on == ["8.6", "8.9"]


def loaded_again(bundle, capability):
    return bundle, load_engine(
        bundle, "fp16", rtx(RtxWithoutGpu()), gpu_of(capability), on_step=lambda _: None, cache=None
    )  # fmt: skip


@pytest.mark.parametrize(
    "change", [with_flips(4), lambda answers: answers ^ (np.indices(answers.shape).sum(0) % 2 == 0)]
)
def test_what_rounding_does_is_allowed(loaded, change):
    """A few pixels at the threshold, and a grey level in half of the pixels."""
    bundle, engine = loaded()
    assert prove(Answering(change), bundle, engine, gpu=gpu_of("8.6")).verified


@pytest.mark.parametrize(
    ("change", "figures"),
    [
        (np.zeros_like, r"tiles of 64: flips 1\.5\de-02 of the pixels, at most 2\.00e-03 .*Dice.*on average"),
        (with_flips(12), r"loses 0\.0\d+ of Dice, at most 0\.0200"),
        (with_flips(64), r"flips 7\.81e-03"),
        (moved(1), r"differs by 1\.000 grey levels on average, at most 0\.500"),
    ],
)  # fmt: skip
def test_an_engine_that_answers_otherwise_is_refused_with_the_figures(loaded, change, figures):
    """And stays unverified. An engine that finds nothing where vessels are few flips few pixels, but loses all."""
    bundle, engine = loaded()
    with pytest.raises(ModelError, match=figures):
        prove(Answering(change), bundle, engine, gpu=gpu_of("8.6"))
    assert not read_facts(engine.path).verified


def test_what_the_graph_itself_loses_is_allowed_on_top(loaded):
    """A graph that a person let through a wider gate must not fail for it here; its own entry counts."""
    bundle, engine = loaded(parity={"flipped_share": 0.01, "mean_difference": 1.0, "surface_dice": 0.5})
    assert prove(Answering(with_flips(64)), bundle, engine, gpu=gpu_of("8.6")).verified
    with pytest.raises(ModelError, match=r"loses 1\.0000 of Dice, at most 0\.5000"):
        prove(Answering(np.zeros_like), bundle, engine, gpu=gpu_of("8.9"))


def test_float32_is_held_to_the_grey_levels(loaded):
    """Unless it was built to round to the bits of TF32."""
    bundle, engine = loaded()
    facts = engine.facts.model_copy(update={"precision": "fp32"})
    assert limits_for(bundle, facts) == golden.LIMITS["fp32"]
    options = facts.identity.options.model_copy(update={"float32": "tf32"})
    identity = facts.identity.model_copy(update={"options": options})
    assert limits_for(bundle, facts.model_copy(update={"identity": identity})) == golden.LIMITS["fp16"]

    def one_pixel(answers):
        answers[1, 0, 40, 40] = answers[1, 0, 40, 40] + 4
        return answers

    with pytest.raises(ModelError, match="differs by up to 4 grey levels, at most 3"):
        prove(Answering(one_pixel), bundle, replace(engine, facts=facts), gpu=gpu_of("8.6"))


@pytest.mark.parametrize("content", [None, npz(tiles_96=np.zeros((1, 1, 96, 96), np.uint8))])
def test_without_golden_tiles_it_stays_unverified(loaded, caplog, content):
    """With a warning; tiles of sides that the engine does not take are as good as none."""
    bundle, engine = loaded(content=content)
    with caplog.at_level(logging.WARNING):
        proof = prove(None, bundle, engine, gpu=gpu_of("8.6"))
    assert not proof.verified
    assert "has no golden tiles" in caplog.text
    assert not read_facts(engine.path).verified


@pytest.mark.parametrize(
    "content",
    [
        b"rubbish",
        GOLDEN[:-40],
        npz(tiles_64=TILES),
        npz(tiles_64=TILES, probabilities_64=EXPECTED.astype(float)),
        npz(tiles_64=TILES, probabilities_64=EXPECTED[:1]),
        npz(tiles_64=TILES[:0], probabilities_64=EXPECTED[:0]),
        npz(tiles_64=np.array([print], object), probabilities_64=EXPECTED),
    ],
    ids=["rubbish", "cut", "no answers", "floats", "too few", "empty", "pickle"],
)
def test_golden_tiles_that_cannot_be_used_are_an_error(loaded, content):
    """A pickle among them is not opened."""
    bundle, engine = loaded(content=content)
    with pytest.raises(ModelError, match="holds no golden tiles"):
        prove(Answering(), bundle, engine, gpu=gpu_of("8.6"))


def test_changed_golden_tiles_are_refused(loaded):
    """Who could change them could let any engine pass."""
    bundle, engine = loaded()
    (bundle.path / "golden.npz").write_bytes(npz(tiles_64=TILES, probabilities_64=np.zeros_like(EXPECTED)))
    with pytest.raises(ModelError, match="got sha256"):
        prove(Answering(np.zeros_like), bundle, engine, gpu=gpu_of("8.6"))


def test_an_overflow_on_golden_tiles_is_a_refusal(loaded):
    """Half precision that cannot hold this network must not begin a volume."""

    class Overflowing:
        def predict(self, tiles):
            raise OverflowedError("", tiles=(0,), answers=tiles)

    bundle, engine = loaded()
    with pytest.raises(ModelError, match="NaN or infinity in fp16; it is not used"):
        prove(Overflowing(), bundle, engine, gpu=gpu_of("8.6"))


def test_facts_that_cannot_be_marked_cost_the_next_run_a_proof(loaded):
    """The engine is used; facts of an engine that has come in its place are left alone."""
    bundle, engine = loaded()
    path = facts_path(engine.path)
    other = json.loads(path.read_text()) | {"sha256": "d" * 64}
    path.write_text(json.dumps(other))
    assert prove(Answering(), bundle, engine, gpu=gpu_of("8.6")).verified
    assert json.loads(path.read_text()) == other
    path.unlink()
    assert prove(Answering(), bundle, engine, gpu=gpu_of("8.6")).verified
    assert not path.exists()
