"""Recipes that are killed, moved, or run by two processes."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .conftest import Command, killed_when, network_of, started


@pytest.mark.slow
def test_an_interrupted_training_goes_on_after_its_data_were_moved(
    command: Command, kidneys: Path, tmp_path: Path
) -> None:
    """Its files lie elsewhere and are of another date; their content is the same, and so are the weights."""
    whole, run = tmp_path / "whole", tmp_path / "killed"
    assert command("sennet-train", "run", kidneys / "recipe.toml", "--out", whole).code == 0
    killed_when((run / "stages" / "first" / "checkpoint.safetensors").exists, started(kidneys, run))
    moved = tmp_path / "moved"
    shutil.copytree(kidneys, moved, copy_function=shutil.copy)
    shutil.rmtree(kidneys)
    ran = command("sennet-train", "run", moved / "recipe.toml", "--out", run)
    assert ran.code == 0, ran.err
    assert network_of(run, "second") == network_of(whole, "second")


@pytest.mark.slow
def test_a_killed_recipe_goes_on_to_the_same_weights(command: Command, kidneys: Path, tmp_path: Path) -> None:
    """SIGKILL in a training and in the stage after it: the same command ends with the bytes of an untouched run."""
    whole, run = tmp_path / "whole", tmp_path / "killed"
    assert command("sennet-train", "run", kidneys / "recipe.toml", "--out", whole).code == 0
    killed_when((run / "stages" / "first" / "checkpoint.safetensors").exists, started(kidneys, run))
    killed_when((run / "stages" / "label" / "stage.json").exists, started(kidneys, run))
    ran = command("sennet-train", "run", kidneys / "recipe.toml", "--out", run)
    assert ran.code == 0, ran.err
    for stage in ("first", "second"):
        assert network_of(run, stage) == network_of(whole, stage)
    for file in ("labels_0.500.tif", "probability/sums.npy"):
        assert (run / "stages" / "label" / file).read_bytes() == (whole / "stages" / "label" / file).read_bytes()


def test_two_processes_never_work_in_one_folder(command: Command, kidneys: Path, tmp_path: Path) -> None:
    """The second one says so and leaves."""
    run = tmp_path / "run"
    process = started(kidneys, run)
    try:
        while not (run / "stages").exists():
            time.sleep(0.01)
        ran = command("sennet-train", "run", kidneys / "recipe.toml", "--out", run)
    finally:
        process.kill()
        process.wait()
    assert ran.code == 2
    assert "another process is at work there" in ran.err


def test_two_processes_run_one_recipe(kidneys: Path, tmp_path: Path) -> None:
    """They train together; what is not training is done once, by the main one, and said once."""
    run, arguments = tmp_path / "run", ["run", str(kidneys / "recipe.toml"), "--device", "cpu", "--quiet"]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
    code = "from sennet_trainer.cli import main; main()"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, *arguments, "--out", str(run)],
            env={**os.environ, **address, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
            | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "all complete" in said[0]
    assert said[1] == ""
    for name in ("first", "label", "second", "score"):
        assert json.loads((run / "stages" / name / "stage.json").read_text())["complete"]
