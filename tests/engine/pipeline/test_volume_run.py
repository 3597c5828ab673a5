"""A run over a volume: interrupted anywhere, resumed, or done in another order, it ends in the same slab files."""

import logging
import time
from contextlib import ExitStack, suppress
from dataclasses import replace

import numpy as np
import pytest

from sennet_engine.bundle import open_bundle
from sennet_engine.device.host import HostDevice
from sennet_engine.ensemble import Ensemble
from sennet_engine.ensemble_file import expanded_passes
from sennet_engine.errors import DeviceError, OutputError
from sennet_engine.pipeline import volume_run
from sennet_engine.pipeline.volume_run import VolumeRun
from sennet_engine.pipeline.worker import Worker
from sennet_engine.planning.cells import everywhere
from sennet_engine.planning.planner import PlanRequest, make_plan
from sennet_engine.runtimes import open_predictor
from sennet_engine.storage.journal import Journal
from sennet_engine.storage.slab_file import SlabFile, write_slab_file
from sennet_engine.storage.work_folder import work_folder
from sennet_engine.volumes.volume import ArrayVolume
from sennet_engine.window import Window

SHAPE = (37, 40, 52)
ONE_DEVICE = (HostDevice(),)
STACK = np.random.default_rng(4).integers(0, 256, SHAPE, dtype=np.uint8)
STACK[:, 16:, :] //= 32

ALONG_Z = [{"model": "strided.model"}, {"model": "identity.model", "flips": ["rows"], "weight": 2}]
ALL_AXES = [{"model": "identity.model"}, {"model": "strided.model", "axes": "yx", "weight": 2}]


class Interrupted(Exception):
    """As Ctrl-C would be."""


class Reports(list):
    """(planes done, planes in all), as told; raises as soon as more are done than `enough`."""

    def __init__(self, *, enough=10**9):
        super().__init__()
        self.enough = enough

    def __call__(self, done, total):
        self.append((done, total))
        if done > self.enough:
            raise Interrupted


class Counted(ArrayVolume):
    """Counts how often each plane is read."""

    def __init__(self, array):
        super().__init__(array)
        self.reads = np.zeros(len(array), int)

    def read_planes(self, start, stop):
        self.reads[start:stop] += 1
        return super().read_planes(start, stop)


@pytest.fixture
def bundles(strided_bundle, identity_bundle):
    """Opened, by their keys."""
    return {f"{path.name} fp32": open_bundle(path) for path in (strided_bundle, identity_bundle)}


@pytest.fixture
def plan_of(bundles):
    """The plan of passes, in slabs of 4 planes or bricks of `brick` voxels."""

    def plan(passes, *, cascade=None, brick=8):
        entries = expanded_passes(
            Ensemble(passes=passes, threshold=0.3), bundles, shape_zyx=SHAPE, voxel_size_um=None, precision="fp32"
        )
        slab_planes = 4 if all(one.axis == "z" for one in entries) else None
        request = PlanRequest(threshold=0.3, slab_planes=slab_planes, cascade_bound=cascade, memory_bytes=brick)
        return make_plan(entries, everywhere(SHAPE, reason=""), request, memory_needed=lambda one: one.brick)

    return plan


@pytest.fixture
def run(bundles, tmp_path):
    """Run a plan, by default from anew: contents of the slab files, and what was counted; None if interrupted.

    `lost`: a file that is gone when the run is resumed. `devices`: that share it.
    """

    def one_run(plan, *, volume=None, resume=False, lost=None, devices=ONE_DEVICE, **options):
        with ExitStack() as held:
            workers = [
                Worker(
                    f"device {number}", device,
                    {key: held.enter_context(open_predictor(one, threads=1)) for key, one in bundles.items()},
                )
                for number, device in enumerate(devices)
            ]  # fmt: skip
            held.enter_context(suppress(Interrupted))
            work = held.enter_context(work_folder(tmp_path / "out", {}, units=1, resume=resume, discard=not resume))
            if lost:
                (work.path / lost).unlink()
            options = {"probability": True, "on_planes": lambda *_: None} | options
            the_run = VolumeRun(volume or ArrayVolume(STACK), Window(0, 255), plan, workers, work, **options)
            the_run.run()
            return {path.name: path.read_bytes() for path in sorted(the_run.slab_files)}, the_run.counts
        return None, None

    return one_run


def mask_of(contents, scratch):
    """[Z, Y, X] mask in the contents of slab files."""
    planes = []
    for content in contents.values():
        scratch.write_bytes(content)
        with SlabFile.open(scratch) as slab:
            planes += [slab.mask_plane(plane) for plane in range(slab.shape[0])]
    return np.stack(planes)


CASES = [(ALONG_Z, None), (ALL_AXES, None), (ALONG_Z, 0.2), (ALL_AXES, 0.2)]


@pytest.mark.parametrize(("passes", "cascade"), CASES)
def test_interrupted_after_every_slab_it_ends_in_the_same_files(plan_of, run, passes, cascade):
    """What is done is kept and told, the rest is done once, and the counts of all attempts add up."""
    plan = plan_of(passes, cascade=cascade)
    whole, counts = run(plan)
    reports, attempts = Reports(enough=0), 1
    contents, _ = run(plan, on_planes=reports)
    while contents is None:
        done = reports[-1][0]
        reports = Reports(enough=done)
        contents, last = run(plan, resume=True, on_planes=reports)
        assert done in [planes for planes, _ in reports]
        attempts += 1
    assert contents == whole
    assert attempts == sum(len(axis.slabs) for axis in plan.axes) + 1
    assert (counts.planes_resumed, last.planes_resumed) == (0, reports[-1][1])
    assert counts.tiles > 0 == last.tiles


@pytest.mark.parametrize(("passes", "cascade"), CASES)
def test_in_another_order_it_ends_in_the_same_files(plan_of, run, passes, cascade):
    """Slabs from the last to the first; and, resumed, first those at odd places, then all others."""
    plan = plan_of(passes, cascade=cascade)
    whole, _ = run(plan)
    backward = replace(plan, axes=tuple(replace(axis, slabs=axis.slabs[::-1]) for axis in plan.axes))
    assert run(backward)[0] == whole
    mixed = replace(plan, axes=tuple(replace(axis, slabs=axis.slabs[1::2] + axis.slabs[::2]) for axis in plan.axes))
    reports = Reports(enough=plan.shape_zyx[0] // 2)
    assert run(mixed, on_planes=reports)[0] is None
    assert run(plan, resume=True)[0] == whole


def test_a_cascade_is_decided_by_all_of_its_first_pass(plan_of, run):
    """Along other axes too it leaves out what saw nothing, and changes nothing where everything was seen."""
    sparse, dense = plan_of(ALL_AXES, cascade=0.2), plan_of(ALL_AXES)
    assert run(sparse)[0] != run(dense)[0]
    _, counts = run(sparse)
    _, without = run(dense)
    assert counts.tiles_not_gone_on > 0 == without.tiles_not_gone_on
    assert counts.tiles + counts.tiles_not_gone_on == without.tiles
    bright = ArrayVolume(np.maximum(STACK, 60))
    assert run(sparse, volume=bright)[0] == run(dense, volume=bright)[0]


def test_bricks_of_any_size_decide_a_cascade_alike(plan_of, run, tmp_path):
    """Also where only some of a layer's planes saw anything, and they lie in another brick than the rest."""
    stack = STACK // 32
    stack[2:6, 10:20, 10:20] = stack[28:32, 20:30, 30:40] = 200
    masks = []
    for brick in (8, 16, 32):
        contents, counts = run(plan_of(ALL_AXES, cascade=0.2, brick=brick), volume=ArrayVolume(stack))
        masks.append(mask_of(contents, tmp_path / "slab"))
        assert counts.tiles_not_gone_on > 0
    assert masks[0].any()
    assert (masks[0] == masks[1]).all()
    assert (masks[0] == masks[2]).all()


class Failing(HostDevice):
    """Fails with the call number `at`, or as soon as `when` says so."""

    def __init__(self, at=0, *, when=None):
        self.left = at
        self.when = when or (lambda: self.left < 0)

    def compute(self, stream, *arguments, **options):
        def fail():
            self.left -= 1
            if self.when():
                raise DeviceError("device: fell off the bus")

        stream.enqueue(fail)
        super().compute(stream, *arguments, **options)


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize(("passes", "cascade"), CASES)
def test_several_devices_end_in_the_same_files(plan_of, run, passes, cascade, count):
    """Slabs are done in any order, and each is counted and told once; also where a device is lost on the way."""
    plan = plan_of(passes, cascade=cascade)
    whole, counts = run(plan)
    for devices in ([HostDevice()] * count, [Failing(2), *[HostDevice()] * (count - 1)]):
        reports = Reports()
        contents, shared = run(plan, devices=devices, on_planes=reports)
        assert contents == whole
        assert (shared.tiles, shared.tiles_not_gone_on) == (counts.tiles, counts.tiles_not_gone_on)
        assert reports == sorted(reports)
        assert len(set(reports)) == sum(len(axis.slabs) for axis in plan.axes) + 1


def test_a_device_that_failed_is_told_and_given_up_for_all_axes(plan_of, run, caplog):
    """With its name, its error and how many slabs it leaves."""
    plan, broken = plan_of(ALL_AXES), Failing(0)
    tried = []
    broken.pinned = lambda size: (tried.append(size), HostDevice().pinned(size))[1]
    with caplog.at_level(logging.WARNING):
        contents, counts = run(plan, devices=[HostDevice(), broken], volume=Slow(STACK))
    assert contents == run(plan)[0]
    assert counts.lost_devices == 1
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("device 1 failed and is given up; ")
    assert message.endswith("slabs that it had in hand are done by the others: device: fell off the bus")
    assert len(tried) <= 3 * 2 * 2  # of one axis: for places of the ring and its contexts


class Slow(ArrayVolume):
    """Takes its time, so that each device gets a slab."""

    def read_planes(self, start, stop):
        time.sleep(0.02)
        return super().read_planes(start, stop)


@pytest.mark.parametrize("passes", [ALONG_Z, ALL_AXES])
def test_a_run_whose_devices_all_failed_is_resumed(plan_of, run, passes):
    """What they did stays done, and each slab stands in the journal once."""
    plan = plan_of(passes)
    whole, _ = run(plan)
    reports = Reports()
    with pytest.raises(DeviceError, match="fell off the bus"):
        run(plan, devices=[Failing(when=lambda: reports[-1][0] > 8) for _ in range(2)], on_planes=reports)
    contents, counts = run(plan, resume=True)
    assert contents == whole
    assert counts.planes_resumed == reports[-1][0] > 0


def test_the_journal_names_every_slab_once(plan_of, run, monkeypatch):
    """Of every axis, whoever did it."""
    marked, real = [], Journal.mark_done
    monkeypatch.setattr(Journal, "mark_done", lambda journal, unit: (marked.append(unit), real(journal, unit)))
    plan = plan_of(ALL_AXES, cascade=0.2)
    run(plan, devices=[HostDevice(), Failing(3), HostDevice()])
    expected = [f"{axis.axis} {slab.start}" for axis in plan.axes for slab in axis.slabs]
    assert sorted(marked) == sorted(expected + [f"sum {slab.start}" for slab in plan.axes[0].slabs])


def test_sums_that_are_added_up_are_not_added_up_again(plan_of, run, monkeypatch):
    """A run that ends between two of them goes on with the next."""
    plan, written = plan_of(ALL_AXES), []
    whole, _ = run(plan)

    def write(path, *contents):
        if len(written) == 3:
            raise Interrupted
        write_slab_file(path, *contents)
        written.append(path.name)

    monkeypatch.setattr(volume_run, "write_slab_file", write)
    assert run(plan)[0] is None
    first, written[:] = written[:], []
    assert run(plan, resume=True)[0] == whole
    assert first + written == sorted(whole)


def test_planes_are_told_in_order_up_to_the_last(plan_of, run):
    """From nothing to all planes of all axes, and never fewer than before."""
    for passes, planes in ((ALONG_Z, 37), (ALL_AXES, 37 + 40 + 52)):
        reports = Reports()
        run(plan_of(passes), on_planes=reports)
        assert (reports[0], reports[-1]) == ((0, planes), (planes, planes))
        assert reports == sorted(reports)
        assert len(set(reports)) > 5


@pytest.mark.parametrize("passes", [ALONG_Z, ALL_AXES])
def test_the_volume_is_read_once(plan_of, run, passes):
    """By all passes along all axes together; and a resumed run reads only what is not done."""
    plan, volume = plan_of(passes), Counted(STACK)
    run(plan, volume=volume)
    assert (volume.reads == 1).all()
    run(plan, on_planes=Reports(enough=0))
    volume = Counted(STACK)
    run(plan, resume=True, volume=volume)
    first = len(plan.axes[0].slabs[0])
    assert not volume.reads[:first].any()
    assert (volume.reads[first:] == 1).all()


def test_a_resumed_run_whose_sums_are_gone_says_so(plan_of, run):
    """They would read as 0."""
    plan = plan_of(ALL_AXES)
    run(plan, on_planes=Reports(enough=45))
    with pytest.raises(OutputError, match=r"y\.bricks: cannot be opened .* start anew with --overwrite"):
        run(plan, resume=True, lost="y.bricks")


def test_probabilities_are_kept_only_where_they_are_wanted(plan_of, run, tmp_path):
    """Slab files without them are smaller, and hold the same masks."""
    masks = []
    for probability in (True, False):
        contents, _ = run(plan_of(ALONG_Z), probability=probability)
        (tmp_path / "slab").write_bytes(contents["000004.slab"])
        with SlabFile.open(tmp_path / "slab") as slab:
            assert slab.has_probability == probability
            assert (slab.start, slab.shape) == (4, (4, 40, 52))
        masks.append(mask_of(contents, tmp_path / "slab"))
    assert masks[0].shape == SHAPE
    assert masks[0].any()
    assert (masks[0] == masks[1]).all()
