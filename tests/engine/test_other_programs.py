"""Other programs at work are noticed; this one is not among them."""

import os
import subprocess
import sys
import time

import pytest

from sennet_engine import other_programs
from sennet_engine.other_programs import OtherPrograms

SPIN = "import time; end = time.perf_counter() + 1.5\nwhile time.perf_counter() < end: pass"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the times are read from /proc")
def test_a_program_that_computes_is_noticed(monkeypatch):
    """A child that spins uses a processor of the machine."""
    monkeypatch.setattr(other_programs.os, "cpu_count", lambda: 1)
    watch = OtherPrograms()
    subprocess.run([sys.executable, "-c", SPIN], check=True)
    assert watch.were_busy()


def test_own_work_is_not_that_of_others(tmp_path, monkeypatch):
    """On a machine with one processor, all of whose time was this process's own."""
    monkeypatch.setattr(other_programs.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(other_programs, "TIMES", tmp_path / "stat")

    def write_times():
        own = os.times()
        ticks = (own.user + own.system) * os.sysconf("SC_CLK_TCK")
        other_programs.TIMES.write_text(f"cpu {round(ticks)} 0 0 0\n")

    write_times()
    watch = OtherPrograms()
    end = time.perf_counter() + 0.3
    while time.perf_counter() < end:
        pass
    write_times()
    assert not watch.were_busy()


def test_nobody_is_busy_where_the_system_does_not_tell(tmp_path, monkeypatch):
    """Without the file of processor times."""
    monkeypatch.setattr(other_programs, "TIMES", tmp_path / "none")
    assert not OtherPrograms().were_busy()
