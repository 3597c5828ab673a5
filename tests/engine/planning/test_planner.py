"""The plan: slabs or bricks, layers, the tiles that cards allow, weights, cascades, and what memory leaves of it."""

from pathlib import Path

import numpy as np
import pytest

from sennet_engine.bundle import Bundle
from sennet_engine.card import ModelCard
from sennet_engine.ensemble import Ensemble
from sennet_engine.ensemble_file import expanded_passes
from sennet_engine.errors import ConfigError
from sennet_engine.planning.cells import CELL, Occupancy, everywhere
from sennet_engine.planning.memory import MemoryFacts, ModelMemory, memory_needed, text_from_bytes
from sennet_engine.planning.planner import LARGEST_TILES, PlanRequest, make_plan, refuse_tile

SHAPE = (70, 200, 300)
TILINGS = {
    "exact": {"stride": 8, "sides": [64, 128, 256], "default_side": 128, "halo": 16, "exact": True},
    "single": {"stride": 8, "sides": [96], "default_side": 96, "halo": 16, "exact": True},
    "blended": {"stride": 8, "sides": [64, 96], "default_side": 64, "halo": 0, "exact": False},
}


def bundle(name):
    """A bundle of which there is nothing but the card."""
    card = {
        "name": name, "decoder": "none", "encoder": "none", "normalisation": {"kind": "fixed"}, "voxel_size_um": 50.0,
        "threshold": {"value": 0.5}, "tiling": TILINGS[name], "files": {},
    }  # fmt: skip
    return Bundle(Path(name), ModelCard.model_validate(card))


def passes_of(*passes, shape=SHAPE, voxel_size_um=None):
    """Passes of an ensemble, each given as its model and further settings."""
    ensemble = Ensemble(passes=[{"model": model} | settings for model, settings in passes], threshold=0.3)
    bundles = {f"{name} fp32": bundle(name) for name in TILINGS}
    return expanded_passes(ensemble, bundles, shape_zyx=shape, voxel_size_um=voxel_size_um, precision="fp32")


def plan_of(*passes, occupancy=None, needs=None, voxel_size_um=None, shape=SHAPE, **request):
    """The plan for `passes`."""
    occupancy = occupancy or everywhere(shape, reason="all of it")
    found = passes_of(*passes, shape=occupancy.shape_zyx, voxel_size_um=voxel_size_um)
    return make_plan(found, occupancy, PlanRequest(**{"threshold": 0.3} | request), memory_needed=needs)


def shapes(plan):
    """Of all tiles."""
    return {tile.shape for axis in plan.axes for one in axis.passes for layout in one.layouts for tile in layout}


def pixels(plan):
    """That all layouts compute."""
    return sum(layout.computed_pixels for axis in plan.axes for one in axis.passes for layout in one.layouts)


def organ(shape=SHAPE):
    """Organ in a corner of the first layers along z, and nowhere else."""
    cells = np.zeros([-(-side // CELL) for side in shape], bool)
    cells[:2, 1:4, 2:5] = True
    return Occupancy(shape, cells)


# Slabs, bricks and layers.


def test_slabs_follow_one_another_and_cover_the_planes():
    """Sixteen planes each, or as many as asked for; the last one what is left."""
    for asked, step in ((None, 16), (5, 5), (1, 1), (100, 100)):
        (axis,) = plan_of(("exact", {}), slab_planes=asked).axes
        assert [slab.start for slab in axis.slabs] == list(range(0, 70, step))
        assert [slab.stop for slab in axis.slabs] == [*range(step, 70, step), 70]


def test_planes_along_z_alone_need_no_bricks():
    """With y or x there are: slabs of all axes are then as thick as a brick, and nothing else can be asked for."""
    assert plan_of(("exact", {})).brick == 0
    assert plan_of(("exact", {})).along_z_alone
    plan = plan_of(("exact", {"axes": "yx"}))
    assert plan.brick == 32
    assert not plan.along_z_alone
    assert [axis.slabs[0].stop for axis in plan.axes] == [32, 32, 32]
    assert [axis.slabs[-1].stop for axis in plan.axes] == [70, 200, 300]
    with pytest.raises(ConfigError, match="slab: got 5 with passes along y or x"):
        plan_of(("exact", {"axes": "yx"}), slab_planes=5)


def test_z_comes_first_and_has_no_passes_where_none_is_asked_for():
    """The volume is read along it."""
    plan = plan_of(("blended", {"axes": "x"}), ("exact", {"axes": "xy"}))
    assert [(axis.axis, len(axis.passes)) for axis in plan.axes] == [("z", 0), ("y", 1), ("x", 2)]
    assert [axis.shape for axis in plan.axes] == [(70, 200, 300), (200, 70, 300), (300, 70, 200)]


@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_every_layer_of_cells_has_its_own_tiles(axis):
    """Those without organ have none; planes of one layer share them."""
    plan = plan_of(("exact", {"axes": axis}), ("blended", {"axes": axis}), occupancy=organ())
    occupied = organ().layers(axis).any(axis=(1, 2))
    for one in plan.axes[-1].passes:
        assert [len(layout) > 0 for layout in one.layouts] == occupied.tolist()
        assert one.layout_of(CELL - 1) is one.layouts[0]
        assert one.layout_of(CELL) is one.layouts[1]


def test_tiles_and_pixels_are_counted_over_planes():
    """Each plane has the tiles of its layer: 32 planes with organ of 70."""
    plan = plan_of(("single", {}), occupancy=organ())
    (layout,) = {layout for layout in plan.axes[0].passes[0].layouts if len(layout)}
    assert plan.tile_count == 32 * len(layout)
    assert plan.axes[0].computed_pixels == 32 * len(layout) * 96 * 96


# Tiles.


def test_an_exact_network_of_several_sides_takes_what_is_cheapest():
    """The whole plane, padded to its stride; around an organ, less than that and any multiple of the stride."""
    assert shapes(plan_of(("exact", {}))) == {(200, 304)}
    packed = plan_of(("exact", {}), occupancy=organ())
    assert packed.axes[0].computed_pixels < 0.3 * plan_of(("exact", {})).axes[0].computed_pixels
    assert all(side % 8 == 0 for shape in shapes(packed) for side in shape)


@pytest.mark.parametrize("shape", [(20, 30, 40), (20, 96, 96), SHAPE])
def test_a_card_with_a_single_side_never_gets_another(shape):
    """Be the plane smaller, just as large, or larger; along all axes, with organ everywhere or in a corner."""
    for occupancy in (
        everywhere(shape, reason=""),
        organ(shape),
    ):
        assert shapes(plan_of(("single", {"axes": "zyx"}), occupancy=occupancy)) == {(96, 96)}


def test_a_side_that_is_asked_for_is_the_only_one():
    """Of an exact network, though larger tiles were cheaper; and of a blended one."""
    assert shapes(plan_of(("exact", {"tile": 64}))) == {(64, 64)}
    assert shapes(plan_of(("exact", {"tile": 256}))) == {(256, 256)}
    assert shapes(plan_of(("blended", {"tile": 96}))) == {(96, 96)}


def test_a_side_that_the_model_does_not_take_is_refused():
    """With those that it takes."""
    with pytest.raises(ConfigError, match=r"tile: got 100, expected one of the sides that exact takes: 64, 128, 256"):
        refuse_tile(100, bundle("exact").card.tiling, model="exact")
    refuse_tile(128, bundle("exact").card.tiling, model="exact")


def test_a_network_that_is_never_exact_is_blended():
    """With its own side, three quarters of it apart, or the stride that the ensemble gives."""
    usual, close = (plan_of(("blended", settings)).axes[0].passes[0].layouts[0] for settings in ({}, {"stride": 32}))
    assert usual.blended
    assert {tile.shape for tile in usual} == {(64, 64)}
    assert sorted({tile.origin[0] for tile in usual}) == [0, 48, 96, 136]
    assert sorted({tile.origin[0] for tile in close}) == [0, 32, 64, 96, 128, 136]
    assert not plan_of(("exact", {})).axes[0].passes[0].layouts[0].blended


def test_tiles_lie_in_resized_planes():
    """By the pass's scale, or by voxel size over that of the training; along each axis by its own sizes."""
    passes = plan_of(("exact", {"scale": 0.5}), ("exact", {})).axes[0].passes
    assert [one.layouts[0].plane_shape for one in passes] == [(100, 150), (200, 300)]
    along = plan_of(("exact", {"axes": "zx"}), voxel_size_um=(100.0, 50.0, 25.0)).axes
    assert [axis.passes[0].scale for axis in along] == [(1.0, 0.5), (2.0, 1.0)]
    assert [axis.passes[0].layouts[0].plane_shape for axis in along] == [(200, 150), (140, 200)]


# Weights, thresholds and reasons.


def test_weights_are_those_of_the_passes_and_add_up_over_all_axes():
    """Every axis holds its sums for the total of the plan."""
    plan = plan_of(("exact", {"axes": "zy", "weight": 2}), ("blended", {"weight": 3, "flips": ["none", "rows"]}))
    assert [[one.weight for one in axis.passes] for axis in plan.axes] == [[2, 3, 3], [2]]
    assert [axis.total_weight for axis in plan.axes] == [plan.total_weight] * 2 == [10, 10]
    assert [one.flip for one in plan.axes[0].passes] == ["none", "none", "rows"]
    assert [one.model for one in plan.axes[0].passes] == ["exact fp32", "blended fp32", "blended fp32"]


def test_threshold_batch_and_components_are_as_requested():
    """The threshold in thousandths."""
    plan = plan_of(("exact", {}), threshold=0.1234, batch=3, min_voxels=7)
    assert (plan.threshold_milli, plan.min_voxels, plan.axes[0].passes[0].batch) == (123, 7, 3)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"threshold": 0.0001}, "threshold: got 0.0001"),
        ({"threshold": float("nan")}, "threshold: got nan"),
        ({"batch": 0}, "batch: got 0, expected at least 1"),
        ({"slab_planes": 0}, "slab: got 0, expected at least 1"),
        ({"min_voxels": -1}, "min-voxels: got -1"),
    ],
)
def test_values_out_of_their_range_are_refused(request_, expected):
    """By the name that a person gave them by."""
    with pytest.raises(ConfigError, match=expected):
        plan_of(("exact", {}), **request_)


def test_reasons_tell_what_was_decided():
    """What is left out, how planes are resized, each once, and the tiles of every pass."""
    plan = plan_of(("exact", {"axes": "zy"}), ("blended", {}), occupancy=organ())
    background, scale, *passes = plan.reasons
    assert background == f"{1 - organ().share:.0%} of the volume is background and left out"
    assert "voxel size is unknown" in scale
    assert [one.split(":")[0] for one in passes] == ["exact z", "exact y", "blended z"]
    assert all("tiles overlap by the halo" in one for one in passes[:2])
    assert "tiles are blended" in passes[2]
    assert plan_of(("exact", {})).reasons[0] == "all of it"


# Cascades.


def test_a_cascade_goes_on_from_a_level_of_its_bound():
    """As uint8, and never from 0, which is what was not computed."""
    for bound, level in ((0.02, 5), (0.001, 1), (0.3, 76)):
        plan = plan_of(("exact", {}), ("blended", {"axes": "y"}), cascade_bound=bound)
        assert [axis.cascade.level for axis in plan.axes] == [level, level]
    assert plan_of(("exact", {}), ("blended", {})).axes[0].cascade is None


def test_a_cascade_that_would_lose_vessels_is_refused():
    """Its bound lies at the threshold at most, whatever threshold a person asks for."""
    with pytest.raises(ConfigError, match=r"low_bound 0.31 above the threshold 0.3"):
        plan_of(("exact", {}), ("blended", {}), cascade_bound=0.31)
    assert plan_of(("exact", {}), ("blended", {}), cascade_bound=0.3).axes[0].cascade


# Memory.


def thickness(plan):
    """Planes of the thickest slab."""
    return max(len(slab) for axis in plan.axes for slab in axis.slabs)


def largest_tile(plan):
    """Pixels."""
    return max(rows * columns for rows, columns in shapes(plan))


def facts(plan):
    """What a run of a plan holds beside its slabs, made up: 50 bytes for each pixel that a network is shown."""
    keys = {one.model for axis in plan.axes for one in axis.passes}
    models = {key: ModelMemory(model=10**6, per_pixel=50, contexts=1) for key in keys}
    return MemoryFacts(base=10**7, models=models, dtype=np.dtype(np.uint16), ring=2)


def need(plan):
    """Bytes of a run."""
    return memory_needed(plan, facts(plan))


@pytest.mark.parametrize("axes", ["z", "zyx"])
def test_less_memory_gives_thinner_slabs_and_then_smaller_tiles(axes):
    """Just enough for a plan gives that plan, a byte less another, until none is left that needs less."""
    shape = (40, 1100, 1000)
    found = [plan_of(("exact", {"axes": axes}), shape=shape)]
    while True:
        limit = need(found[-1])
        same = plan_of(("exact", {"axes": axes}), shape=shape, needs=need, memory_bytes=limit)
        assert need(same) <= limit
        assert (thickness(same), largest_tile(same)) == (thickness(found[-1]), largest_tile(found[-1]))
        try:
            found.append(plan_of(("exact", {"axes": axes}), shape=shape, needs=need, memory_bytes=limit - 1))
        except ConfigError:
            break
    pairs = [(largest_tile(plan), thickness(plan)) for plan in found]
    assert pairs == sorted(pairs, reverse=True)
    assert sorted({planes for _, planes in pairs}, reverse=True) == ([16, 8, 4, 2, 1] if axes == "z" else [32, 16, 8])
    assert {plan.brick for plan in found} == ({0} if axes == "z" else {32, 16, 8})
    assert pairs[0][0] == 1104 * 1000
    assert pairs[-1][0] <= LARGEST_TILES[-1]


def test_thinner_slabs_come_before_smaller_tiles():
    """They cost nothing."""
    plan = plan_of(("exact", {}), needs=lambda one: thickness(one), memory_bytes=2)
    assert (thickness(plan), shapes(plan)) == (2, {(200, 304)})


def test_slabs_that_are_asked_for_are_kept():
    """Tiles become smaller then."""
    shape = (40, 1100, 1000)
    limit = need(plan_of(("exact", {}), shape=shape, slab_planes=4)) - 1
    plan = plan_of(("exact", {}), shape=shape, slab_planes=4, needs=need, memory_bytes=limit)
    assert thickness(plan) == 4
    assert largest_tile(plan) <= LARGEST_TILES[1]


def test_too_little_memory_tells_how_much_is_needed():
    """The least of all plans, and that much is enough."""
    tried = []

    def recorded(plan):
        tried.append(need(plan))
        return tried[-1]

    with pytest.raises(ConfigError, match="memory: got 1 MB, expected at least") as told:
        plan_of(("exact", {}), needs=recorded, memory_bytes=2**20)
    assert f"{text_from_bytes(min(tried))} for the models and planes of 200 × 300 voxels" in str(told.value)
    assert need(plan_of(("exact", {}), needs=need, memory_bytes=min(tried))) == min(tried)
    with pytest.raises(ConfigError, match="expected at least 3 B"):  # small tiles may overlap more
        plan_of(("exact", {}), needs=lambda plan: 3 + abs(thickness(plan) - 4), memory_bytes=2)


def test_networks_without_smaller_tiles_keep_theirs():
    """A single side, and blended tiles, are what they are; slabs alone become thinner."""
    for model, side in (("single", 96), ("blended", 64)):
        plan = plan_of((model, {}), needs=thickness, memory_bytes=1)
        assert (thickness(plan), shapes(plan)) == (1, {(side, side)})
        with pytest.raises(ConfigError, match="expected at least 1 B"):
            plan_of((model, {}), needs=thickness, memory_bytes=0)


def test_what_memory_does_not_cure_is_told_as_it_is():
    """A scale that makes planes too large to be is no lack of memory."""
    with pytest.raises(ConfigError, match=r"scale: planes of 5000 × 5000 would become"):
        plan_of(("exact", {"scale": 19}), shape=(1, 5000, 5000), needs=need, memory_bytes=2**30)


def test_tiles_are_those_that_what_is_loaded_takes():
    """An engine takes squares of the sides that it was built for; other models keep theirs."""
    sides = {"exact fp32": (64, 128)}
    plan = plan_of(("exact", {}), ("single", {}), sides=sides)
    by_pass = [{tile.shape for layout in one.layouts for tile in layout} for one in plan.axes[0].passes]
    assert by_pass[0] in ({(64, 64)}, {(128, 128)})
    assert by_pass[1] == {(96, 96)}
    assert not shapes(plan_of(("exact", {}))) <= by_pass[0]
    cells = np.zeros((5, 13, 19), bool)
    cells[0, 6, 9] = True
    one_cell = Occupancy(SHAPE, cells)
    small = plan_of(("exact", {}), sides=sides, occupancy=one_cell)
    alone = [plan_of(("exact", {}), sides={"exact fp32": (side,)}, occupancy=one_cell) for side in (64, 128)]
    assert pixels(small) == min(map(pixels, alone)) < max(map(pixels, alone))
    assert shapes(plan_of(("exact", {"tile": 64}), sides=sides)) == {(64, 64)}
