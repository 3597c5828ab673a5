"""The pipeline equals the reference, bit for bit, however the work is cut up."""

import numpy as np
import pytest

from sennet_engine.bundle import open_bundle
from sennet_engine.pipeline import predicted_slabs
from sennet_engine.plan import PlanRequest, make_plan
from sennet_engine.reference import reference_mask, reference_probability
from sennet_engine.runtimes import open_predictor
from sennet_engine.volumes.volume import ArrayVolume
from sennet_engine.window import Window, surveyed_window

STACK = np.random.default_rng(1).integers(0, 65536, (11, 150, 170), dtype=np.uint16)


def run(bundle_path, stack, *, runtime="onnxruntime", threads=1, window=None, **request):
    """Probability and mask of the pipeline, and of the reference with the same plan."""
    volume, bundle = ArrayVolume(stack), open_bundle(bundle_path)
    window = window or surveyed_window(volume)
    plan = make_plan(volume.shape_zyx, bundle.card, PlanRequest(**request))
    with open_predictor(bundle, runtime=runtime, threads=threads) as predictor:
        slabs = list(predicted_slabs(volume, predictor, plan, window=window))
        probability = np.concatenate([slab.canvas.probability() for slab in slabs])
        mask = np.concatenate([slab.canvas.mask(plan.threshold_milli) for slab in slabs])
        assert (probability == reference_probability(volume, predictor, plan, window=window)).all()
        assert (mask == reference_mask(volume, predictor, plan, window=window)).all()
    return probability, mask


@pytest.mark.parametrize("request_", [{}, {"batch": 4}, {"slab_planes": 4}, {"slab_planes": 1, "batch": 3}])
@pytest.mark.parametrize("threads", [1, 2])
def test_batch_slab_and_threads_do_not_change_the_mask(strided_bundle, request_, threads):
    """Each way of cutting up the work equals the reference and the plainest way."""
    plain, plain_mask = run(strided_bundle, STACK, tile=64)
    probability, mask = run(strided_bundle, STACK, tile=64, threads=threads, **request_)
    assert (probability == plain).all()
    assert (mask == plain_mask).all()
    assert 0.05 < mask.mean() < 0.95


@pytest.mark.parametrize("threads", [1, 2])
def test_openvino_equals_its_reference_and_onnxruntime_within_a_grey_level(strided_bundle, threads):
    """The other runtime gives the same for each way of cutting, and next to the same as the first."""
    plain, _ = run(strided_bundle, STACK, tile=64, runtime="openvino")
    other, _ = run(strided_bundle, STACK, tile=64, runtime="openvino", threads=threads, batch=4, slab_planes=4)
    first, _ = run(strided_bundle, STACK, tile=64)
    assert (plain == other).all()
    assert np.abs(plain.astype(int) - first).max() <= 1


def test_an_identity_model_returns_the_windowed_volume(identity_bundle):
    """Cutting and stitching change nothing: the probability is the volume's own uint8."""
    stack = STACK.astype(np.uint8)
    probability, _ = run(identity_bundle, stack, window=Window(0, 255), tile=32, batch=5)
    assert (probability == stack).all()


def test_tiles_with_their_halo_equal_the_whole_plane(strided_bundle):
    """A network without global pooling answers the same for every tile side."""
    window = Window(0, 65535)
    sides = [run(strided_bundle, STACK[:3], tile=side, window=window)[0] for side in (48, 64, 96)]
    whole = run(strided_bundle, STACK[:3, :128, :128], tile=128, window=window)[0]
    assert (sides[0] == sides[1]).all()
    assert (sides[0] == sides[2]).all()
    # The right and lower borders differ: there the small plane ends.
    assert (sides[0][:, :96, :96] == whole[:, :96, :96]).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 300), (3, 64, 64)])
def test_planes_smaller_than_a_tile_are_padded(strided_bundle, shape):
    """A tile larger than the plane works, and the result has the plane's shape."""
    probability, mask = run(strided_bundle, STACK[: shape[0], : shape[1], : shape[2]].repeat(3, axis=2), tile=64)
    assert probability.shape == mask.shape


def test_the_plan_takes_the_tile_that_computes_least(strided_bundle):
    """One tile of 96 is cheaper for a plane of 90 than four of 64, or one of 128."""
    card = open_bundle(strided_bundle).card
    assert make_plan((5, 90, 90), card, PlanRequest()).grid.side == 96
    assert make_plan((5, 40, 40), card, PlanRequest()).grid.side == 48
