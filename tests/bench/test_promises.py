"""`sennet-bench dry-run`, `skipping`, `cascade` and `identical`: what the engine promises beside what it does."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from onnx import TensorProto, helper, numpy_helper

from sennet_bench.circumstances import circumstances
from sennet_bench.inference import (
    Forecast,
    Inference,
    InferenceError,
    finished_in_child,
    forecast_here,
    infer_here,
    infer_in_child,
)
from sennet_bench.made_bundles import write_small_bundle
from sennet_bench.made_volume import write_made_volume
from sennet_bench.mask_files import mask_sha256, surface_dice_of
from sennet_bench.promises.cascade import write_ensemble
from sennet_bench.promises.dry_run import EstimateEntry, EstimateMeasurement, Round, estimate_table
from sennet_bench.promises.identical import Way, mask_of_way
from sennet_engine.config import load_config
from sennet_engine.ensemble import Ensemble
from sennet_engine.settings import InferSettings
from sennet_engine.trial_memory import TrialMemory

ONNXRUNTIME = "--runtime", "onnxruntime"
ENDS = "tiles", "probabilities"


@pytest.fixture
def made(tmp_path):
    """A volume with an organ on 40 % of its planes, and a small exact network."""
    return write_made_volume(tmp_path / "volume.tif", (3, 512, 640)), write_small_bundle(tmp_path / "small.model")


@pytest.fixture
def here(monkeypatch):
    """Runs happen in this process, which is faster; that others are in processes of their own is shown elsewhere."""
    for module in ("dry_run", "skipping", "cascade"):
        monkeypatch.setattr(f"sennet_bench.promises.{module}.finished_in_child", infer_here)
    for module in ("dry_run", "skipping"):
        monkeypatch.setattr(f"sennet_bench.promises.{module}.forecast_in_child", forecast_here)


def measured(command, tmp_path, *arguments, code=0):
    """What a command measured, after its table was made anew from the JSON."""
    ran = command("sennet-bench", *arguments, "--json", tmp_path / "found.json")
    assert ran.code == code, ran.err
    assert command("sennet-bench", "table", tmp_path / "found.json").out.strip() == ran.out.strip()
    return json.loads((tmp_path / "found.json").read_text()), ran.out


def test_a_dry_run_is_held_against_the_run_that_follows(command, tmp_path, made):
    """Tiles agree, seconds and peaks are those of processes of their own, and ratios are told over happened."""
    volume, model = made
    kept, table = measured(
        command, tmp_path, "dry-run", volume, "--model", model, "--repeats", 1, "--threads", 1, *ONNXRUNTIME
    )
    (entry,) = kept["entries"]
    told, happened = entry["rounds"][0]["told"], entry["rounds"][0]["happened"]
    assert told["tiles"] == happened["tiles"] > 0
    assert 0 < told["own_seconds"] < 20
    row = next(line for line in table.splitlines() if line.startswith("| volume.tif"))
    assert f"| {told['seconds'] / happened['seconds']:.2f} |" in row
    assert ("runs made a trial of their own" in table) == (happened["trial_seconds"] > 0.1)
    # A network of two convolutions; this process, which has torch in it, is larger.
    assert all(30 < one["peak_mb"] < 400 for one in (told, happened))


def test_peaks_of_runs_with_a_trial_are_left_out():
    """A trial may need more than the run; seconds are without it anyway."""
    told = Forecast(
        seconds=3, peak_mb=200, tiles=1, pixels=1, pixels_without_skipping=1, own_seconds=1, part_seconds={}
    )
    run = Inference(
        seconds=2, trial_seconds=0, load_seconds=0, network_seconds=1, peak_mb=100, tiles=1, tiles_not_gone_on=0,
        skipped_share=0, planes_resumed=0, mask_sha256="", plan=[],
    )  # fmt: skip
    tried = replace(run, trial_seconds=3, peak_mb=900)
    rounds = [Round(told, tried), Round(told, run)]
    table = estimate_table(
        EstimateMeasurement([EstimateEntry("v", (1, 2, 3), "e", rounds)], 1, "auto", circumstances())
    ).markdown()
    assert "| 1 / 1 | 3.0 / 2.0 | 1.50 | 200 / 100 | 2.00 | 1.0 |" in table
    assert "0 of 2 ratios are within 25%" in table
    assert "1 of 2 runs made a trial of their own" in table
    alone = EstimateMeasurement([EstimateEntry("v", (1, 2, 3), "e", rounds[:1])], 1, "auto", circumstances())
    assert "| 3.0 / 2.0 | 1.50 | – | – | 1.0 |" in estimate_table(alone).markdown()


@pytest.mark.usefixtures("here")
def test_every_ensemble_is_estimated_on_every_volume(command, tmp_path, identity_bundle):
    """Two volumes and two models are four rows, in this order."""
    volumes = [write_made_volume(tmp_path / f"{name}.tif", (1, 128, 128)) for name in ("a", "b")]
    small = write_small_bundle(tmp_path / "small.model")
    kept, _ = measured(
        command, tmp_path, "dry-run", *volumes, "--model", identity_bundle, "--model", small, "--repeats", 1,
        *ONNXRUNTIME,
    )  # fmt: skip
    pairs = [(one["volume"], one["ensemble"]) for one in kept["entries"]]
    assert pairs == [("a.tif", "identity"), ("a.tif", "small"), ("b.tif", "identity"), ("b.tif", "small")]


@pytest.mark.usefixtures("here")
def test_skipping_leaves_out_background_and_no_vessel(command, tmp_path, made):
    """Fewer pixels, the same mask; the network as if never exact is tiled and blended anew."""
    volume, model = made
    truth = tmp_path / "truth.tif"
    tifffile.imwrite(truth, (tifffile.imread(volume) > 190).astype(np.uint8), photometric="minisblack")
    kept, table = measured(
        command, tmp_path, "skipping", volume, "--truth", truth, "--model", model, "--never-exact", 256,
        "--repeats", 1, *ONNXRUNTIME,
    )  # fmt: skip
    packed, blended = kept["entries"]
    for one in (packed, blended):
        assert one["pixels_skipping"] < one["pixels"]
        assert one["skipped_share"] > 0.3
        assert one["pairs"][0]["everything"]["skipped_share"] == 0
        assert one["surface_dice"] == one["surface_dice_skipping"] > 0.5
        assert one["surface_dice_between"] == 1
    # 256 at a stride of 192: three rows of three columns on each plane.
    assert blended["pairs"][0]["everything"]["tiles"] == 3 * 3 * 3
    assert f"| {1 - packed['pixels_skipping'] / packed['pixels']:.0%} |" in table


@pytest.fixture
def ensemble(tmp_path):
    """Two passes of a small network, the second in tiles of 256 that overlap by 16 pixels on each side."""
    write_small_bundle(tmp_path / "small.model")
    path = tmp_path / "twice.toml"
    path.write_text(
        '[[passes]]\nmodel = "small.model"\n[[passes]]\nmodel = "small.model"\nflips = ["rows"]\ntile = 256'
    )
    return path


@pytest.fixture
def spot(tmp_path):
    """A volume with one vessel, through the upper left corner of its planes, and its truth."""
    stack = np.random.default_rng(1).integers(90, 110, (2, 560, 560)).astype(np.uint8)
    stack[:, 20:40, 20:40] = 250
    for name, content in (("spot", stack), ("truth", (stack == 250).astype(np.uint8))):
        tifffile.imwrite(tmp_path / f"{name}.tif", content, photometric="minisblack")
    return tmp_path / "spot.tif", tmp_path / "truth.tif"


@pytest.mark.usefixtures("here")
def test_a_cascade_goes_on_where_the_first_pass_saw_something(command, tmp_path, ensemble, spot):
    """One of nine tiles holds the vessel; from a bound below the background on all go on. The score is that of all."""
    volume, truth = spot
    kept, table = measured(
        command, tmp_path, "cascade", volume, ensemble, "--truth", truth, "--low-bound", 0.7, "--low-bound", 0.02,
        "--repeats", 1, *ONNXRUNTIME,
    )  # fmt: skip
    first, everything, any_tiles, high, low = kept["entries"]
    assert (first["gone_on_share"], everything["gone_on_share"], any_tiles["gone_on_share"]) == (0, 1, None)
    assert high["gone_on_share"] == pytest.approx(1 / 9)
    assert low["gone_on_share"] == 1
    assert (high["low_bound"], low["low_bound"], everything["low_bound"]) == (0.7, 0.02, None)
    for one in (everything, any_tiles, high, low):
        assert one["surface_dice_to_all"] == 1
        assert one["surface_dice"] == everything["surface_dice"] > 0.5
    assert "| cascade from 0.7 on | 11.1% |" in table
    assert "| +0.0000 |" in table


def test_ensembles_are_written_as_they_are_read(request, tmp_path):
    """All shipped files, and one with every key and a name that needs escapes."""
    shipped = sorted((request.config.rootpath / "ensembles").glob("*.toml"))
    assert len(shipped) >= 3
    for path in shipped:
        held = load_config(path, Ensemble)
        assert load_config(write_ensemble(tmp_path / path.name, held), Ensemble) == held
    one = {"model": "a.model", "axes": "zy", "scale": 1.2, "tile": 64, "stride": 32, "weight": 3, "precision": "int8"}
    held = Ensemble.model_validate(
        {"name": 'Ü "x" \\ \N{GRINNING FACE}', "passes": [{"model": "b"}, one], "threshold": 0.5, "cascade": {}}
    )
    assert load_config(write_ensemble(tmp_path / "x.toml", held), Ensemble) == held


def test_masks_are_identical_however_they_are_made(command, tmp_path, strided_bundle):
    """Batches, slabs, threads, calls, rings, orders, and two kills with what was done kept."""
    volume = write_made_volume(tmp_path / "volume.tif", (5, 160, 160))
    kept, table = measured(command, tmp_path, "identical", volume, "--model", strided_bundle, "--kills", 2)
    assert kept["kills"] == 2
    assert kept["runs_with_kills"] >= 1
    titles = [one["title"] for one in kept["results"]]
    for expected in (
        "batches of 3",
        "slabs of 1 plane",
        "2 threads",
        "2 calls at a time",
        "ring of 4",
        "run 1 with kills",
    ):
        assert any(expected in title for title in titles)
    assert all(one["identical"] for one in kept["results"])
    assert len({one["mask_sha256"] for one in kept["results"]}) == 1
    assert "2 kills by SIGKILL" in table


def test_a_mask_that_depends_on_the_batch_is_told(command, tmp_path, identity_bundle):
    """A network that subtracts the mean of its batch: exit code 1, and the rows that differ say NO."""
    nodes = [
        helper.make_node("Cast", ["tiles"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["grey", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["grey", "mean"], ["x"]),
        helper.make_node("Abs", ["x"], ["y"]),
        helper.make_node("Mul", ["y", "much"], ["z"]),
        helper.make_node("Min", ["z", "top"], ["q"]),
        helper.make_node("Cast", ["q"], ["probabilities"], to=TensorProto.UINT8),
    ]
    weights = [
        numpy_helper.from_array(np.array(value, kind), name)
        for name, value, kind in (("axes", [0], np.int64), ("much", 50, np.float32), ("top", 255, np.float32))
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.UINT8, ["b", 1, "h", "w"]) for name in ENDS]
    graph = helper.make_graph(nodes, "test", ends[:1], ends[1:], weights)
    content = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    ).SerializeToString()  # fmt: skip
    (identity_bundle / "model.onnx").write_bytes(content)
    card = json.loads((identity_bundle / "model.json").read_text())
    card["files"]["model.onnx"] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (identity_bundle / "model.json").write_text(json.dumps(card))
    volume = write_made_volume(tmp_path / "volume.tif", (3, 128, 128))
    kept, table = measured(command, tmp_path, "identical", volume, "--model", identity_bundle, "--kills", 0, code=1)
    identical = {one["title"]: one["identical"] for one in kept["results"]}
    assert identical["2 threads"]
    assert not identical["batches of 2"]
    assert "| NO |" in next(line for line in table.splitlines() if line.startswith("| batches of 2"))


def test_each_way_is_the_way_that_it_says(tmp_path, strided_bundle, monkeypatch):
    """The pipeline gets the way's batch, slabs, ring and order, and predictors with its threads and calls."""
    import sennet_bench.promises.identical as identical

    seen = {}

    class Watched(identical.VolumeRun):
        def __init__(self, *arguments, ring, **others):
            _volume, _window, seen["plan"], seen["workers"], *_ = arguments
            seen["ring"] = ring
            super().__init__(*arguments, ring=ring, **others)

    monkeypatch.setattr(identical, "VolumeRun", Watched)
    volume = write_made_volume(tmp_path / "volume.tif", (5, 160, 160))
    settings = InferSettings(model=strided_bundle, runtime="onnxruntime", tile=64, trials=TrialMemory(None))
    plain = mask_of_way(volume, settings, Way("plain"), tmp_path / "a")
    forward = [tile.origin for tile in seen["plan"].axes[0].passes[0].layouts[0]]
    way = Way("other", batch=2, slab_planes=3, threads=2, contexts=2, ring=3, backwards=True)
    assert mask_of_way(volume, settings, way, tmp_path / "b") == plain
    axis = seen["plan"].axes[0]
    (worker,) = seen["workers"]
    (predictor,) = worker.predictors.values()
    assert [tile.origin for tile in axis.passes[0].layouts[0]] == forward[::-1]
    assert (axis.passes[0].batch, len(axis.slabs[0]), seen["ring"]) == (2, 3, 3)
    assert (predictor.threads, predictor.contexts) == (2, 2)


def test_a_killed_run_leaves_nothing_and_a_failed_one_tells_why(tmp_path, made):
    """None for a kill; the last line of its stderr otherwise."""
    volume, model = made
    settings = InferSettings(model=model, out=tmp_path / "out", threads=1, runtime="onnxruntime")
    assert infer_in_child(volume, settings, kill_after=0.05) is None
    assert not (tmp_path / "out").exists()
    with pytest.raises(InferenceError, match=r"no-such-file\.tif"):
        finished_in_child(tmp_path / "no-such-file.tif", settings)


def test_masks_are_compared_by_their_voxels(tmp_path):
    """0/1 and 0/255 are the same mask, another voxel is another; two empty masks have no surface to agree on."""
    mask = np.zeros((2, 9, 9), np.uint8)
    files = {"empty": mask.copy()}
    mask[0, 3:5, 3:5] = 1
    files |= {"ones": mask.copy(), "full": 255 * mask}
    mask[1, 0, 0] = 1
    files["more"] = mask
    paths = {name: tmp_path / f"{name}.tif" for name in files}
    for name, content in files.items():
        tifffile.imwrite(paths[name], content, photometric="minisblack")
    assert mask_sha256(paths["ones"]) == mask_sha256(paths["full"]) != mask_sha256(paths["more"])
    assert surface_dice_of(paths["ones"], paths["full"]) == 1
    assert surface_dice_of(paths["empty"], paths["empty"]) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dry-run", "VOLUME", "--repeats", "0"], "expected 1 or more"),
        (["skipping", "VOLUME", "--truth", "OTHER"], "expected (1, 64, 64) as the volume has"),
        (["skipping", "VOLUME", "--never-exact", "33"], "got 33, expected one of"),
        (["cascade", "VOLUME", "ONE", "--truth", "VOLUME"], "has one pass, expected two or more"),
        (["cascade", "VOLUME", "TWO", "--truth", "VOLUME", "--low-bound", "0.9"], "is above the threshold"),
        (["cascade", "VOLUME", "TWO", "--truth", "OTHER"], "expected (1, 64, 64) as the volume has"),
        (["identical", "VOLUME", "--kills", "-1"], "expected 0 or more"),
    ],
)
def test_bad_values_end_in_one_clear_line(command, tmp_path, arguments, message):
    """Exit code 2, before anything runs."""
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    one.write_text('[[passes]]\nmodel = "builtin"')
    two.write_text('threshold = 0.5\n[[passes]]\nmodel = "builtin"\n[[passes]]\nmodel = "builtin"\nflips = ["rows"]')
    other = write_made_volume(tmp_path / "other.tif", (2, 64, 64))
    given = {"VOLUME": write_made_volume(tmp_path / "v.tif", (1, 64, 64)), "OTHER": other, "ONE": one, "TWO": two}
    ran = command("sennet-bench", *(given.get(word, word) for word in arguments))
    assert ran.code == 2
    assert message in ran.err
