"""The trial takes what is fastest, says why, and is made once."""

import json
import logging
import threading
import time

import numpy as np
import pytest

from sennet_engine import trial as trial_module
from sennet_engine.bundle import open_bundle
from sennet_engine.errors import ConfigError, MissingExtraError, ModelError
from sennet_engine.trial import chosen_runtime, splits
from sennet_engine.trial_memory import TrialMemory


class Fleet:
    """Stands in for `open_predictor`: predictors that take known times, and how many were open at once."""

    def __init__(self, monkeypatch, seconds, *, broken=()):
        self.opened, self.open_now, self.most_open = [], 0, 0
        self._seconds, self._broken = seconds, broken
        monkeypatch.setattr(trial_module, "open_predictor", self.open)
        monkeypatch.setattr(trial_module, "installed_runtimes", lambda: {"onnxruntime": "1", "openvino": "2"})
        self.others_busy = False
        monkeypatch.setattr(trial_module, "OtherPrograms", lambda: self)

    def were_busy(self):
        return self.others_busy

    def open(self, bundle, *, runtime, precision, threads, contexts):
        del bundle, precision
        if runtime in self._broken:
            raise ModelError(f"{runtime} cannot load it")
        self.opened.append((runtime, contexts, threads))
        return _Timed(self, threads, contexts, self._seconds[runtime, contexts])


class _Timed:
    runtime = "timed"

    def __init__(self, fleet, threads, contexts, seconds):
        self.fleet, self.threads, self.contexts, self.seconds = fleet, threads, contexts, seconds
        self.together = threading.Barrier(contexts)

    def predict(self, tiles, *, context=0):
        del context
        self.together.wait(timeout=5)  # all contexts compute at once, or this fails
        time.sleep(self.seconds * len(tiles))
        return tiles

    def __enter__(self):
        self.fleet.open_now += 1
        self.fleet.most_open = max(self.fleet.most_open, self.fleet.open_now)
        return self

    def __exit__(self, *_):
        self.fleet.open_now -= 1


def choose(bundle_path, memory=None, **changes):
    """A choice for tiles of 64 x 48 on four threads."""
    options = {"tile_shape": (64, 48), "batch": 1, "threads": 4, "memory": memory or TrialMemory(None)} | changes
    return chosen_runtime(open_bundle(bundle_path), "fp32", **options)


# Seconds of a call; with c contexts, c tiles are done in it.
QUICK = {
    ("onnxruntime", 1): 0.02, ("onnxruntime", 2): 0.02, ("onnxruntime", 4): 0.064,
    ("openvino", 1): 0.06, ("openvino", 2): 0.2, ("openvino", 4): 0.01,
}  # fmt: skip
FAST = {key: seconds / 10 for key, seconds in QUICK.items()}


def test_the_most_tiles_a_second_win(identity_bundle, monkeypatch):
    """Contexts count: two at a time in the time of one are twice as fast. One model is loaded at a time."""
    fleet = Fleet(monkeypatch, QUICK)
    choice = choose(identity_bundle)
    assert (choice.runtime, choice.contexts, choice.threads) == ("onnxruntime", 2, 2)
    assert 0.01 <= choice.seconds_per_tile < 0.019
    assert fleet.most_open == 1
    assert fleet.open_now == 0
    assert not choice.remembered
    assert "onnxruntime 2 x 2" in choice.reason
    assert "openvino 1 x 4" in choice.reason


def test_hopeless_candidates_are_not_looked_at_further(identity_bundle, monkeypatch):
    """Where two contexts are slower than one, four of that runtime are not tried."""
    fleet = Fleet(monkeypatch, QUICK)
    choose(identity_bundle)
    assert ("openvino", 2, 2) in fleet.opened
    assert ("openvino", 4, 1) not in fleet.opened
    assert fleet.opened.count(("openvino", 1, 4)) == 1


def test_a_named_runtime_is_kept(identity_bundle, monkeypatch):
    """Only its threads and contexts are tried, though another is faster."""
    fleet = Fleet(monkeypatch, QUICK)
    assert choose(identity_bundle, runtime="openvino").runtime == "openvino"
    assert {runtime for runtime, _, _ in fleet.opened} == {"openvino"}
    with pytest.raises(ConfigError, match="expected auto or one of"):
        choose(identity_bundle, runtime="abacus")


def test_a_trial_is_made_once_for_the_same_work(identity_bundle, strided_bundle, tmp_path, monkeypatch):
    """The same file, tile, batch and threads are remembered; any other is tried."""
    fleet = Fleet(monkeypatch, FAST)
    memory = TrialMemory(tmp_path / "cache" / "trials.json")
    first = choose(identity_bundle, memory)
    opened = len(fleet.opened)
    again = choose(identity_bundle, memory)
    assert again.remembered
    assert len(fleet.opened) == opened
    assert (again.runtime, again.contexts, again.seconds_per_tile) == (
        first.runtime, first.contexts, first.seconds_per_tile
    )  # fmt: skip
    for path, other in (
        (identity_bundle, {"tile_shape": (64, 64)}), (identity_bundle, {"batch": 2}), (identity_bundle, {"threads": 2}),
        (identity_bundle, {"runtime": "onnxruntime"}), (strided_bundle, {}),
    ):  # fmt: skip
        assert not choose(path, memory, **other).remembered
    monkeypatch.setattr(trial_module, "installed_runtimes", lambda: {"onnxruntime": "1.1", "openvino": "2"})
    assert not choose(identity_bundle, memory).remembered
    monkeypatch.setattr(trial_module, "processor_name", lambda: "another")
    assert not choose(identity_bundle, memory).remembered
    assert [path.name for path in memory.path.parent.iterdir()] == ["trials.json"]


def test_what_a_busy_machine_showed_is_not_remembered(identity_bundle, tmp_path, monkeypatch):
    """The choice is used, it says why it is not kept, and the next run tries again."""
    fleet = Fleet(monkeypatch, FAST)
    fleet.others_busy = True
    memory = TrialMemory(tmp_path / "trials.json")
    assert "other programs" in choose(identity_bundle, memory).reason
    opened = len(fleet.opened)
    assert not choose(identity_bundle, memory).remembered
    assert len(fleet.opened) > opened


def test_little_work_is_done_without_a_trial(identity_bundle, tmp_path, monkeypatch):
    """Nothing is loaded to try it, unless an earlier trial is remembered."""
    fleet = Fleet(monkeypatch, FAST)
    bundle = open_bundle(identity_bundle)
    options = {"tile_shape": (64, 48), "batch": 1, "threads": 4, "memory": TrialMemory(tmp_path / "trials.json")}
    choice = chosen_runtime(bundle, "fp32", **options, tiles=3)
    assert (choice.runtime, choice.contexts, choice.threads) == ("openvino", 1, 4)
    assert not fleet.opened
    tried = chosen_runtime(bundle, "fp32", **options, tiles=300)
    remembered = chosen_runtime(bundle, "fp32", **options, tiles=3)
    assert remembered.remembered
    assert (remembered.runtime, remembered.contexts) == (tried.runtime, tried.contexts)


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"format": "other", "trials": []}', '{"format": "sennet trials 1", "trials": [1]}', "\udcff"],
)
def test_a_damaged_memory_is_ignored_with_a_word(identity_bundle, tmp_path, monkeypatch, caplog, content):
    """The trial is made again, and the file is whole afterwards."""
    Fleet(monkeypatch, FAST)
    memory = TrialMemory(tmp_path / "trials.json")
    memory.path.write_bytes(content.encode(errors="surrogateescape"))
    with caplog.at_level(logging.WARNING):
        assert not choose(identity_bundle, memory, runtime="onnxruntime").remembered
    assert "holds no trials" in caplog.text
    assert choose(identity_bundle, memory, runtime="onnxruntime").remembered


def test_what_was_remembered_is_used_only_where_it_can_be(identity_bundle, tmp_path, monkeypatch):
    """A file that somebody changed does not bring up a runtime, or threads, that were never asked for."""
    Fleet(monkeypatch, FAST)
    memory = TrialMemory(tmp_path / "trials.json")
    choose(identity_bundle, memory, runtime="onnxruntime")
    table = json.loads(memory.path.read_text())
    for wrong in ({"runtime": "abacus"}, {"contexts": 64}, {"threads": 0}, {"unknown": 1}):
        changed = json.loads(json.dumps(table))
        changed["trials"][0]["found"] |= wrong
        memory.path.write_text(json.dumps(changed))
        assert not choose(identity_bundle, memory, runtime="onnxruntime").remembered


def test_a_folder_that_cannot_be_written_costs_the_memory_alone(identity_bundle, tmp_path, monkeypatch, caplog):
    """The choice is made; a warning says that it will be made again."""
    Fleet(monkeypatch, FAST)
    (tmp_path / "file").write_text("")
    choice = choose(identity_bundle, TrialMemory(tmp_path / "file" / "trials.json"), runtime="onnxruntime")
    assert choice.runtime == "onnxruntime"
    assert "not remembered" in caplog.text


def test_a_runtime_that_cannot_load_the_model_is_left_out_with_its_reason(identity_bundle, monkeypatch, caplog):
    """Nothing falls back silently; where none can, the first error is raised."""
    Fleet(monkeypatch, FAST, broken={"onnxruntime"})
    assert choose(identity_bundle).runtime == "openvino"
    assert "onnxruntime 1 x 4 is left out: onnxruntime cannot load it" in caplog.text
    Fleet(monkeypatch, FAST, broken={"onnxruntime", "openvino"})
    with pytest.raises(ModelError, match="onnxruntime cannot load it"):
        choose(identity_bundle)
    monkeypatch.setattr(trial_module, "installed_runtimes", dict)
    with pytest.raises(MissingExtraError, match=r"sennet\[cpu\]"):
        choose(identity_bundle)


def test_contexts_are_tried_only_as_far_as_memory_goes(identity_bundle, monkeypatch):
    """Two contexts take twice what one took."""
    fleet = Fleet(monkeypatch, FAST)
    held = iter(range(0, 10**9, 1000))
    monkeypatch.setattr(trial_module, "resident_bytes", lambda: next(held))
    choose(identity_bundle, runtime="onnxruntime", workspace_bytes=1999)
    assert fleet.opened == [("onnxruntime", 1, 4)]
    choose(identity_bundle, runtime="onnxruntime", workspace_bytes=2000)
    assert ("onnxruntime", 2, 2) in fleet.opened


@pytest.mark.parametrize(
    ("threads", "expected"),
    [
        (1, [(1, 1)]), (2, [(1, 2), (2, 1)]), (6, [(1, 6), (2, 3), (6, 1)]), (7, [(1, 7), (7, 1)]),
        (16, [(1, 16), (2, 8), (4, 4), (8, 2), (16, 1)]),
    ],
)  # fmt: skip
def test_threads_are_split_without_leaving_many_idle(threads, expected):
    """(contexts, threads of each)."""
    assert list(splits(threads)) == expected


def test_real_runtimes_are_tried(strided_bundle):
    """The choice opens, and computes."""
    choice = choose(strided_bundle, threads=2)
    assert choice.contexts * choice.threads == 2
    with trial_module.open_predictor(
        open_bundle(strided_bundle), runtime=choice.runtime, threads=choice.threads, contexts=choice.contexts
    ) as predictor:
        assert predictor.predict(np.zeros((1, 1, 64, 48), np.uint8)).shape == (1, 1, 64, 48)
