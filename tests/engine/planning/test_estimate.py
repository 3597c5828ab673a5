"""The estimate follows the plan: its counts are the plan's, its time what was measured, its memory what a run takes."""

import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from sennet_engine.errors import ConfigError
from sennet_engine.pipeline.plane_source import VolumePlanes
from sennet_engine.pipeline.stream_pipeline import run_axis
from sennet_engine.planning.cells import CELL, everywhere
from sennet_engine.planning.costs import AxisCosts, Costs, measured_costs
from sennet_engine.planning.estimate import estimated
from sennet_engine.planning.layout import Layout, Rectangle, Tile
from sennet_engine.planning.memory import (
    MemoryFacts,
    ModelMemory,
    bytes_from_text,
    memory_needed,
    model_memory,
    text_from_bytes,
)
from sennet_engine.planning.passes import AxisPlan, Cascade, PassPlan, Plan, Slab
from sennet_engine.planning.tile_counts import costliest_shape, tile_counts
from sennet_engine.resident import release_freed_memory, resident_bytes
from sennet_engine.volumes.volume import ArrayVolume
from sennet_engine.window import Window

SHAPE = 40, 96, 128
SMALL, LARGE = (48, 64), (96, 128)


def layout(*tiles, blended=False):
    """Tiles of those shapes at the origin of a plane of 96 x 128."""
    made = [Tile((0, 0), shape, (Rectangle(0, 0, *shape),)) for shape in tiles]
    return Layout(SHAPE[1:], SHAPE[1:], tuple(made), blended)


# Three layers of cells: planes 0..15 one large tile, 16..31 three small ones, 32..39 nothing.
LAYOUTS = (layout(LARGE), layout(SMALL, SMALL, SMALL), layout())


def plan_of(*layouts, planes=16, axes="z", shape=SHAPE, weight=1, cascade=None, **changes):
    """A plan of one pass along each of `axes`."""
    occupancy = everywhere(shape, reason="test")
    one = PassPlan("a", "a", (1, 1), layouts or LAYOUTS, "none", weight, 1)
    slabs = tuple(Slab(start, min(start + planes, shape[0])) for start in range(0, shape[0], planes))
    made = tuple(
        AxisPlan(axis, shape, slabs, (one,), occupancy, weight * len(axes), cascade) for axis in axes
    )  # fmt: skip
    plan = Plan(shape, made, occupancy, weight * len(axes), 500, 0, 0, ())
    return replace(plan, **changes)


def costs(**changes):
    """A tile of 96 x 128 takes half a second, those of other shapes as much by pixel; no other stage takes time."""
    free = AxisCosts(
        dict.fromkeys(("read", "window", "resize", "write"), 0.0), dict.fromkeys(("cut", "accumulate"), 0.0)
    )
    plain = Costs(
        tile_seconds={("a", LARGE): 0.5}, pixel_seconds={"a": 0.5 / (96 * 128)}, axes={"z": free},
        sum_by_voxel=0.0, assembly_by_voxel=0.0, preview=0.0, processors=2,
    )  # fmt: skip
    return replace(plain, **changes)


def estimate(plan, measured, **options):
    """Nothing beside the plan and the costs counts unless given."""
    return estimated(plan, measured, **({"memory_bytes": 0, "multiply_adds": {}} | options))


class Slow:
    """A predictor that takes 30 ms for a call; any number of calls at a time."""

    runtime, threads = "slow", 1

    def __init__(self, contexts=1):
        self.contexts = contexts

    def predict(self, tiles, *, context=0):
        del context
        time.sleep(0.03)
        return tiles


def test_tiles_are_counted_by_shape_over_all_planes():
    """A layer's layout counts for each of its planes; the last layer has eight."""
    plan = plan_of()
    assert tile_counts(plan) == {("a", LARGE): CELL, ("a", SMALL): 3 * CELL}
    assert sum(tile_counts(plan).values()) == plan.tile_count
    assert costliest_shape(plan, "a") == LARGE
    assert costliest_shape(plan, "b") is None
    assert tile_counts(plan_of(layout(SMALL), layout(), layout(SMALL))) == {("a", SMALL): 24}


def test_networks_take_what_their_tiles_take():
    """Tiles of a measured shape by its time, others by their pixels; the work by the card's multiply-adds."""
    found = estimate(plan_of(), costs(), multiply_adds={"a": 1000.0}, without_skipping=plan_of(*[layout(LARGE)] * 3))
    assert found.seconds == pytest.approx(16 * 0.5 + 48 * 0.125)
    assert found.gflop == pytest.approx(2 * 1000 * (16 * 96 * 128 + 48 * 48 * 64) / 1e9)
    assert found.skipped_share == pytest.approx(1 - (16 + 12) / 40)
    assert (found.slabs, found.tiles) == (3, 64)
    assert estimate(plan_of(), costs(), multiply_adds={"a": None}).gflop is None


def test_stages_around_the_networks_take_processors_from_them_or_are_the_bottleneck():
    """Two seconds of accumulating take one from two processors; sixty of writing are one thread's."""
    pixels = plan_of().axes[0].computed_pixels
    networks = estimate(plan_of(), costs()).seconds
    one = costs(axes={"z": AxisCosts(dict.fromkeys(("read", "window", "resize", "write"), 0.0), {"cut": 2 / pixels})})
    assert estimate(plan_of(), one).seconds == pytest.approx(networks + 1)
    voxels = np.prod(SHAPE)
    other = costs(axes={"z": AxisCosts({"read": 0, "window": 0, "resize": 0, "write": 60 / voxels}, {})})
    assert estimate(plan_of(planes=40), other).seconds == pytest.approx(60 + 60)
    assert estimate(plan_of(planes=20), other).seconds == pytest.approx(60 + 30)
    finish = costs(sum_by_voxel=2 / voxels, assembly_by_voxel=3 / voxels, preview=4.0)
    assert estimate(plan_of(), finish, other_seconds={"survey": 5.0}).seconds == pytest.approx(networks + 14)


def test_the_table_tells_a_person_what_to_expect():
    """Skipped share, work, time, memory and disk; a cascade makes limits of counts and time."""
    lines = dict(
        estimate(
            plan_of(), costs(), memory_bytes=3 * 2**30, multiply_adds={"a": 1e6},
            without_skipping=plan_of(*[layout(LARGE)] * 3),
        ).table()
    )  # fmt: skip
    assert lines["tiles"] == "64"
    assert lines["skipped"].startswith("30%")
    assert lines["work"] == "688.1 GFLOP"
    assert lines["time"] == "14.0 s"
    assert lines["memory"] == "3 GB"
    cascade = dict(estimate(plan_of(cascade=Cascade(5)), costs()).table())
    assert cascade["tiles"] == "at most 64"
    assert cascade["time"].startswith("at most")
    assert cascade["work"].startswith("unknown")
    assert "skipped" not in cascade


def test_bricks_count_as_scratch():
    """Grey levels, and sums of 16 bits along each of three axes, of whole bricks; nothing along z alone."""
    cube = 64, 64, 64
    free = costs().axes["z"]
    measured = costs(axes=dict.fromkeys("zyx", free))
    layouts = [layout(SMALL)] * 4
    scratch = estimate(plan_of(*layouts, axes="zyx", shape=cube, brick=32), measured).scratch_bytes
    assert 64**3 * 7 < scratch < 64**3 * 7.1
    assert estimate(plan_of(), measured).scratch_bytes < np.prod(SHAPE) / 10


def test_measured_costs_are_those_of_the_predictor(tmp_path):
    """Two contexts halve the time of a tile; what is measured is little, and nothing stays on the disk."""
    volume = ArrayVolume(np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8))
    source, plan = VolumePlanes(volume, Window(0, 255)), plan_of()
    began = time.perf_counter()
    alone = measured_costs(plan, {"a": Slow()}, source, scratch=tmp_path)
    assert time.perf_counter() - began < 2
    assert 0.03 <= alone.tile_seconds["a", LARGE] < 0.06
    shared = measured_costs(plan, {"a": Slow(contexts=2)}, source, scratch=tmp_path)
    assert 0.015 <= shared.tile_seconds["a", LARGE] < 0.029
    assert shared.processors == 2
    assert list(tmp_path.iterdir()) == []
    assert alone.axes["z"].by_voxel["window"] > 0
    assert alone.axes["z"].by_pixel["accumulate"] > 0
    assert alone.assembly_by_voxel > 0


def test_costs_of_several_axes_hold_their_bricks(tmp_path):
    """Along y and x planes come from the scratch disk, and sums of the axes are added up."""
    cube = 40, 40, 40
    tile = layout((32, 32))
    layouts = [Layout((40, 40), (40, 40), tile.tiles)] * 3
    volume = ArrayVolume(np.random.default_rng(0).integers(0, 256, cube, dtype=np.uint8))
    plan = plan_of(*layouts, axes="zyx", shape=cube, planes=8, brick=8)
    found = measured_costs(plan, {"a": Slow()}, VolumePlanes(volume, Window(0, 255)), scratch=tmp_path)
    assert set(found.axes) == {"z", "y", "x"}
    assert min(found.axes["x"].by_voxel["read"], found.axes["y"].by_voxel["write"], found.sum_by_voxel) > 0
    total = estimate(plan, found)
    assert total.seconds > 3 * 40 * 0.03


def test_an_estimate_is_near_what_a_run_takes(tmp_path):
    """The pipeline of 64 calls of 30 ms; how near is a matter of the benchmark."""
    volume = ArrayVolume(np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8))
    source, plan = VolumePlanes(volume, Window(0, 255)), plan_of()
    expected = estimate(plan, measured_costs(plan, {"a": Slow()}, source, scratch=tmp_path))
    began = time.perf_counter()
    run_axis(source, plan.axes[0], {"a": Slow()}, lambda _result: None)
    took = time.perf_counter() - began
    assert expected.seconds - expected.seconds_by_part["assemble"] == pytest.approx(took, rel=0.4)


FACTS = MemoryFacts(base=10**8, models={"a": ModelMemory(10**7, 100, 1)}, dtype=np.dtype(np.uint16), ring=2)


def test_memory_follows_slabs_and_tiles_but_not_the_number_of_planes():
    """Thinner slabs, smaller tiles and fewer contexts need less; more slabs need the same."""
    whole = memory_needed(plan_of(planes=16), FACTS)
    assert memory_needed(plan_of(planes=8), FACTS) < whole
    longer = (160, *SHAPE[1:])
    assert memory_needed(plan_of(*[LAYOUTS[0]] * 10, shape=longer), FACTS) == whole
    tiles = LARGE[0] * LARGE[1]
    more = replace(FACTS, models={"a": ModelMemory(10**7, 100, 2)})
    assert memory_needed(plan_of(), more) - whole == 100 * tiles + 2 * 4 * tiles
    small = plan_of(*[layout(SMALL)] * 3)
    assert whole - memory_needed(small, FACTS) == 0.75 * (100 * tiles + 2 * 4 * tiles)
    voxels = 16 * SHAPE[1] * SHAPE[2]
    floats = replace(FACTS, dtype=np.dtype(np.float32))
    assert memory_needed(plan_of(), floats) - whole == voxels * (2 * 2 + 12)
    blended = plan_of(*[layout(LARGE, blended=True)] * 3)
    assert memory_needed(blended, FACTS) > whole + 4 * voxels


CHILD = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_estimate import *
from sennet_engine.resident import peak_resident_bytes

shape = 64, 1024, 1024
volume = ArrayVolume(np.broadcast_to(np.zeros((1024, 1024), sys.argv[2]), shape))
tile = Tile((0, 0), (1024, 1024), (Rectangle(0, 0, 1024, 1024),))
plan = plan_of(*[Layout(shape[1:], shape[1:], (tile,), sys.argv[3] == "blended")] * 4, shape=shape)
base = resident_bytes()
facts = MemoryFacts(base=base, models={"a": ModelMemory(0, 0, 1)}, dtype=volume.dtype, ring=2)
source = VolumePlanes(volume, Window(0, 9))


class Echo(Slow):
    def predict(self, tiles, *, context=0):
        return tiles


run_axis(source, plan.axes[0], {"a": Echo()}, lambda result: result.canvas.mask(500), ring=2)
print(memory_needed(plan, facts) - base, peak_resident_bytes() - base)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
@pytest.mark.parametrize(("dtype", "way"), [("uint16", "exact"), ("float32", "exact"), ("uint8", "blended")])
def test_needed_memory_is_at_least_what_a_run_takes_and_not_twice_of_it(request, dtype, way):
    """The pipeline in a process of its own, with a network that holds nothing."""
    program = [sys.executable, "-c", CHILD, str(request.path.parent), dtype, way]
    done = subprocess.run(program, capture_output=True, check=True, text=True)
    needed, taken = map(int, done.stdout.split())
    assert taken < needed < 2 * taken


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory is read from /proc")
def test_a_models_memory_is_what_it_holds_after_a_call():
    """A network that keeps 40 MB for a call of 100 x 100 in each of two contexts; loading it took 30 MB."""

    class Hungry(Slow):
        held = {}

        def predict(self, tiles, *, context=0):
            self.held[context] = np.ones(40_000_000, np.uint8)
            return tiles

    release_freed_memory()  # what other tests left would be taken again, unseen
    before = resident_bytes()
    weights = np.ones(30_000_000, np.uint8)
    found = model_memory(Hungry(contexts=2), before=before, shape=(100, 100), batch=1)
    assert found.model == pytest.approx(weights.nbytes, rel=0.1)
    assert found.per_pixel == pytest.approx(4000, rel=0.1)
    assert found.contexts == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8GB", 8 * 2**30), ("512 MB", 2**29), ("1.5g", 3 * 2**29), ("2GiB", 2**31), ("4096", 4096), ("1 t", 2**40)],
)
def test_sizes_are_read_as_people_write_them(text, expected):
    """Units in steps of 1024, with or without B."""
    assert bytes_from_text(text) == expected


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "GB", "8 GB of it", "nan"])
def test_what_is_no_size_is_refused(text):
    """The error says what was got and what a size looks like."""
    with pytest.raises(ConfigError, match="expected a size such as 8GB") as refused:
        bytes_from_text(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize(("size", "text"), [(10, "10 B"), (2**20, "1 MB"), (3 * 2**29, "1.5 GB"), (2**29, "512 MB")])
def test_sizes_are_written_as_people_read_them(size, text):
    """Three figures."""
    assert text_from_bytes(size) == text
