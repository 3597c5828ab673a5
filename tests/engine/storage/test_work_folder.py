"""Work folders: an interrupted run goes on, nothing is counted twice, and nobody's data is lost."""

import json
import logging
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest

from sennet_engine.errors import ConfigError, OutputError
from sennet_engine.storage import work_folder as module
from sennet_engine.storage.output_folder import FolderKind, output_folder
from sennet_engine.storage.work_folder import interrupted_facts, work_folder

FACTS = {"threshold_milli": 200, "window": [3, 250], "models": {"a": "sha-a", "b": "sha-b"}, "voxel_size_um": None}


class Interrupted(BaseException):
    """As KeyboardInterrupt is: no Exception."""


def enter(out, facts=FACTS, *, units=4, resume=False, discard=False):
    """The context manager of one run."""
    return work_folder(out, facts, units=units, resume=resume, discard=discard)


def interrupted(out, *units, facts=FACTS, **how):
    """A run that ends in an exception after `units`; the folder that it left, or would have."""
    with pytest.raises(Interrupted), enter(out, facts, **how) as work:  # noqa: PT012
        for unit in units:
            (work.path / unit).write_text("data")
            work.journal.mark_done(unit)
        raise Interrupted
    return work.path


def contents(folder):
    """Names in `folder`."""
    return sorted(path.name for path in folder.iterdir())


def test_it_lies_hidden_beside_the_result_and_goes_at_the_end(tmp_path):
    """With parents that it made, unless the result lies there too."""
    out = tmp_path / "deep" / "scan.sennet"
    with enter(out) as work:
        assert work.path == tmp_path / "deep" / ".scan.sennet.work"
        assert json.loads((work.path / "plan.json").read_text())["facts"] == FACTS
        work.journal.mark_done("z 0")
        out.mkdir()
    assert contents(tmp_path / "deep") == ["scan.sennet"]


def test_an_interrupted_run_goes_on(tmp_path):
    """What it finished is there, and the order of the facts does not matter."""
    path = interrupted(tmp_path / "out", "z0", "z1")
    facts = json.loads(json.dumps(FACTS, sort_keys=True))
    interrupted(tmp_path / "out", "z2", facts=facts, resume=True)
    with enter(tmp_path / "out", resume=True) as work:
        assert work.journal.done == {"z0", "z1", "z2"}
        assert (path / "z1").read_text() == "data"
        with pytest.raises(OutputError, match="another run is at work"):
            enter(tmp_path / "out", resume=True).__enter__()
    assert contents(tmp_path) == []


def test_the_facts_of_an_interrupted_run_can_be_read(tmp_path):
    """By who goes on with it; there are none before it, after it, or of another version."""
    assert interrupted_facts(tmp_path / "out") == {}
    path = interrupted(tmp_path / "out", "z0")
    assert interrupted_facts(tmp_path / "out") == FACTS
    plan = json.loads((path / "plan.json").read_text())
    (path / "plan.json").write_text(json.dumps(plan | {"version": 1}))
    assert interrupted_facts(tmp_path / "out") == {}
    (path / "plan.json").write_text("{")
    with pytest.raises(OutputError, match="does not tell what was done"):
        interrupted_facts(tmp_path / "out")


def test_a_run_that_finished_nothing_leaves_nothing(tmp_path):
    """Nor parents; but what an earlier run finished stays."""
    interrupted(tmp_path / "deep" / "deeper" / "out")
    assert contents(tmp_path) == []
    path = interrupted(tmp_path / "out", "z0")
    interrupted(tmp_path / "out", resume=True)
    assert (path / "z0").exists()


def test_an_interruption_says_what_is_kept(tmp_path, caplog):
    """And how to go on."""
    interrupted(tmp_path / "out", "z0", "z1")
    assert f"2 of 4 parts are done and kept in {tmp_path / '.out.work'}; go on with --resume" in caplog.text


def test_a_run_that_says_nothing_of_an_interrupted_one_is_refused(tmp_path):
    """It is told how much is done, and nothing is touched."""
    path = interrupted(tmp_path / "out", "z0", "z1")
    with pytest.raises(OutputError, match=r"2 of 4 parts done; go on with --resume, or start anew with --overwrite"):
        enter(tmp_path / "out").__enter__()
    assert contents(path) == ["journal", "lock", "plan.json", "z0", "z1"]


def test_starting_anew_discards_what_was_done(tmp_path):
    """Even where the plan was another."""
    interrupted(tmp_path / "out", "z0")
    with enter(tmp_path / "out", {"threshold_milli": 300}, discard=True) as work:
        assert work.journal.done == frozenset()
        assert contents(work.path) == ["journal", "lock", "plan.json"]
        assert contents(tmp_path) == [".out.work"]


def test_a_script_may_always_ask_to_resume(tmp_path, caplog):
    """With nothing to go on with, the run starts anew and says so."""
    caplog.set_level(logging.INFO)
    with enter(tmp_path / "out", resume=True) as work:
        assert work.journal.done == frozenset()
    assert "starts anew" in caplog.text


def test_resuming_wins_over_starting_anew(tmp_path):
    """`--resume --overwrite` replaces a result, not the work towards one; nor is work of another plan lost by it."""
    path = interrupted(tmp_path / "out", "z0")
    with pytest.raises(ConfigError):
        enter(tmp_path / "out", FACTS | {"threshold_milli": 300}, resume=True, discard=True).__enter__()
    assert (path / "z0").exists()
    with enter(tmp_path / "out", resume=True, discard=True) as work:
        assert work.journal.is_done("z0")


def test_other_facts_are_refused_by_name(tmp_path):
    """With the value that was stored and the present one, be they nested, new, or gone."""
    path = interrupted(tmp_path / "out", "z0")
    facts = {"threshold_milli": 300, "window": [3, 250], "models": {"a": "sha-a", "b": "sha-c"}, "slices": "é" * 999}
    with pytest.raises(ConfigError) as refused:
        enter(tmp_path / "out", facts, resume=True).__enter__()
    message = str(refused.value)
    assert "threshold_milli was 200, is 300" in message
    assert 'models.b was "sha-b", is "sha-c"' in message
    assert "voxel_size_um was null, is not given" in message
    assert 'slices was not given, is "éééé' in message
    assert "window" not in message
    assert len(message) < 500 + len(str(tmp_path))
    assert "start anew with --overwrite" in message
    assert (path / "z0").exists()


def test_of_many_facts_a_few_are_named(tmp_path):
    """Lest nobody reads them."""
    interrupted(tmp_path / "out", "z0", facts={f"fact {number}": 0 for number in range(9)})
    with pytest.raises(ConfigError, match="fact 3 was 0, is 1; and 5 more"):
        enter(tmp_path / "out", {f"fact {number}": 1 for number in range(9)}, resume=True).__enter__()


def test_a_run_that_was_killed_before_it_finished_anything_is_replaced(tmp_path):
    """Nothing is lost by it, so nobody is asked; not even for the same plan."""
    with killed_within(tmp_path / "out"):
        pass
    assert contents(tmp_path) == [".out.work"]
    for resume in (False, True):
        with enter(tmp_path / "out", {"other": 1}, resume=resume) as work:
            assert json.loads((work.path / "plan.json").read_text())["facts"] == {"other": 1}
    assert contents(tmp_path) == []


@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_not_ours_is_not_touched(tmp_path, kind, discard):
    """A file, a folder without a plan, or a link at the hidden name."""
    path = tmp_path / ".out.work"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
        (path / "notes.txt").write_text("mine")
    else:
        interrupted(tmp_path / "other", "z0").rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    before = contents(tmp_path)
    for resume in (False, True):
        with pytest.raises(OutputError, match="no work folder of this command; move it away"):
            enter(tmp_path / "out", resume=resume, discard=discard).__enter__()
    assert contents(tmp_path) == before
    assert kind != "folder" or contents(path) == ["notes.txt"]


@pytest.mark.parametrize("plan", ["", "[]", "{}", '{"format": "sennet work folder", "version": 2}'])
def test_a_damaged_plan_is_an_error_that_keeps_the_folder(tmp_path, plan):
    """It cannot be told whose it is."""
    path = interrupted(tmp_path / "out", "z0")
    (path / "plan.json").write_text(plan)
    for how in ({"resume": True}, {"discard": True}, {}):
        with pytest.raises(OutputError, match="delete the folder if"):
            enter(tmp_path / "out", **how).__enter__()
    assert (path / "z0").exists()


def test_work_of_another_version_is_not_resumed(tmp_path):
    """But it may be discarded."""
    path = interrupted(tmp_path / "out", "z0")
    plan = json.loads((path / "plan.json").read_text())
    (path / "plan.json").write_text(json.dumps({"format": plan["format"], "version": 3, "stages": []}))
    for resume in (False, True):
        with pytest.raises(OutputError, match=r"another version .*\(format 3, expected 2\)"):
            enter(tmp_path / "out", resume=resume).__enter__()
    with enter(tmp_path / "out", discard=True) as work:
        assert work.journal.done == frozenset()


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    """That names it; parents that were made go again."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another place"):
        enter(tmp_path / "file" / "out").__enter__()


def test_the_result_appears_beside_it_without_a_warning(tmp_path, caplog):
    """What is kept for a resume is no litter; a result that cannot take its place leaves the work where it is."""
    kind = FolderKind(marker="summary.json", others=())
    interrupted(tmp_path / "out", "z0")
    caplog.clear()
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="exists already"), enter(tmp_path / "out", resume=True):  # noqa: SIM117
        with output_folder(tmp_path / "out", kind, overwrite=False):
            pass
    assert "kept" in caplog.text
    (tmp_path / "out").rmdir()
    caplog.clear()
    with enter(tmp_path / "out", resume=True) as work, output_folder(tmp_path / "out", kind, overwrite=False) as folder:
        assert work.journal.is_done("z0")
        (folder / "summary.json").write_text("")
    assert caplog.text == ""
    assert contents(tmp_path) == ["out"]


def test_a_system_without_locks_is_said_to_have_none(tmp_path, monkeypatch, caplog):
    """The run goes on."""
    monkeypatch.setattr(module, "fcntl", None)
    with enter(tmp_path / "out"):
        assert "cannot be locked" in caplog.text


def test_a_disk_without_locks_is_said_to_have_none(tmp_path, monkeypatch, caplog):
    """As network disks can be."""

    def not_supported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(module.fcntl, "flock", not_supported)
    with enter(tmp_path / "out"):
        assert "cannot be locked (Operation not supported)" in caplog.text


HOLDS = """
import sys
from pathlib import Path
from sennet_engine.storage.work_folder import interrupted_facts, work_folder
with work_folder(Path(sys.argv[1]), {"fact": 1}, units=3, resume=True, discard=False) as work:
    for unit in sys.argv[2:]:
        work.journal.mark_done(unit)
    print("in", flush=True)
    sys.stdin.read()
"""


@contextmanager
def killed_within(out, *units):
    """Another process is in its work folder, with `units` done; it is killed in the end."""
    command = [sys.executable, "-c", HOLDS, str(out), *units]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "in\n"
        yield
        process.kill()


def test_two_processes_are_never_in_one_folder(tmp_path):
    """The second is refused whatever it asks for; when the first is killed its lock is gone and its work is there."""
    with killed_within(tmp_path / "out", "z0"):
        for how in ({}, {"resume": True}, {"discard": True}):
            with pytest.raises(OutputError, match="another run is at work there"):
                enter(tmp_path / "out", {"fact": 1}, **how).__enter__()
        with enter(tmp_path / "other", {"fact": 1}):
            pass
    with enter(tmp_path / "out", {"fact": 1}, resume=True) as work:
        assert work.journal.done == {"z0"}


def test_a_lock_of_a_folder_that_has_gone_is_none(tmp_path, monkeypatch):
    """A run may end between the moments in which another finds its folder and locks it."""
    path = interrupted(tmp_path / "out", "z0")
    flock = module.fcntl.flock

    def after_the_other_has_ended(descriptor, how):
        path.rename(tmp_path / "going")
        flock(descriptor, how)

    monkeypatch.setattr(module.fcntl, "flock", after_the_other_has_ended)
    with pytest.raises(OutputError, match="another run is at work"):
        enter(tmp_path / "out", resume=True).__enter__()


def test_a_run_may_begin_while_another_is_removed(tmp_path, monkeypatch):
    """What is half gone has another name already."""
    remove = module.shutil.rmtree
    second = enter(tmp_path / "out")

    def while_another_begins(path, **how):
        monkeypatch.setattr(module.shutil, "rmtree", remove)
        second.__enter__()
        remove(path, **how)

    with enter(tmp_path / "out"):
        monkeypatch.setattr(module.shutil, "rmtree", while_another_begins)
    assert contents(tmp_path / ".out.work") == ["journal", "lock", "plan.json"]
    second.__exit__(None, None, None)
    assert contents(tmp_path) == []


def test_two_runs_that_begin_at_once_do_not_share_a_folder(tmp_path, monkeypatch):
    """Whose folder stands first has it."""
    write = module.write_durably
    first = enter(tmp_path / "out")

    def while_the_other_begins(path, data):
        monkeypatch.setattr(module, "write_durably", write)
        first.__enter__()
        write(path, data)

    monkeypatch.setattr(module, "write_durably", while_the_other_begins)
    with pytest.raises(OutputError, match="another run has just begun"):
        enter(tmp_path / "out").__enter__()
    assert contents(tmp_path) == [".out.work"]
    first.__exit__(None, None, None)
    assert contents(tmp_path) == []


UNITS, SHAPE = 32, (256, 48, 40)
RUN = """
import sys
from pathlib import Path
import numpy as np
from sennet_engine.storage.bricks import BrickFile
from sennet_engine.storage.output_folder import FolderKind, output_folder
from sennet_engine.storage.work_folder import interrupted_facts, work_folder

out, units, shape = Path(sys.argv[1]), int(sys.argv[2]), tuple(map(int, sys.argv[3].split(",")))
with work_folder(out, {"fact": 1}, units=units, resume=True, discard=False) as work:
    sums = work.path / "sums"
    with BrickFile.open(sums) if sums.exists() else BrickFile.create(sums, shape, "uint16", 8) as file:
        for unit in range(units):
            if work.journal.is_done(str(unit)):
                continue
            sys.stdin.readline()  # a unit is begun when it is asked for
            print(unit, flush=True)
            values = np.random.default_rng(unit).integers(0, 65536, (8, *shape[1:]), dtype=np.uint16)
            file.write_planes("z", 8 * unit, values + np.uint16(1))  # as if another plan had been here
            file.write_planes("z", 8 * unit, values * np.uint16(unit % 5 > 0))
            file.sync()
            work.journal.mark_done(str(unit))
        with output_folder(out, FolderKind("result.npy", ()), overwrite=False) as folder:
            np.save(folder / "result.npy", file.read_planes("z", 0, shape[0]))
"""


def test_a_run_that_is_killed_again_and_again_ends_in_the_same_result(tmp_path):
    """Each kill costs the unit in hand at most."""
    command = [sys.executable, "-c", RUN, str(tmp_path / "out"), str(UNITS), ",".join(map(str, SHAPE))]
    moments = random.Random(5)
    begun, kills = [], 6
    for _ in range(kills):
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            asked = moments.randint(1, 5)
            process.stdin.write("\n" * asked)
            process.stdin.flush()
            begun += [process.stdout.readline() for _ in range(asked)]
            time.sleep(moments.uniform(0, 0.006))
            process.kill()
            begun += process.stdout.readlines()
        assert process.returncode == -signal.SIGKILL
        assert contents(tmp_path) == [".out.work"]
    rest = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True)
    begun += rest.stdout.splitlines()
    assert len(set(map(int, begun))) == UNITS <= len(begun) <= UNITS + kills
    expected = [
        np.random.default_rng(unit).integers(0, 65536, (8, *SHAPE[1:]), dtype=np.uint16) * np.uint16(unit % 5 > 0)
        for unit in range(UNITS)
    ]
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "result.npy"), np.concatenate(expected))
    assert contents(tmp_path) == ["out"]
