"""SIGKILL at random moments, again and again: a resumed run ends in the bytes of one that nobody disturbed."""

import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest

ENSEMBLE = """
threshold = 0.45
min_voxels = 20
cascade = { low_bound = 0.3 }
[[passes]]
model = "strided.model"
[[passes]]
model = "strided.model"
axes = "zyx"
tile = 48
[[passes]]
model = "pooling.model"
axes = "zx"
flips = ["rows", "both"]
scale = 1.2
"""
KILLS = 20
PROGRAM = [sys.executable, "-c", "from sennet_engine.cli.infer import main; main()"]


@pytest.fixture
def arguments(write_volume, strided_bundle, pooling_bundle):
    """A volume of noise with a bright body in it, and an ensemble with all that there is."""
    z, y, x = np.ogrid[:180, :70, :80]
    body = np.hypot(y - 35 - 10 * np.sin(z / 20), x - 40) < 22
    noise = np.random.default_rng(7).integers(0, 120, body.shape, dtype=np.uint8)
    (strided_bundle.parent / "all.toml").write_text(ENSEMBLE)
    volume = write_volume(noise + 120 * body.astype(np.uint8))
    model = strided_bundle.with_name("all.toml")
    return [*map(str, (volume, "--model", model, "--runtime", "onnxruntime", "--probability", "--rle", "--quiet"))]


def units_done(work):
    """Lines of the journal, of which the first is its head."""
    with suppress(FileNotFoundError):
        return (work / "journal").read_bytes().count(b"\n") - 1
    return 0


@pytest.mark.slow
def test_a_run_that_is_killed_at_random_moments_ends_in_the_same_bytes(tmp_path, arguments, files):
    """From the import of modules over units, sums and assembly to the end; where a run came to it, all begins anew."""
    began = time.monotonic()
    subprocess.run([*PROGRAM, *arguments, "--out", tmp_path / "undisturbed"], check=True, stdout=subprocess.DEVNULL)
    seconds, expected = time.monotonic() - began, files(tmp_path / "undisturbed")
    assert set(expected) == {"mask.tif", "probability.tif", "submission.csv", "preview.png"}
    out, work = tmp_path / "killed", tmp_path / ".killed.work"
    moments, resumed, killed = random.Random(20), [], 0
    while killed < KILLS:
        resumed.append(units_done(work))
        process = subprocess.Popen([*PROGRAM, *arguments, "--out", out, "--resume"], stdout=subprocess.DEVNULL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(0.3, 1.1) * seconds)
        process.kill()
        code = process.wait()
        assert code in (0, -signal.SIGKILL)
        killed += code < 0
        if out.exists():  # be it that the kill came after all was done
            assert files(out) == expected
            shutil.rmtree(out)
            shutil.rmtree(work, ignore_errors=True)
    subprocess.run([*PROGRAM, *arguments, "--out", out, "--resume"], check=True, stdout=subprocess.DEVNULL)
    assert files(out) == expected
    # The kills came while nothing, something and everything was done.
    assert len(set(resumed)) >= 3
