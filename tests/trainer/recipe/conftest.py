"""A small recipe with its volumes, and what its tests ask of a run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tifffile

from ..conftest import tubes_zyx

RECIPE = """
name = "small"
seed = 3
voxel_size_um = 50.0
[volumes.dense]
images = "dense.tif"
labels = "dense_labels.tif"
axes = "z"
[volumes.sparse]
images = "sparse.tif"
labels = "sparse_labels.tif"
label_fraction = 0.85
axes = "z"
[volumes.test]
images = "test.tif"
labels = "test_labels.tif"
axes = "z"
[networks.tiny]
encoder = "resnet18"
encoder_depth = 3
decoder_options = { decoder_channels = [16, 8, 8] }
[crops]
side = 64
per_epoch = 16
[training]
epochs = 2
batch = 4
learning_rate = 3e-3
threads = 1
[validation]
threshold_without = 0.2
[[stages]]
kind = "fit"
name = "first"
network = "tiny"
volumes = ["dense"]
[[stages]]
kind = "pseudo_label"
name = "label"
volume = "sparse"
networks = ["first"]
thresholds = [0.5]
axes = "zy"
[[stages]]
kind = "fit"
name = "second"
network = "tiny"
start_from = "first"
volumes = ["dense", "label"]
training = { epochs = 1 }
[[stages]]
kind = "evaluate"
name = "score"
volume = "test"
networks = ["first", "second"]
"""


Command = Callable[..., object]


@pytest.fixture
def kidneys(tmp_path: Path) -> Path:
    """Three small volumes, one of them sparsely labelled, and recipe.toml beside them."""
    folder = tmp_path / "kidneys"
    folder.mkdir()
    for seed, name in enumerate(("dense", "sparse", "test")):
        grey, labels = tubes_zyx(seed, (64, 96, 96))
        if name == "sparse":
            labels[:, :40] = 0
        tifffile.imwrite(folder / f"{name}.tif", grey, photometric="minisblack")
        tifffile.imwrite(folder / f"{name}_labels.tif", labels, photometric="minisblack")
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def stages_run(err: str) -> list[str]:
    """The stages of which the command says that they were at work."""
    lines = [line.split("  ", 1)[1] for line in err.splitlines() if line[2:3] == ":" and "  " in line]
    return [line.split(":")[0] for line in lines if "done already" not in line]


def network_of(run: Path, stage: str) -> bytes:
    return (run / "stages" / stage / "network.safetensors").read_bytes()


def started(kidneys: Path, run: Path) -> subprocess.Popen[bytes]:
    code = "from sennet_trainer.cli import main; main()"
    arguments = [sys.executable, "-c", code, "run", str(kidneys / "recipe.toml"), "--out", str(run), "--quiet"]
    return subprocess.Popen(arguments, env={**os.environ, "OMP_NUM_THREADS": "1"})


def killed_when(exists: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Kill the process as soon as `exists`, so hard that it cannot tidy up."""
    deadline = time.monotonic() + 120
    while not exists():
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
