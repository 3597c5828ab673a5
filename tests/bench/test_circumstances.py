"""Under which circumstances something was measured: what the machine was, gave, and did beside it."""

import json
import os
import sys
from dataclasses import asdict

import pytest
from pydantic import TypeAdapter

from sennet_bench import circumstances as module
from sennet_bench.circumstances import Circumstances, Watch, matrix_gflops

TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's counters are read from /proc")


def write_times(path, *, busy, idle, stolen=0.0):
    """/proc/stat of a machine that did so much so far, in seconds over all processors."""
    fields = [busy, 0, 0, idle, 0, 0, 0, stolen, 0, 0]
    path.write_text(f"cpu  {' '.join(str(int(one * TICKS)) for one in fields)}\ncpu0 1 2 3 4\n")


@ON_LINUX
@pytest.mark.parametrize(("own", "stolen", "share"), [(6.0, 0.0, 0.1), (8.0, 0.0, 0.0), (6.0, 2.0, 0.2)])
def test_what_others_took_is_what_was_busy_without_us(tmp_path, monkeypatch, own, stolen, share):
    """Of 20 seconds, 8 were busy: what this process and its children did not use is of others, and what was stolen."""
    counters = tmp_path / "stat"
    monkeypatch.setattr(module, "PROCESSOR_TIMES", counters)
    used = [1.0, 0.0, 2.0, 0.0, 99.0]
    monkeypatch.setattr(os, "times", lambda: tuple(used))
    write_times(counters, busy=100, idle=300)
    watch = Watch()
    used[0] += own / 2
    used[2] += own / 2  # of children that ended
    write_times(counters, busy=108, idle=312 - stolen, stolen=stolen)
    assert watch.circumstances().others_share == pytest.approx(share, abs=0.001)


def test_without_the_kernels_counters_nothing_is_claimed(tmp_path, monkeypatch):
    """Other systems have none."""
    monkeypatch.setattr(module, "PROCESSOR_TIMES", tmp_path / "none")
    found = Watch().circumstances()
    assert found.others_share is None
    assert "others took" not in str(found)


def test_the_machine_is_measured_before_and_after():
    """Two figures, above what any processor of this century gives and below any that there is."""
    found = Watch().circumstances()
    assert len(found.matrix_gflops) == 2
    assert all(0.5 < one < 1e6 for one in [*found.matrix_gflops, matrix_gflops()])
    assert "GFLOP/s in matrix products before and after" in str(found)


def test_files_of_before_are_still_read():
    """A file that tells less has the others open."""
    told = asdict(Watch().circumstances())
    for name in ("memory_gb", "gpus", "matrix_gflops", "others_share"):
        del told[name]
    found = TypeAdapter(Circumstances).validate_json(json.dumps(told))
    assert found.matrix_gflops == []
    assert found.others_share is None
    assert "GFLOP" not in str(found)
