"""`sennet-train` as a person types it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sennet_trainer.checkpoint import read_progress

CONFIG = """
name = "tiny"
voxel_size_um = 50.0
[network]
encoder = "resnet18"
encoder_depth = 3
decoder_options = { decoder_channels = [16, 8, 8] }
[[volumes]]
images = "tubes/train.tif"
labels = "tubes/train_labels.tif"
axes = "z"
[[volumes]]
images = "tubes/validation.tif"
labels = "tubes/validation_labels.tif"
axes = "z"
role = "validation"
[crops]
side = 64
per_epoch = 8
[training]
epochs = EPOCHS
batch = 4
"""


@pytest.fixture
def config(tubes: Path, tmp_path: Path) -> Path:
    """A settings file of two epochs beside the tubes."""
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.replace("EPOCHS", "2"))
    return path


def test_fit_leaves_a_run_and_then_says_that_it_is_complete(
    command: Callable[..., Any], config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default the run is in runs/NAME; a second fit exits with 0."""
    monkeypatch.chdir(tmp_path)
    first = command("sennet-train", "fit", config, "--device", "cpu")
    assert first.code == 0, first.err
    assert "epoch   2" in first.err
    names = {path.name for path in (tmp_path / "runs/tiny").iterdir()}
    files = {"run.json", "checkpoint.safetensors", "network.safetensors", "metrics.csv", "curve.png", "cache"}
    assert names == files | {".lock"}
    again = command("sennet-train", "fit", config, "--device", "cpu")
    assert again.code == 0
    assert "complete already" in again.out


def test_unknown_key_is_one_clear_line(command: Callable[..., Any], config: Path, tmp_path: Path) -> None:
    """Exit code 2, the nearest known key, and no run folder."""
    config.write_text(config.read_text().replace("per_epoch", "per_epok"))
    ran = command("sennet-train", "fit", config, "--out", tmp_path / "run")
    assert ran.code == 2
    assert "did you mean 'per_epoch'" in ran.err
    assert "Traceback" not in ran.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_interrupt_says_where_it_goes_on(config: Path, tmp_path: Path, workers: int) -> None:
    """Ctrl-C, which reaches all processes of a terminal, ends with 130 and the epoch after that of the checkpoint."""
    text = CONFIG.replace("EPOCHS", "2000").replace("per_epoch = 8", "per_epoch = 400")
    config.write_text(text.replace("batch = 4", f"batch = 100\nworkers = {workers}"))
    arguments = ["fit", str(config), "--out", str(tmp_path / "run"), "--device", "cpu", "--overwrite"]
    script = "import sys; from sennet_trainer.cli import main; sys.argv[0] = 'sennet-train'; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    metrics = tmp_path / "run" / "metrics.csv"
    give_up = time.monotonic() + 120
    while not metrics.exists() and time.monotonic() < give_up and process.poll() is None:
        time.sleep(0.1)
    time.sleep(0.5)  # into the next epoch, when its workers are busy
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    done = read_progress(tmp_path / "run" / "checkpoint.safetensors").epochs
    assert f"the same command without --overwrite goes on from epoch {done + 1} of 2000" in err
    assert "Traceback" not in err


def test_crops_draws_a_sheet(command: Callable[..., Any], config: Path, tmp_path: Path) -> None:
    """Two strips of six crops each for twelve crops, each bare and outlined, in colour."""
    ran = command("sennet-train", "crops", config, "--out", tmp_path / "sheet.png", "--count", 12)
    assert ran.code == 0, ran.err
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (6 * 68, 4 * 68)
        colours = sheet.convert("RGB").getcolors(maxcolors=1 << 20)
    assert any(colour == (255, 60, 60) for _, colour in colours)
