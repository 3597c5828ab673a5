"""The pipeline equals the reference, bit for bit, however the work is cut up."""

from contextlib import ExitStack

import numpy as np
import pytest

from sennet_engine.bundle import open_bundle
from sennet_engine.device.host import HostDevice
from sennet_engine.ensemble import Ensemble
from sennet_engine.ensemble_file import expanded_passes
from sennet_engine.pipeline.volume_run import VolumeRun
from sennet_engine.pipeline.worker import Worker
from sennet_engine.planning.cells import Occupancy, everywhere
from sennet_engine.planning.planner import PlanRequest, make_plan
from sennet_engine.reference import reference_mask, reference_sums
from sennet_engine.runtimes import open_predictor
from sennet_engine.storage.slab_file import SlabFile
from sennet_engine.storage.work_folder import work_folder
from sennet_engine.volumes.volume import ArrayVolume
from sennet_engine.window import Window

SHAPE = (41, 75, 66)
STACK = np.random.default_rng(1).integers(0, 65536, SHAPE, dtype=np.uint16)
WINDOW = Window(3000, 61000)

# An organ in two layers of three along z, with a hole and a piece apart; cells at the far faces are cut off.
CELLS = np.zeros((3, 5, 5), bool)
CELLS[0, 1:4, :3] = CELLS[0, 4, 4] = CELLS[2, :, 2:] = True
CELLS[0, 2, 1] = False
ORGAN = Occupancy(SHAPE, CELLS)
ORGAN_VOXELS = CELLS.repeat(16, 0).repeat(16, 1).repeat(16, 2)[: SHAPE[0], : SHAPE[1], : SHAPE[2]]

STRIDED, POOLING = {"model": "strided.model"}, {"model": "pooling.model"}
FLIPS = ["none", "rows", "columns", "both"]
ALONG_Z = {
    "packed": [STRIDED],
    "of one tile side": [STRIDED | {"tile": 48}],
    "flipped": [STRIDED | {"flips": FLIPS}],
    "magnified": [STRIDED | {"scale": 1.3}],
    "reduced": [STRIDED | {"scale": 0.6}],
    "blended": [POOLING],
    "blended closely": [POOLING | {"tile": 48, "stride": 16, "scale": 1.2, "flips": ["rows", "both"]}],
    "weighted": [STRIDED | {"weight": 300}, POOLING | {"weight": 200}, STRIDED | {"scale": 0.8, "weight": 7}],
}
ALONG_ALL = {
    "three axes": [STRIDED | {"axes": "zyx"}],
    "x alone": [POOLING | {"axes": "x"}],
    "of all kinds": [
        STRIDED | {"axes": "zy", "flips": ["none", "columns"], "weight": 3},
        POOLING | {"axes": "yx", "scale": 1.2},
        STRIDED | {"axes": "x", "tile": 64, "weight": 2},
    ],
}
WAYS = [
    {"planes": 16},
    {"planes": 1, "batch": 3, "ring": 3},
    {"planes": 4, "threads": 2, "ring": 1},
    {"planes": 4, "contexts": 2, "batch": 3},
]


@pytest.fixture
def opened(strided_bundle, pooling_bundle, identity_bundle):
    """The bundles by their keys."""
    return {f"{path.name} fp32": open_bundle(path) for path in (strided_bundle, pooling_bundle, identity_bundle)}


def plan_of(passes, opened, *, occupancy=ORGAN, planes=16, batch=1, threshold=0.5):
    """The plan of an ensemble; slabs of `planes`, or with passes along y and x the bricks that memory asks for."""
    ensemble = Ensemble(passes=passes, threshold=threshold)
    entries = expanded_passes(ensemble, opened, shape_zyx=occupancy.shape_zyx, voxel_size_um=None, precision="fp32")
    brick = {1: 8, 4: 16, 16: 32}[planes]
    slab_planes = planes if all(one.axis == "z" for one in entries) else None
    request = PlanRequest(threshold=threshold, batch=batch, slab_planes=slab_planes, memory_bytes=brick)
    return make_plan(entries, occupancy, request, memory_needed=lambda plan: plan.brick)


def pipeline(tmp_path, volume, plan, opened, *, window=WINDOW, runtime="onnxruntime", threads=1, contexts=1, ring=2):
    """[Z, Y, X] probability and mask of the slab files that a run leaves."""
    with ExitStack() as held:
        predictors = {
            key: held.enter_context(open_predictor(opened[key], runtime=runtime, threads=threads, contexts=contexts))
            for key in keys_of(plan)
        }
        work = held.enter_context(work_folder(tmp_path / "out", {}, units=1, resume=False, discard=False))
        workers = [Worker("cpu", HostDevice(), predictors)]
        run = VolumeRun(volume, window, plan, workers, work, probability=True, on_planes=lambda *_: None, ring=ring)
        run.run()
        return written(run.slab_files)


def written(paths):
    """[Z, Y, X] probability and mask in slab files."""
    probability, mask = [], []
    for path in paths:
        with SlabFile.open(path) as slab:
            probability += [slab.probability_plane(plane) for plane in range(slab.shape[0])]
            mask += [slab.mask_plane(plane) for plane in range(slab.shape[0])]
    return np.stack(probability), np.stack(mask)


def reference(volume, plan, opened, *, window=WINDOW, runtime="onnxruntime"):
    """[Z, Y, X] probability and mask of the reference."""
    with ExitStack() as held:
        predictors = {
            key: held.enter_context(open_predictor(opened[key], runtime=runtime, threads=1)) for key in keys_of(plan)
        }
        sums = reference_sums(volume, predictors, plan, window=window)
        mask = reference_mask(volume, predictors, plan, window=window)
    return (2 * sums + plan.total_weight) // (2 * plan.total_weight), mask


def keys_of(plan):
    """The keys of the models that a plan uses."""
    return {one.model for axis in plan.axes for one in axis.passes}


@pytest.mark.parametrize("passes", (ALONG_Z | ALONG_ALL).values(), ids=(ALONG_Z | ALONG_ALL).keys())
def test_the_pipeline_equals_the_reference_however_the_work_is_cut_up(tmp_path, opened, passes):
    """Slabs or bricks, batches, threads, calls at a time and places in the ring change no bit."""
    volume = ArrayVolume(STACK)
    probability, mask = reference(volume, plan_of(passes, opened), opened)
    assert 0.02 < mask[ORGAN_VOXELS].mean() < 0.98
    assert not probability[~ORGAN_VOXELS].any()
    for way in WAYS:
        plan = plan_of(passes, opened, planes=way["planes"], batch=way.get("batch", 1))
        how = {name: way[name] for name in ("threads", "contexts", "ring") if name in way}
        found, found_mask = pipeline(tmp_path, volume, plan, opened, **how)
        assert (found == probability).all(), way
        assert (found_mask == mask).all(), way


@pytest.mark.parametrize("seed", range(8))
def test_so_it_does_for_volumes_organs_and_ensembles_drawn_at_random(tmp_path, opened, seed):
    """Sides from 1 to 70 voxels, any cells, and up to three passes of any kind."""
    draw = np.random.default_rng(seed)
    shape = tuple(int(side) for side in draw.integers(1, 70, 3))
    volume = ArrayVolume(np.resize(STACK, shape))
    occupancy = Occupancy(shape, draw.random([-(-side // 16) for side in shape]) < draw.random())
    passes = [
        draw.choice([STRIDED, STRIDED | {"tile": 48}, POOLING, POOLING | {"stride": 24}])
        | {
            "axes": str(draw.choice(["z", "y", "x", "zy", "yx", "zyx"])),
            "scale": float(draw.choice([1, 1, draw.uniform(0.4, 2)])),
            "flips": draw.choice(FLIPS, draw.integers(1, 3), replace=False).tolist(),
            "weight": int(draw.integers(1, 9)),
        }
        for _ in range(draw.integers(1, 4))
    ]
    plan = plan_of(passes, opened, occupancy=occupancy, planes=int(draw.choice([1, 4, 16])), batch=2)
    probability, mask = reference(volume, plan, opened)
    found, found_mask = pipeline(tmp_path, volume, plan, opened, contexts=2)
    assert (found == probability).all()
    assert (found_mask == mask).all()


def test_cases_cover_what_they_say(opened):
    """The plans above hold tiles of several shapes, blended ones, resized planes, and bricks of all sizes."""
    packed = plan_of(ALONG_Z["packed"], opened).axes[0].passes[0]
    assert len({tile.shape for layout in packed.layouts for tile in layout}) > 1
    blended = plan_of(ALONG_Z["blended closely"], opened).axes[0].passes[0].layouts[0]
    assert blended.blended
    assert blended.weight_sums.max() > 2 * blended.weight_sums[blended.weight_sums > 0].min()
    assert blended.plane_shape == (90, 79)
    several = ALONG_ALL["of all kinds"]
    assert [plan_of(several, opened, planes=planes).brick for planes in (1, 4, 16)] == [8, 16, 32]
    assert [len(axis.passes) for axis in plan_of(several, opened).axes] == [2, 3, 2]
    assert [len(axis.passes) for axis in plan_of(ALONG_ALL["x alone"], opened).axes] == [0, 1]


@pytest.mark.parametrize("passes", [ALONG_Z["packed"], ALONG_Z["blended closely"], ALONG_ALL["three axes"]])
def test_openvino_equals_its_reference_and_onnxruntime_within_a_grey_level(tmp_path, opened, passes):
    """The other runtime gives the same for each way of cutting, and next to the same as the first."""
    volume = ArrayVolume(STACK)
    probability, mask = reference(volume, plan_of(passes, opened), opened, runtime="openvino")
    for way in ({"planes": 16}, {"planes": 4, "threads": 2}, {"planes": 1, "contexts": 2, "ring": 3}):
        plan = plan_of(passes, opened, planes=way.pop("planes"))
        found, found_mask = pipeline(tmp_path, volume, plan, opened, runtime="openvino", **way)
        assert (found == probability).all(), way
        assert (found_mask == mask).all(), way
    first, _ = reference(volume, plan_of(passes, opened), opened)
    assert np.abs(probability - first).max() <= 1


@pytest.mark.parametrize("axes", ["z", "zyx"])
@pytest.mark.parametrize("flips", [["none"], FLIPS])
def test_an_identity_model_returns_the_windowed_volume(tmp_path, opened, axes, flips):
    """Cutting and stitching change nothing, along any axis and mirrored: the probability is the volume's own uint8."""
    volume, occupancy = ArrayVolume(STACK.astype(np.uint8)), everywhere(SHAPE, reason="")
    passes = [{"model": "identity.model", "axes": axes, "flips": flips}]
    plan = plan_of(passes, opened, occupancy=occupancy, batch=5)
    probability, _ = pipeline(tmp_path, volume, plan, opened, window=Window(0, 255))
    assert (probability == STACK.astype(np.uint8)).all()


def test_tiles_with_their_halo_equal_the_whole_plane(tmp_path, opened):
    """A network without global pooling answers the same for every tile side, and packed or not."""
    volume, whole = ArrayVolume(STACK[:17]), everywhere((17, *SHAPE[1:]), reason="")
    of_plane = reference(volume, plan_of([STRIDED], opened, occupancy=whole), opened)[0]
    for side in (48, 64):
        plan = plan_of([STRIDED | {"tile": side}], opened, occupancy=whole)
        assert all(len(layout) > 1 for layout in plan.axes[0].passes[0].layouts)
        assert (pipeline(tmp_path, volume, plan, opened)[0] == of_plane).all()
    organ = Occupancy(whole.shape_zyx, CELLS[:2])
    packed = pipeline(tmp_path, volume, plan_of([STRIDED], opened, occupancy=organ), opened)[0]
    assert (packed == np.where(ORGAN_VOXELS[:17], of_plane, 0)).all()


@pytest.mark.parametrize("passes", [[STRIDED], [STRIDED | {"tile": 64}], [POOLING], [POOLING | {"axes": "zyx"}]])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 90), (3, 31, 33)])
def test_planes_smaller_than_a_tile_are_padded(tmp_path, opened, passes, shape):
    """A tile larger than the plane works, and the result has the plane's shape."""
    volume = ArrayVolume(np.resize(STACK, shape))
    plan = plan_of(passes, opened, occupancy=everywhere(shape, reason=""))
    probability, mask = reference(volume, plan, opened)
    found, found_mask = pipeline(tmp_path, volume, plan, opened)
    assert found.shape == shape
    assert (found == probability).all()
    assert (found_mask == mask).all()


def test_nothing_is_vessel_where_no_organ_is(tmp_path, opened):
    """A volume of background alone needs no tile."""
    nothing = Occupancy(SHAPE, np.zeros_like(CELLS))
    plan = plan_of([STRIDED | {"axes": "zyx"}, POOLING], opened, occupancy=nothing)
    assert plan.tile_count == 0
    probability, mask = pipeline(tmp_path, ArrayVolume(STACK), plan, opened)
    assert not probability.any()
    assert not mask.any()
