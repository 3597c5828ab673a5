"""What ends a build before its time: the engine is not there, and nothing else goes with it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sennet_engine.errors import ModelError

from .conftest import attention, files


def test_a_builder_that_breaks_off_is_an_error_and_nothing_more(build, tmp_path, monkeypatch):
    """Killed as by a system without memory, or crashed: this process lives on, and nothing is left."""
    processes = []

    class Watched(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            processes.append(self)

    monkeypatch.setattr(subprocess, "Popen", Watched)
    for number, words in ((signal.SIGKILL, "want of memory"), (signal.SIGSEGV, "broke off with code -11")):
        with pytest.raises(ModelError, match=words):
            build(
                attention(blocks=100), sides=(32,),
                on_progress=lambda *_, number=number: processes[-1].send_signal(number),
            )  # fmt: skip
    assert files(tmp_path) == ["model.fp16.onnx"]


@pytest.fixture
def building(tmp_path):
    """A process in the middle of a build that takes half a minute, and the process id of the builder itself."""
    (tmp_path / "model.fp16.onnx").write_bytes(attention(blocks=400))
    script = f"""
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
from sennet_engine.tensorrt.build.builder import build_engine
from sennet_engine.tensorrt.build.settings import BuildSettings
folder = Path({str(tmp_path)!r})
try:
    build_engine(
        folder / "model.fp16.onnx", folder, target="rtx", settings=BuildSettings(precision="fp16", sides=(32,)),
        on_progress=lambda phase, done, total: print(phase, flush=True),
    )
finally:
    print("ended", time.monotonic(), flush=True)
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout.readline()
        child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        time.sleep(1)
        yield process, child
        process.kill()


def is_gone(process_id):
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_a_build_at_once(building, tmp_path, number, code):
    """A real signal in the middle of a build: it is over within a second or two, and nothing is left."""
    process, child = building
    start = time.monotonic()
    process.send_signal(number)
    rest = process.stdout.read()
    assert process.wait() == code
    assert float(rest.split("ended")[1]) - start < 3
    assert is_gone(child)
    assert files(tmp_path) == ["model.fp16.onnx"]


def test_a_builder_does_not_outlive_who_asked_for_it(building):
    """After a SIGKILL of the asking process nobody could end the building one; it ends by itself."""
    process, child = building
    process.kill()
    process.wait()
    deadline = time.monotonic() + 5
    while not is_gone(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert is_gone(child)
