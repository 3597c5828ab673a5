"""The pipeline on streams equals a plain loop over planes, passes and tiles, bit for bit."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sennet_engine.bundle import open_bundle
from sennet_engine.device.host import HostDevice, HostStream
from sennet_engine.errors import ConfigError
from sennet_engine.pipeline.network_planes import NetworkPlanes
from sennet_engine.pipeline.plane_source import VolumePlanes
from sennet_engine.pipeline.stream_pipeline import run_axis
from sennet_engine.planning.axes import axis_first, seen_along
from sennet_engine.planning.cells import CELL, Occupancy, cell_edges
from sennet_engine.planning.layout import Layout, Rectangle, Tile, blend_weights, mirrored
from sennet_engine.planning.passes import AxisPlan, Cascade, PassPlan, Slab
from sennet_engine.runtimes import open_predictor
from sennet_engine.volumes.volume import ArrayVolume
from sennet_engine.window import Window

SHAPE = (39, 45, 52)
VOLUME = np.random.default_rng(3).integers(0, 256, SHAPE, dtype=np.uint8)

# Three layers along z, the middle one empty; the first and the last differ.
CELLS = np.zeros((3, 3, 4), bool)
CELLS[0, 0, :2] = CELLS[0, 1, 1] = CELLS[0, 2, 3] = CELLS[2, 1, 0:3] = True
OCCUPANCY = Occupancy(SHAPE, CELLS)

FLIPS = {"none": (), "rows": (0,), "columns": (1,), "both": (0, 1)}


@pytest.fixture(autouse=True)
def no_thread_left():
    """No test leaves a stream behind."""
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("sennet ")]


class Network:
    """Answers depend on the grey level, its left neighbour and the place in the tile, and lie in a buffer that the
    next call of the same context overwrites."""

    runtime, threads = "test", 1

    def __init__(self, key, *, contexts=1):
        self.key, self.contexts = key, contexts
        self.shapes = []
        self.buffers = {}

    def predict(self, tiles, *, context=0):
        self.shapes.append(tiles.shape)
        rows, columns = np.ogrid[: tiles.shape[2], : tiles.shape[3]]
        answers = tiles.astype(np.uint16) * 3 + np.roll(tiles, 1, axis=3) + rows * 7 + columns * self.key
        buffer = self.buffers.setdefault((context, tiles.shape), np.empty(tiles.shape, np.uint8))
        np.right_shift(answers & 1023, 2, out=buffer, casting="unsafe")
        return buffer


class Source:
    """Planes of an array along an axis, stored as uint16."""

    def __init__(self, volume, axis="z"):
        self.planes = seen_along(volume, axis)

    def read(self, start, stop):
        return self.planes[start:stop].astype(np.uint16) * 256

    def windowed(self, planes):
        return (planes // 256).astype(np.uint8)


def packed(cells, plane_shape, network_shape):
    """An exact layout by hand: a tile of 32 × 48 for each two neighbouring cells that are occupied, else of 32 × 32."""
    edges = [cell_edges(size, network) for size, network in zip(plane_shape, network_shape, strict=True)]
    rectangles = {
        (row, column): Rectangle(edges[0][row], edges[1][column], edges[0][row + 1], edges[1][column + 1])
        for row, column in np.argwhere(cells)
    }
    padded = tuple(-(-max(size, 48) // 4) * 4 for size in network_shape)
    tiles, done = [], set()
    for (row, column), rectangle in rectangles.items():
        if (row, column) in done:
            continue
        second = rectangles.get((row, column + 1))
        done |= {(row, column), (row, column + 1)}
        shape = (32, 48) if second else (32, 32)
        wanted = (max(0, rectangle.top - 4) // 4 * 4, max(0, rectangle.left - 4) // 4 * 4)
        origin = tuple(min(one, limit - side) for one, limit, side in zip(wanted, padded, shape, strict=True))
        tiles.append(Tile(origin, shape, (rectangle, second) if second else (rectangle,)))
    return Layout(network_shape, padded, tuple(sorted(tiles, key=lambda tile: tile.shape)))


def gridded(cells, plane_shape, network_shape, *, side=24, stride=16):
    """A blended layout by hand: square tiles on a grid, those alone that touch an occupied cell."""
    edges = [cell_edges(size, network) for size, network in zip(plane_shape, network_shape, strict=True)]
    counts = [1 + max(0, -(-(size - side) // stride)) for size in network_shape]
    padded = tuple((count - 1) * stride + side for count in counts)
    tiles = []
    for top, left in ((row * stride, column * stride) for row in range(counts[0]) for column in range(counts[1])):
        bottom, right = min(top + side, network_shape[0]), min(left + side, network_shape[1])
        touched = (
            edges[0][row] < bottom and edges[0][row + 1] > top and edges[1][column] < right
            and edges[1][column + 1] > left
            for row, column in np.argwhere(cells)
        )  # fmt: skip
        if any(touched):
            tiles.append(Tile((top, left), (side, side), (Rectangle(top, left, bottom, right),)))
    return Layout(network_shape, padded, tuple(tiles), blended=True)


def pass_plan(axis="z", *, layout=packed, scale=1.0, flip="none", weight=1, batch=3, model="a"):
    """A pass over the volume with hand-made layouts."""
    plane_shape = axis_first(SHAPE, axis)[1:]
    network_shape = tuple(max(1, round(size * scale)) for size in plane_shape)
    layouts = tuple(layout(cells, plane_shape, network_shape) for cells in OCCUPANCY.layers(axis))
    return PassPlan(model, model, (scale, scale), layouts, flip, weight, batch)


def axis_plan(*passes, axis="z", slab=7, total=None, cascade=None):
    """The passes as a plan with slabs of `slab` planes."""
    shape = axis_first(SHAPE, axis)
    slabs = tuple(Slab(start, min(start + slab, shape[0])) for start in range(0, shape[0], slab))
    total = total or sum(one.weight for one in passes)
    return AxisPlan(axis, shape, slabs, passes, OCCUPANCY, total, cascade)


def reference(plan, networks, *, first_pass_cells=None):
    """Sums [planes, rows, columns] of a plan, answers of its first pass, and tiles done: plane by plane and tile by
    tile."""
    planes = seen_along(VOLUME, plan.axis)
    sums, first, done = np.zeros(plan.shape, np.int64), np.zeros(plan.shape, np.uint8), 0
    cells = None if first_pass_cells is None else seen_along(first_pass_cells, plan.axis)
    for number, plane in enumerate(planes):
        for index, one in enumerate(plan.passes):
            layout = one.layout_of(number)
            grey = np.asarray(Image.fromarray(plane.copy()).resize(layout.plane_shape[::-1], Image.Resampling.BICUBIC))
            grey = mirrored(grey[None], layout.padded_shape)[0]
            total = np.zeros(layout.plane_shape, np.int64)
            weights = np.zeros(layout.plane_shape, np.int64)
            for tile in layout:
                seen = None
                if plan.cascade and cells is not None:
                    large = cells[number // CELL].repeat(CELL, axis=0).repeat(CELL, axis=1)
                    seen = large[: plan.shape[1], : plan.shape[2]] >= plan.cascade.level
                elif plan.cascade and index:
                    seen = first[number] >= plan.cascade.level
                weight = blend_weights(tile.shape) if layout.blended else np.ones(tile.shape, np.int64)
                for kept in tile.kept:
                    weights[kept.slices] += weight[kept.within(tile)]
                if seen is not None and not goes_on(tile, layout, seen):
                    continue
                done += 1
                flips = FLIPS[one.flip]
                answer = networks[one.model].predict(np.flip(grey[tile.slices], flips).copy()[None, None])[0, 0]
                answer = np.flip(answer, flips)
                for kept in tile.kept:
                    total[kept.slices] += weight[kept.within(tile)].astype(np.int64) * answer[kept.within(tile)]
            answers = ((2 * total + weights) // np.maximum(2 * weights, 1)).astype(np.uint8)
            image = Image.fromarray(answers).resize(plan.shape[:0:-1], Image.Resampling.BOX)
            answers = np.where(plan.occupancy.voxels_of_plane(plan.axis, number), np.asarray(image), 0)
            sums[number] += one.weight * answers.astype(np.int64)
            if index == 0:
                first[number] = answers
    return sums, first, done


def goes_on(tile, layout, seen):
    """Whether a voxel of `seen` shares a point with what the tile keeps."""
    for kept in tile.kept:
        touched = []
        for start, stop, voxels, pixels in (
            (kept.top, kept.bottom, seen.shape[0], layout.plane_shape[0]),
            (kept.left, kept.right, seen.shape[1], layout.plane_shape[1]),
        ):
            voxel = np.arange(voxels)
            touched.append((voxel * pixels < stop * voxels) & ((voxel + 1) * pixels > start * voxels))
        if seen[np.ix_(*touched)].any():
            return True
    return False


def run(plan, networks, **options):
    """Sums, grey levels, first answers and tile counts of the pipeline; checks that slabs come in order."""
    sums, grey, first, counts, starts = [], [], [], np.zeros(2, int), []

    def sink(result):
        starts.append(result.slab)
        sums.append(result.canvas.sums.copy())
        grey.append(result.grey.copy())
        first.append(None if result.first_answers is None else result.first_answers.copy())
        counts[:] += result.tiles_done, result.tiles_not_gone_on

    run_axis(Source(VOLUME, plan.axis), plan, networks, sink, **options)
    assert starts == list(options.get("slabs") or plan.slabs)
    first = None if first[0] is None else np.concatenate(first)
    return np.concatenate(sums), np.concatenate(grey), first, counts


PASSES = {
    "exact": [{}],
    "exact, flipped rows": [{"flip": "rows"}],
    "exact, flipped columns": [{"flip": "columns"}],
    "exact, flipped both": [{"flip": "both", "weight": 3}],
    "blended": [{"layout": gridded}],
    "blended, flipped": [{"layout": gridded, "flip": "rows", "weight": 2}],
    "smaller": [{"scale": 0.61}],
    "larger, flipped": [{"scale": 1.27, "flip": "columns"}],
    "blended, smaller": [{"layout": gridded, "scale": 0.8}],
    "all together": [
        {"weight": 5},
        {"flip": "both", "model": "b"},
        {"layout": gridded, "weight": 2, "batch": 4},
        {"scale": 0.61, "model": "b", "weight": 3},
        {"scale": 1.27, "layout": gridded, "flip": "rows"},
        {"scale": 0.61, "layout": gridded, "weight": 300},
    ],
}


@pytest.mark.parametrize("axis", ["z", "y", "x"])
@pytest.mark.parametrize("kind", PASSES)
def test_every_kind_of_pass_equals_the_plain_loop(kind, axis):
    """Sums, bit for bit, along each axis; and grey levels are the volume's."""
    plan = axis_plan(*(pass_plan(axis, **options) for options in PASSES[kind]), axis=axis, slab=16)
    networks = {"a": Network(5), "b": Network(11)}
    expected, _, tiles = reference(plan, networks)
    sums, grey, first, (done, left_out) = run(plan, networks)
    assert (sums == expected).all()
    assert (grey == seen_along(VOLUME, axis)).all()
    assert (done, left_out) == (tiles, 0)
    assert first is None
    assert expected.any()


@pytest.mark.parametrize(
    ("slab", "ring", "contexts", "batch"), [(1, 1, 1, 1), (5, 2, 2, 2), (16, 3, 3, 7), (39, 4, 1, 64), (7, 1, 3, 3)]
)
def test_how_the_work_is_cut_up_changes_nothing(slab, ring, contexts, batch):
    """Slabs that do not end with a layer of cells, any ring, contexts and batch give the same sums."""
    passes = [replace(pass_plan(**options), batch=batch) for options in PASSES["all together"]]
    networks = {"a": Network(5, contexts=contexts), "b": Network(11)}
    expected, _, tiles = reference(axis_plan(*passes), networks)
    sums, _, _, (done, _) = run(axis_plan(*passes, slab=slab), networks, ring=ring)
    assert (sums == expected).all()
    assert done == tiles


@pytest.mark.parametrize("ring", [1, 2, 3])
@pytest.mark.parametrize("level", [1, 150, 249, 255])
def test_a_cascade_goes_on_only_where_the_first_pass_saw_something(level, ring):
    """Its sums and the tiles that went on equal the plain loop's; the first pass's answers are handed over."""
    passes = [pass_plan(**options) for options in PASSES["all together"]]
    plan, networks = axis_plan(*passes, cascade=Cascade(level), slab=5), {"a": Network(5), "b": Network(11)}
    expected, expected_first, tiles = reference(plan, networks)
    sums, _, first, (done, left_out) = run(plan, networks, ring=ring)
    assert (sums == expected).all()
    assert (first == expected_first).all()
    assert done == tiles
    assert done + left_out == plan.tile_count
    assert left_out > 0 or level < 249


@pytest.mark.parametrize("axis", ["y", "x"])
def test_along_other_axes_a_cascade_goes_by_cells(axis):
    """All passes look only at tiles that touch a cell in which the first pass saw something."""
    draw = np.random.default_rng(0)
    cells = np.where(CELLS, draw.integers(0, 256, CELLS.shape), 0).astype(np.uint8)
    passes = [pass_plan(axis, **options) for options in PASSES["all together"]]
    level = int(np.sort(cells[CELLS])[-2])
    plan, networks = axis_plan(*passes, axis=axis, cascade=Cascade(level)), {"a": Network(5), "b": Network(11)}
    expected, _, tiles = reference(plan, networks, first_pass_cells=cells)
    sums, _, first, (done, left_out) = run(plan, networks, first_pass_cells=cells)
    assert (sums == expected).all()
    assert first is None
    assert done == tiles
    assert 0 < left_out == plan.tile_count - done


def test_a_total_weight_of_one_takes_a_byte_a_voxel():
    """The sums of one pass are its answers."""
    sums, _, _, _ = run(axis_plan(pass_plan()), {"a": Network(5)})
    assert sums.dtype == np.uint8


def test_planes_without_tiles_see_no_network():
    """The middle layer's slab is read and handed over, and nothing is computed for it."""
    network = Network(5)
    plan = axis_plan(pass_plan(), slab=16)
    sums, grey, _, (done, _) = run(plan, {"a": network}, slabs=plan.slabs[1:2])
    assert not network.shapes
    assert done == 0
    assert not sums.any()
    assert (grey == VOLUME[16:32]).all()


def test_only_the_slabs_that_are_asked_for_are_done():
    """In the order in which they are given, with the sums that they have in the whole."""
    plan, networks = axis_plan(pass_plan(), slab=8), {"a": Network(5)}
    whole, _, _, _ = run(plan, networks)
    some, _, _, _ = run(plan, networks, slabs=[plan.slabs[4], plan.slabs[0]])
    assert (some == np.concatenate([whole[32:39], whole[0:8]])).all()


def test_no_slab_is_no_work():
    """A run with nothing left to do ends at once."""
    times = run_axis(Source(VOLUME), axis_plan(pass_plan()), {"a": Network(5)}, pytest.fail, slabs=[])
    assert times.compute == 0


def test_batches_of_a_pass_have_one_size():
    """The last batch of each tile shape is filled up, so the network sees two shapes in all."""
    network = Network(5)
    run(axis_plan(pass_plan(batch=4)), {"a": network})
    assert set(network.shapes) == {(4, 1, 32, 32), (4, 1, 32, 48)}


def test_a_batch_is_filled_up_with_its_first_tile():
    """What the network sees is the same in every run, also where its answer is not wanted."""
    batches = []

    class Keeping(Network):
        def predict(self, tiles, *, context=0):
            batches.append(tiles.copy())
            return super().predict(tiles, context=context)

    plan = axis_plan(pass_plan(batch=5), slab=1)
    run(plan, {"a": Keeping(5)}, slabs=plan.slabs[:1])
    wide = next(batch for batch in batches if batch.shape[3] == 48)
    assert (wide == wide[0]).all()


def test_tiles_of_several_planes_share_batches():
    """A slab of sixteen planes with two tiles of a shape on each takes eight batches of four for them."""
    network = Network(5)
    plan = axis_plan(pass_plan(batch=4), slab=16)
    run(plan, {"a": network}, slabs=plan.slabs[:1])
    per_plane = [tile.shape for tile in plan.passes[0].layouts[0]]
    expected = sum(-(-16 * per_plane.count(shape) // 4) for shape in set(per_plane))
    assert len(network.shapes) == expected


def test_all_contexts_compute_at_the_same_time():
    """Three calls that wait for each other all return, each with a context of its own."""
    meeting, seen = threading.Barrier(3, timeout=5), set()

    class Meeting(Network):
        def predict(self, tiles, *, context=0):
            seen.add(context)
            meeting.wait()
            return super().predict(tiles, context=context)

    network = Meeting(5, contexts=3)
    plan = axis_plan(pass_plan(batch=16), slab=16)  # three batches for the first slab
    run(plan, {"a": network}, slabs=plan.slabs[:1] * 3, ring=1)
    assert seen == {0, 1, 2}


def test_no_more_slabs_are_under_way_than_the_ring_holds():
    """A slow sink holds up the reading, so memory does not grow with the volume."""
    under_way, most = [0], [0]

    class Counting(Source):
        def read(self, start, stop):
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
            return super().read(start, stop)

    def sink(_):
        time.sleep(0.005)
        under_way[0] -= 1

    for ring in (1, 2, 3):
        most[0] = 0
        run_axis(Counting(VOLUME), axis_plan(pass_plan(), slab=2), {"a": Network(5)}, sink, ring=ring)
        assert most[0] == ring


class Lengths(HostDevice):
    """Knows the longest queue that any of its streams had."""

    longest = 0

    def host_stream(self, name, *, meter):
        device = self

        class Measured(HostStream):
            def enqueue(self, work):
                super().enqueue(work)
                device.longest = max(device.longest, self._pieces.qsize())

        return Measured(name, meter=meter)

    device_stream = host_stream


@pytest.mark.parametrize("slab", [1, 39])
def test_the_streams_queues_do_not_grow_with_the_work(slab):
    """Neither many slabs nor a slab with many tiles are handed out all at once."""

    class Slow(Network):
        def predict(self, tiles, *, context=0):
            time.sleep(0.002)
            return super().predict(tiles, context=context)

    lengths = []
    for count in (1, 4):
        device, plan = Lengths(), axis_plan(*[pass_plan(batch=1)] * count, slab=slab, total=4)
        slabs = plan.slabs * 1 if slab == 39 else plan.slabs[: 10 * count]
        run_axis(Source(VOLUME), plan, {"a": Slow(5)}, lambda _: time.sleep(0.002), slabs=slabs, ring=1, device=device)
        lengths.append(device.longest)
    assert lengths[1] <= lengths[0] + 4
    assert lengths[0] < 40


def test_stage_times_tell_where_the_time_went():
    """Sleeping networks and sinks are found in their stages; what no network covered is outside."""

    class Slow(Network):
        def predict(self, tiles, *, context=0):
            time.sleep(0.02)
            return super().predict(tiles, context=context)

    network = Slow(5, contexts=2)
    plan = axis_plan(pass_plan(batch=8), slab=16)
    times = run_axis(Source(VOLUME), plan, {"a": network}, lambda _: time.sleep(0.03))
    calls = len(network.shapes)
    assert times.compute >= calls * 0.02
    assert times.write >= 3 * 0.03
    assert times.wall < times.compute + times.write
    assert 0 < times.outside_network < times.wall - times.compute / 2 + 0.001
    assert (times + times).compute == 2 * times.compute
    assert times.handing_over == 0
    assert min(times.read, times.window, times.cut, times.copy_in, times.copy_out, times.accumulate) > 0


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtimes_contexts_change_nothing(strided_bundle, runtime):
    """A real network on two streams gives what it gives on one."""
    plan, sums = axis_plan(pass_plan(batch=4), slab=16), []
    for contexts in (1, 2):
        with open_predictor(open_bundle(strided_bundle), runtime=runtime, threads=1, contexts=contexts) as predictor:
            sums.append(run(plan, {"a": predictor})[0])
    assert (sums[0] == sums[1]).all()
    assert sums[0].any()


def test_a_volume_is_a_source_through_its_window():
    """Its planes along z, with the window's grey levels."""
    source = VolumePlanes(ArrayVolume(VOLUME.astype(np.uint16) * 100), Window(0, 25500))
    assert (source.windowed(source.read(3, 9)) == VOLUME[3:9]).all()


def test_a_ring_of_nothing_is_refused():
    """There must be room for a slab."""
    with pytest.raises(ConfigError, match="ring"):
        run(axis_plan(pass_plan()), {"a": Network(5)}, ring=0)


@pytest.mark.parametrize("padded", [(45, 52), (48, 64), (200, 52), (46, 300)])
def test_planes_are_mirrored_in_place_as_by_numpy(padded):
    """At any padded shape, also several times the plane."""
    layout = Layout((45, 52), padded, ())
    planes = NetworkPlanes([PassPlan("a", "a", (1, 1), (layout,), "none", 1, 1)], most_planes=4)
    planes.fill(VOLUME[:4], {(45, 52): [1, 3]})
    assert (planes.of(layout)[[1, 3]] == mirrored(VOLUME[:4], padded)[[1, 3]]).all()
