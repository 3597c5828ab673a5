"""`sennet-export` interrupted in the middle of a build: the bundle that it writes into is as it was."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sennet_engine.bundle import BUILTIN

EXPORT = shutil.which("sennet-export", path=str(Path(sys.executable).parent))


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow), (signal.SIGKILL, -9)],
)
def test_an_interrupt_in_the_middle_of_a_build_loses_nothing(tmp_path, number, code):
    """The bundle keeps its bytes; what was begun is gone, but for the hidden folder that a SIGKILL leaves."""
    bundle = tmp_path / "own.model"
    shutil.copytree(BUILTIN, bundle)
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    command = [EXPORT, bundle, "--target", "rtx", "--tile", "320", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        give_up = time.monotonic() + 120
        while not list(tmp_path.glob(".own.model.*/.engine-*/")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < give_up
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    left = [path.name for path in tmp_path.iterdir() if path != bundle]
    assert len(left) == (number == signal.SIGKILL)
