"""Tiles that overflow in a bundle's half precision: found by its own graph, named, or answered in float32."""

import hashlib
import json
from contextlib import ExitStack

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sennet_engine.bundle import open_bundle
from sennet_engine.ensemble import Ensemble
from sennet_engine.ensemble_file import expanded_passes
from sennet_engine.errors import ModelError, OverflowedError
from sennet_engine.pipeline.overflow import OverflowWatch
from sennet_engine.pipeline.plane_source import VolumePlanes
from sennet_engine.pipeline.stream_pipeline import run_axis
from sennet_engine.planning.cells import Occupancy, everywhere
from sennet_engine.planning.planner import PlanRequest, make_plan
from sennet_engine.reference import reference_sums
from sennet_engine.runtimes import RUNTIMES, open_predictor
from sennet_engine.survey.audit import audited
from sennet_engine.volumes.volume import ArrayVolume
from sennet_engine.window import Window
from sennet_export.half.overflow import with_overflow_output

from ..conftest import write_bundle

KEY = "hot.model fp16"
SHAPE = (20, 75, 90)
WINDOW = Window(0, 255)
FLIPS = ["none", "rows", "columns", "both"]
# Of the exponential: e^x leaves float32 above 88.72, so at a mean grey level of 250.
EXPONENT = 88.72 / 250
MODELS = {"infinity": "Add", "NaN": "Sub"}


@pytest.fixture(scope="module")
def volume():
    """Noise, and white blocks: small ones in single tiles, and one over the tiles of several planes."""
    stack = np.random.default_rng(3).integers(40, 200, SHAPE, dtype=np.uint8)
    stack[2, 4:12, 5:14] = 255
    stack[9:12, 25:50, 40:80] = 255
    stack[19, 66:, 80:] = 255
    return ArrayVolume(stack)


def nodes_of(last, *, slope):
    """From tiles to probabilities by the mean of 5 x 5 pixels, which is not symmetric; with the exponential that
    overflows where `last` names the operator that joins it twice to the logits."""
    overflowing = [
        helper.make_node("Mul", ["mean", "exponent"], ["power"]),
        helper.make_node("Exp", ["power"], ["huge"]),
        helper.make_node("Mul", ["huge", "tiny"], ["some"]),
        helper.make_node("Mul", ["huge", "tinier"], ["more"]),
        helper.make_node("Add", ["calm", "some"], ["hot"]),
        helper.make_node(last, ["hot", "more"], ["logits"]),
    ] if last else [helper.make_node("Identity", ["calm"], ["logits"])]  # fmt: skip
    return [
        helper.make_node("Cast", ["tiles"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["grey", "kernel"], ["mean"], pads=[2, 2, 2, 2]),
        helper.make_node("Sub", ["mean", "middle"], ["centred"]),
        helper.make_node("Mul", ["centred", slope], ["calm"]),
        *overflowing,
        helper.make_node("Sigmoid", ["logits"], ["shares"]),
        helper.make_node("Mul", ["shares", "levels"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["whole"]),
        helper.make_node("Clip", ["whole", "none", "levels"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["probabilities"], to=TensorProto.UINT8),
    ]


def weights():
    kernel = np.random.default_rng(4).random((1, 1, 5, 5)).astype(np.float32)
    values = {
        "kernel": kernel / kernel.sum(), "middle": 120, "steep": 0.05, "flat": 0.03, "exponent": EXPONENT,
        "tiny": 1e-38, "tinier": 5e-39, "levels": 255, "none": 0,
    }  # fmt: skip
    return [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in values.items()]


@pytest.fixture
def bundle_of(tmp_path):
    """A bundle whose fp16 file overflows on white and says so; its fp32 file answers otherwise, and stays finite."""

    def make(kind="infinity", *, fp32_too=False):
        folder = write_bundle(
            tmp_path / "hot.model", nodes_of(None, slope="flat"), weights(), stride=4, sides=[32, 48], halo=4
        )
        card = json.loads((folder / "model.json").read_text())
        plain = onnx.load(folder / "model.onnx")
        del plain.graph.node[:]
        plain.graph.node.extend(nodes_of(MODELS[kind], slope="steep"))
        content = with_overflow_output(plain).SerializeToString()
        for name, precision in (("model.fp16.onnx", "fp16"), ("model.onnx", "fp32"))[: 1 + fp32_too]:
            (folder / name).write_bytes(content)
            sha256 = hashlib.sha256(content).hexdigest()
            card["files"][name] = {
                "sha256": sha256, "bytes": len(content), "kind": "onnx", "precision": precision
            }  # fmt: skip
        (folder / "model.json").write_text(json.dumps(card))
        return open_bundle(folder)

    return make


def plan_of(bundle, *, batch=1, planes=16, flips=("none",), occupancy=None, tile=None):
    passes = [{"model": "hot.model", "flips": list(flips)} | ({"tile": tile} if tile else {})]
    occupancy = occupancy or everywhere(SHAPE, reason="all")
    entries = expanded_passes(
        Ensemble(passes=passes, threshold=0.5), {KEY: bundle}, shape_zyx=SHAPE, voxel_size_um=None, precision="fp16"
    )
    request = PlanRequest(threshold=0.5, batch=batch, slab_planes=planes, memory_bytes=1)
    return make_plan(entries, occupancy, request, memory_needed=lambda _: 0)


def opened(bundle, precision, *, runtime="onnxruntime", contexts=1):
    return open_predictor(bundle, runtime=runtime, precision=precision, threads=1, contexts=contexts)


def pipeline_sums(volume, plan, predictor, watch, **options):
    slabs = []

    def sink(slab):
        slabs.append(slab.canvas.sums.copy())

    run_axis(VolumePlanes(volume, WINDOW), plan.axes[0], {KEY: predictor}, sink, overflows=watch, **options)
    return np.concatenate(slabs)


class ByBrightness:
    """What the two files together should say, without any watch: float32 for tiles with a white place."""

    def __init__(self, half, fp32):
        self.half, self.fp32, self.bright = half, fp32, 0

    def predict(self, tiles):
        try:
            return self.half.predict(tiles)
        except OverflowedError:
            self.bright += 1
            return self.fp32.predict(tiles)


def is_hot(tiles):
    """Whether the mean of 5 x 5 pixels reaches 250 anywhere in each of the tiles [B, 1, H, W]."""
    kernel = numpy_helper.to_array(weights()[0])[0, 0]
    padded = np.pad(tiles[:, 0].astype(np.float32), ((0, 0), (2, 2), (2, 2)))
    around = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2))
    return (np.einsum("bhwij,ij->bhw", around, kernel) > 250).any(axis=(1, 2))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_predictor_tells_which_tiles_overflowed(bundle_of, runtime, kind):
    """In every place of a batch, whether the logits are infinite or no number; the other answers can be used."""
    tiles = np.random.default_rng(7).integers(0, 200, (6, 1, 48, 32), dtype=np.uint8)
    tiles[1, 0, :8, :8] = tiles[4, 0, -8:, -8:] = 255
    assert is_hot(tiles).tolist() == [False, True, False, False, True, False]
    with opened(bundle_of(kind), "fp16", runtime=runtime, contexts=2) as predictor:
        assert predictor.watches_overflow
        for context in (0, 1):
            with pytest.raises(OverflowedError, match=r"model\.fp16\.onnx: answers 2 of 6 tiles") as overflow:
                predictor.predict(tiles, context=context)
            assert overflow.value.tiles == (1, 4)
            answers = overflow.value.answers.copy()
            assert answers.shape == tiles.shape
            assert (answers[[0, 2, 3, 5]] == predictor.predict(tiles[[0, 2, 3, 5]], context=context)).all()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_bundles_that_do_not_watch_still_work(identity_bundle, runtime):
    """Their files have one output."""
    with opened(open_bundle(identity_bundle), "fp32", runtime=runtime) as predictor:
        assert not predictor.watches_overflow
        tiles = np.arange(1024, dtype=np.uint8).reshape(1, 1, 32, 32)
        assert (predictor.predict(tiles) == tiles).all()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_second_output_of_another_kind_is_refused(tmp_path, runtime):
    """What it is, and what was expected."""
    folder = write_bundle(tmp_path / "odd.model", nodes_of(None, slope="flat"), weights(), stride=4, sides=[32], halo=0)
    model = onnx.load(folder / "model.onnx")
    model.graph.output.append(helper.make_tensor_value_info("shares", TensorProto.FLOAT, ["batch", 1, "h", "w"]))
    content = model.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    card = json.loads((folder / "model.json").read_text())
    card["files"]["model.onnx"] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"got .*shares.*expected .*overflowed, uint8 \[B\]"):
        opened(open_bundle(folder), "fp32", runtime=runtime)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", MODELS)
def test_the_run_stops_with_model_plane_and_tile(bundle_of, volume, runtime, kind):
    """The tile that is named holds what is white in that plane."""
    bundle = bundle_of(kind)
    with opened(bundle, "fp16", runtime=runtime) as predictor:
        with pytest.raises(
            OverflowedError, match=r"hot\.model fp16: answers the tile of .* of plane z = 2 with NaN or inf"
        ):
            pipeline_sums(volume, plan_of(bundle), predictor, None)
        with pytest.raises(OverflowedError, match="of plane z = 2 "):
            reference_sums(volume, {KEY: predictor}, plan_of(bundle), window=WINDOW)


@pytest.mark.parametrize("flips", [["none"], FLIPS])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_tiles_in_float32_do_not_depend_on_the_way_of_the_work(bundle_of, volume, runtime, flips):
    """Batches, slabs, contexts and rings: the sums are those of a choice by brightness, and the tiles are counted."""
    bundle = bundle_of()
    with ExitStack() as held:
        half, fp32 = (held.enter_context(opened(bundle, precision, runtime=runtime)) for precision in ("fp16", "fp32"))
        both = held.enter_context(opened(bundle, "fp16", runtime=runtime, contexts=2))
        choice = ByBrightness(half, fp32)
        expected = reference_sums(volume, {KEY: choice}, plan_of(bundle, flips=flips), window=WINDOW)
        assert choice.bright > 4 * len(flips)

        def watched():
            return OverflowWatch({KEY: lambda: opened(bundle, "fp32", runtime=runtime)})

        with watched() as watch:
            plan = plan_of(bundle, flips=flips)
            assert (reference_sums(volume, {KEY: half}, plan, window=WINDOW, overflows=watch) == expected).all()
            assert watch.tiles == {KEY: choice.bright}
        ways = [(half, 1, 16, 2), (half, 4, 1, 1), (half, 4, 16, 3), (both, 3, 4, 2)]
        for predictor, batch, planes, ring in ways:
            with watched() as watch:
                plan = plan_of(bundle, batch=batch, planes=planes, flips=flips)
                found = pipeline_sums(volume, plan, predictor, watch, ring=ring)
            assert (found == expected).all(), (batch, planes, ring)
            assert watch.tiles == {KEY: choice.bright}
        with_fp32_alone = pipeline_sums(volume, plan_of(bundle, flips=flips), fp32, None)
    # The white place over all of its tiles is what fp32 says, the dark planes are not.
    assert (found[10, 30:45, 50:70] == with_fp32_alone[10, 30:45, 50:70]).all()
    assert (found[6] != with_fp32_alone[6]).any()


def test_float32_overflowing_too_stops_the_run(bundle_of, volume):
    """The error says so, with model, plane and tile."""
    bundle = bundle_of(fp32_too=True)
    with (
        opened(bundle, "fp16") as predictor,
        OverflowWatch({KEY: lambda: opened(bundle, "fp32")}) as watch,
        pytest.raises(
            OverflowedError, match=r"hot\.model fp16: .* of plane z = 2 with NaN or infinity, in float32 too"
        ),
    ):
        pipeline_sums(volume, plan_of(bundle), predictor, watch)
    assert not watch.tiles


@pytest.fixture
def white_background():
    """A volume whose right half is white, and left out; and what holds the organ."""
    stack = np.full(SHAPE, 100, np.uint8)
    stack[:, :, 48:] = 255
    cells = everywhere(SHAPE, reason="").cells.copy()
    cells[..., 3:] = False
    return ArrayVolume(stack), Occupancy(SHAPE, cells)


@pytest.mark.parametrize("batch", [1, 4])
def test_the_audit_of_a_finished_run_goes_on(bundle_of, white_background, caplog, batch):
    """Tiles of background that overflow are answered in float32; without it they are left out, and it is said."""
    volume, occupancy = white_background
    bundle = bundle_of()
    plan = plan_of(bundle, batch=batch, occupancy=occupancy)
    tilings = {KEY: bundle.card.tiling}
    with opened(bundle, "fp16") as predictor:
        without = audited(volume, WINDOW, plan, {KEY: predictor}, tilings=tilings, share=0.2)
        assert without.tiles_overflowed > 0
        assert f"{without.tiles_overflowed} of {without.tiles} tiles overflowed" in without.sentence
        assert "hot.model fp16: answers the tile of" in caplog.text
        with OverflowWatch({KEY: lambda: opened(bundle, "fp32")}) as watch:
            found = audited(volume, WINDOW, plan, {KEY: predictor}, tilings=tilings, share=0.2, overflows=watch)
        assert watch.tiles == {KEY: without.tiles_overflowed}
    assert found.tiles_overflowed == 0
    assert "overflowed" not in found.sentence
    assert found.voxels > without.voxels
    with opened(bundle, "fp32") as fp32:
        alone = audited(volume, WINDOW, plan, {KEY: fp32}, tilings=tilings, share=0.2)
    assert (found.voxels, found.highest_probability) == (alone.voxels, alone.highest_probability)


def test_a_person_is_told_of_the_tile_and_of_what_to_do(command, bundle_of, volume, tmp_path):
    """Without --on-overflow the command ends in 2; with fp32 it ends well, and the summary counts the tiles."""
    np.save(tmp_path / "white.npy", volume.read_planes(0, SHAPE[0]))
    bundle = bundle_of().path
    options = [tmp_path / "white.npy", "--model", bundle, "--window", "0,255", "--no-skip", "--quiet", "--tile", "32"]
    ran = command("sennet-infer", *options, "--precision", "fp16")
    assert ran.code == 2
    assert "of plane z = 2 with NaN or infinity" in ran.err
    assert "--on-overflow fp32" in ran.err
    ran = command("sennet-infer", *options, "--precision", "fp16", "--on-overflow", "fp32", "--overwrite")
    assert ran.code == 0, ran.err
    summary = json.loads((tmp_path / "white.sennet" / "summary.json").read_text())
    assert summary["overflowed_tiles"] == {KEY: summary["overflowed_tiles"][KEY]}
    assert 0 < summary["overflowed_tiles"][KEY] < summary["tiles"]
