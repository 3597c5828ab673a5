"""What a plan is made with where memory is short."""

import time
from dataclasses import replace

import numpy as np
import pytest

from sennet_engine.ensemble_file import expanded_passes, opened_ensemble
from sennet_engine.planning.cells import everywhere
from sennet_engine.planning.memory import ModelMemory, model_memory
from sennet_engine.planning.planner import PlanRequest, make_plan, smallest_plan
from sennet_engine.planning.tile_counts import largest_shape
from sennet_engine.resident import resident_bytes

SHAPE = (40, 1000, 900)


@pytest.fixture
def passes(strided_bundle):
    """The passes of one network, with tiles of any multiple of 4."""
    opened = opened_ensemble(strided_bundle, precision="fp32")
    return expanded_passes(
        opened.ensemble, opened.bundles, shape_zyx=SHAPE, voxel_size_um=(50.0, 50.0, 50.0), precision="fp32"
    )


def test_the_smallest_plan_has_the_smallest_tiles_and_slabs(passes):
    """A model is measured by it, so that measuring takes no more than a run within any limit that can be kept."""
    occupancy, request = everywhere(SHAPE, reason="all"), PlanRequest(threshold=0.5)
    rows, columns = largest_shape(smallest_plan(passes, occupancy, request), passes[0].key)
    assert rows * columns <= 2**17
    assert largest_shape(make_plan(passes, occupancy, request), passes[0].key) == (1000, 900)
    assert len(smallest_plan(passes, occupancy, request).axes[0].slabs) == 40


def test_a_network_of_one_side_is_measured_by_that(passes):
    """It has no smaller tiles, whatever the memory."""
    occupancy, request = everywhere(SHAPE, reason="all"), PlanRequest(threshold=0.5)
    (one,) = passes
    tiling = one.bundle.card.tiling.model_copy(update={"sides": [640], "default_side": 640})
    card = one.bundle.card.model_copy(update={"tiling": tiling})
    plan = smallest_plan([replace(one, bundle=replace(one.bundle, card=card))], occupancy, request)
    assert largest_shape(plan, one.key) == (640, 640)


def test_larger_calls_than_the_one_that_was_measured_are_taken_to_need_half_as_much_again():
    """Runtimes take memory in steps: 200 bytes a pixel of small tiles were 300 of large ones."""
    held = ModelMemory(model=1000, per_pixel=10, contexts=2, measured_pixels=50)
    assert held.of_calls(40) == 1000 + 2 * 10 * 40
    assert held.of_calls(50) == 1000 + 2 * 10 * 50
    assert held.of_calls(60) == 1000 + 2 * 15 * 60
    assert ModelMemory(model=1000, per_pixel=10, contexts=2).of_calls(60) == 1000 + 2 * 10 * 60


@pytest.mark.skipif(not resident_bytes(), reason="the system does not tell the memory")
def test_contexts_that_share_memory_are_taken_to_need_their_own():
    """In a run both of them will compute at the same moment, though they did not while they were measured."""

    class Sharing:
        runtime, threads, contexts = "sharing", 1, 2
        held = []

        def predict(self, tiles, *, context=0):
            del context
            if not self.held:
                self.held.append(np.ones(400_000_000, np.uint8))
            time.sleep(0.001)
            return tiles

    found = model_memory(Sharing(), before=resident_bytes(), shape=(100, 100), batch=1)
    assert found.of_calls(100 * 100) == pytest.approx(800_000_000, rel=0.1)
