"""The sweep takes the smallest batch that is as good as any, says why, and is made once."""

import json
import logging
import random
import threading
import time

import numpy as np
import pytest

from sennet_engine.device.host import HostDevice
from sennet_engine.errors import ConfigError, DeviceMemoryError, ModelError
from sennet_engine.gpu import batch_sweep
from sennet_engine.gpu.batch_sweep import seconds_per_tile, swept_batch
from sennet_engine.trial_memory import TrialMemory

FACTS = {"engine": "a" * 64, "tile": (512, 512), "gpu": "a GPU", "driver": "1", "contexts": 2}
# Milliseconds for a tile, by batch.
CHEAPER_TO_4 = {1: 4.0, 2: 3.0, 4: 2.5, 8: 2.49, 16: 2.48, 32: 1.0}
DEARER = {1: 2.0, 2: 2.1, 4: 2.2, 8: 0.1}
STEP_AT_4 = {1: 4.0, 2: 4.0, 4: 3.0, 8: 2.0, 16: 1.99}


class Gpu:
    """A GPU of known speed: tells which batches were timed, and how much memory it has left.

    Args:
        milliseconds: for a tile, by batch.
        room: for so many tiles.
        bytes_per_tile: that remain taken after a batch.
    """

    def __init__(self, milliseconds, *, room=1 << 30, free=1 << 30, bytes_per_tile=0):
        self.timed, self._milliseconds, self._room = [], milliseconds, room
        self._all, self._bytes_per_tile, self._most = free, bytes_per_tile, 0

    def time_batch(self, batch):
        self.timed.append(batch)
        if batch > self._room:
            raise DeviceMemoryError("got no memory")
        self._most = max(self._most, batch)
        return self._milliseconds[batch] / 1e3

    def free_memory(self):
        return self._all - self._most * self._bytes_per_tile


def sweep(gpu, memory=None, *, largest=32, facts=FACTS, free_memory=None, **options):
    """A batch for `gpu`."""
    return swept_batch(
        gpu.time_batch, largest=largest, memory=memory or TrialMemory(None), facts=facts,
        free_memory=gpu.free_memory if free_memory is None else free_memory, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("milliseconds", "batch", "tried"),
    [(CHEAPER_TO_4, 4, [1, 2, 4, 8, 16]), (DEARER, 1, [1, 2, 4]), (STEP_AT_4, 8, [1, 2, 4, 8, 16])],
    ids=["cheaper to 4", "dearer", "step at 4"],
)
def test_the_smallest_batch_that_is_as_good_as_any_is_taken(milliseconds, batch, tried):
    """2 % are not worth a larger batch; two batches that gain nothing end the sweep, and one alone does not."""
    gpu = Gpu(milliseconds)
    choice = sweep(gpu, largest=16)
    assert choice.batch == batch
    assert choice.seconds_per_tile == milliseconds[batch] / 1e3
    assert not choice.remembered
    assert gpu.timed[: len(tried)] == tried
    assert set(gpu.timed) == set(tried)
    assert all(f"{one}: {milliseconds[one]:.2f} ms" in choice.reason for one in tried)


def test_nothing_is_tried_that_the_engine_does_not_take():
    """The profile's largest batch is the last one, also where it is no power of two; its smallest is the first."""
    gpu = Gpu({batch: 10 / batch for batch in range(1, 33)})
    assert sweep(gpu, largest=6, smallest=1).batch == 6
    assert set(gpu.timed) == {1, 2, 4, 6}
    gpu.timed.clear()
    assert sweep(gpu, largest=12, smallest=3).batch == 12
    assert set(gpu.timed) == {3, 6, 12}
    gpu.timed.clear()
    assert sweep(gpu, largest=4, smallest=4).batch == 4
    assert gpu.timed == [4]
    for limits in ({"largest": 0}, {"largest": 2, "smallest": 4}):
        with pytest.raises(ConfigError, match="batch: got"):
            sweep(gpu, **limits)


@pytest.mark.parametrize("seed", range(20))
def test_a_disturbance_does_not_decide(seed):
    """Where the first look at a batch was slowed down by up to 8 %, the second look puts it right."""
    draw, seen = random.Random(seed), set()

    def disturbed(batch):
        first = batch not in seen
        seen.add(batch)
        return CHEAPER_TO_4[batch] / 1e3 * (1 + first * draw.random() * 0.08)

    choice = swept_batch(disturbed, largest=16, memory=TrialMemory(None), facts=FACTS)
    assert choice.batch == 4
    assert choice.seconds_per_tile == CHEAPER_TO_4[4] / 1e3


def test_want_of_memory_ends_the_sweep_at_the_batch_before():
    """And the choice says so."""
    gpu = Gpu({batch: 10 / batch for batch in range(1, 33)}, room=5)
    choice = sweep(gpu)
    assert choice.batch == 4
    assert gpu.timed[:4] == [1, 2, 4, 8]
    assert "not enough memory for 8" in choice.reason


def test_a_gpu_without_memory_for_one_tile_is_an_error():
    """There is nothing to choose."""
    with pytest.raises(DeviceMemoryError, match="got no memory"):
        sweep(Gpu({}, room=0))


def test_a_batch_whose_memory_others_took_meanwhile_is_not_chosen():
    """The second look at 4 finds no memory for it; 2 was looked at before."""
    gpu = Gpu({1: 2.0, 2: 1.05, 4: 1.0, 8: 1.2, 16: 1.2})
    times = []

    def time_batch(batch):
        times.append(batch)
        if times.count(4) == 2 and batch == 4:
            raise DeviceMemoryError("got no memory")
        return gpu.time_batch(batch)

    assert swept_batch(time_batch, largest=16, memory=TrialMemory(None), facts=FACTS).batch == 2


def test_a_batch_that_would_not_fit_is_not_tried():
    """A tile takes 100 bytes of 1000: 8 tiles fit, 16 would not."""
    gpu = Gpu({batch: 10 / batch for batch in range(1, 33)}, free=1000, bytes_per_tile=100)
    choice = sweep(gpu)
    assert choice.batch == 8
    assert 16 not in gpu.timed
    assert "16 would not fit into the memory that is free" in choice.reason
    roomy = Gpu({batch: 10 / batch for batch in range(1, 33)}, free=1601, bytes_per_tile=100)
    assert sweep(roomy).batch == 16


def test_what_was_found_is_remembered_for_the_same_facts(tmp_path):
    """Another engine, GPU, shape or limit is another sweep."""
    memory = TrialMemory(tmp_path / "trials.json")
    first = sweep(Gpu(CHEAPER_TO_4), memory, largest=16)
    gpu = Gpu(CHEAPER_TO_4)
    again = sweep(gpu, memory, largest=16)
    assert gpu.timed == []
    assert again.remembered
    assert (again.batch, again.seconds_per_tile, again.reason) == (first.batch, first.seconds_per_tile, first.reason)
    others = [FACTS | {"engine": "b" * 64}, FACTS | {"gpu": "another"}, FACTS | {"tile": (256, 512)}]
    for facts in others:
        assert not sweep(Gpu(CHEAPER_TO_4), memory, largest=16, facts=facts).remembered
    assert sweep(Gpu(CHEAPER_TO_4), memory, largest=8).batch == 4
    assert not sweep(Gpu(CHEAPER_TO_4), memory, largest=4).remembered


@pytest.mark.parametrize(
    ("room", "free", "remembered"),
    [(64, 1000, True), (64, 2000, True), (64, 850, False), (5, 1000, True), (5, 1050, True), (5, 1200, False)],
)
def test_other_free_memory_makes_a_sweep_doubtful(tmp_path, room, free, remembered):
    """Less of it always does; more of it where memory ended the sweep."""
    memory = TrialMemory(tmp_path / "trials.json")
    sweep(Gpu(CHEAPER_TO_4, room=room, free=1000), memory)
    assert sweep(Gpu(CHEAPER_TO_4, room=room, free=free), memory).remembered is remembered


def test_what_memory_decided_is_not_remembered_where_nobody_knows_how_much_was_free(tmp_path):
    """The next run may have more of it."""
    memory = TrialMemory(tmp_path / "trials.json")
    for _ in range(2):
        gpu = Gpu(CHEAPER_TO_4, room=2)
        assert not swept_batch(gpu.time_batch, largest=16, memory=memory, facts=FACTS).remembered
    gpu = Gpu(CHEAPER_TO_4)
    swept_batch(gpu.time_batch, largest=16, memory=memory, facts=FACTS)
    assert swept_batch(gpu.time_batch, largest=16, memory=memory, facts=FACTS).remembered


@pytest.mark.parametrize(
    "change",
    [
        {"batch": 64}, {"batch": 0}, {"batch": "many"}, {"seconds_per_tile": 0}, {"seconds_per_tile": None},
        {"free_bytes": "much"}, {"batch": float("nan")}, {"seconds_per_tile": float("inf")},
    ],
    ids=str,
)  # fmt: skip
def test_a_changed_memory_is_swept_anew(tmp_path, change):
    """What cannot be is not believed."""
    path = tmp_path / "trials.json"
    sweep(Gpu(CHEAPER_TO_4), TrialMemory(path))
    content = json.loads(path.read_text())
    content["trials"][0]["found"] |= change
    path.write_text(json.dumps(content))
    choice = sweep(Gpu(CHEAPER_TO_4), TrialMemory(path))
    assert (choice.batch, choice.remembered) == (4, False)
    del content["trials"][0]["found"]["reason"]
    path.write_text(json.dumps(content))
    assert not sweep(Gpu(CHEAPER_TO_4), TrialMemory(path)).remembered


def test_a_memory_that_is_no_json_is_swept_anew_and_said(tmp_path, caplog):
    """The file is then written anew."""
    path = tmp_path / "trials.json"
    path.write_text("{ torn")
    with caplog.at_level(logging.WARNING):
        assert sweep(Gpu(CHEAPER_TO_4), TrialMemory(path)).batch == 4
    assert "holds no trials" in caplog.text
    assert sweep(Gpu(CHEAPER_TO_4), TrialMemory(path)).remembered


class Slow:
    """A predictor of known speed, whose contexts have to compute at the same time; the first call is slower."""

    runtime, threads, watches_overflow = "slow", 1, False

    def __init__(self, contexts, *, call, tile, first=0.0):
        self.contexts, self._call, self._tile, self._first = contexts, call, tile, first
        self._together = threading.Barrier(contexts)
        self.calls, self.shapes, self.greys = [0] * contexts, set(), set()

    def predict(self, tiles, *, context=0):
        self._together.wait(timeout=5)
        self.calls[context] += 1
        self.shapes.add(tiles.shape)
        self.greys.add(len(np.unique(tiles)))
        time.sleep(self._call + self._tile * len(tiles) + self._first * (self.calls[context] == 1))
        return tiles


@pytest.fixture
def quick(monkeypatch):
    """Short looks."""
    monkeypatch.setattr(batch_sweep, "WARM_UP_SECONDS", 0.02)
    monkeypatch.setattr(batch_sweep, "TIMED_SECONDS", 0.1)
    monkeypatch.setattr(batch_sweep, "ROUND_SECONDS", 0.02)


@pytest.mark.parametrize("contexts", [1, 2])
def test_a_tile_is_timed_with_all_contexts_at_work(quick, contexts):
    """Two at a time in the time of one are twice as fast; what comes once does not count."""
    predictor = Slow(contexts, call=0.006, tile=0.001, first=0.2)
    seconds = seconds_per_tile(predictor, HostDevice(), (64, 32), batch=4)
    assert 0.010 / 4 / contexts <= seconds < 0.018 / 4 / contexts
    assert predictor.shapes == {(4, 1, 64, 32)}
    assert min(predictor.greys) > 200  # noise: nothing can be skipped
    assert len(set(predictor.calls)) == 1


def test_the_sweep_and_the_timing_fit_together(quick):
    """A call that costs as much as three tiles is worth batches."""
    predictor = Slow(2, call=0.003, tile=0.001)
    choice = swept_batch(
        lambda batch: seconds_per_tile(predictor, HostDevice(), (32, 32), batch=batch),
        largest=4, memory=TrialMemory(None), facts=FACTS,
    )  # fmt: skip
    assert choice.batch == 4
    assert {shape[0] for shape in predictor.shapes} == {1, 2, 4}


@pytest.mark.parametrize("error", [ModelError("no such tiles"), DeviceMemoryError("got no memory")])
def test_an_error_of_the_predictor_is_the_timings(quick, error):
    """All streams have ended then."""

    class Failing(Slow):
        def predict(self, tiles, *, context=0):
            if context == 1:
                raise error
            return tiles

    before = threading.active_count()
    with pytest.raises(type(error), match=str(error)):
        seconds_per_tile(Failing(2, call=0, tile=0), HostDevice(), (32, 32), batch=1)
    assert threading.active_count() == before
