"""Recipes that run: each stage once, again when it changed, on from where it was when it was interrupted."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sennet_trainer.network import build_segmenter
from sennet_trainer.network_settings import NetworkSettings
from sennet_trainer.run_folder import load_run

from .conftest import TINY_NETWORK, tubes_zyx

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


def test_a_recipe_runs_its_stages_once(command: Command, kidneys: Path, tmp_path: Path) -> None:
    """Every stage leaves its inputs' hashes, its result and its picture; the second call finds all done."""
    run = tmp_path / "run"
    ran = command("sennet-train", "run", kidneys / "recipe.toml", "--out", run)
    assert ran.code == 0, ran.err
    assert stages_run(ran.err) == ["first", "label", "second", "score"]
    assert load_run(run / "stages" / "second").threshold.value == 0.2  # which nothing validates
    for name, picture in (("first", "curve"), ("label", "labels"), ("second", "curve"), ("score", "slices")):
        record = json.loads((run / "stages" / name / "stage.json").read_text())
        assert record["complete"]
        assert record["result"]
        assert all(len(digest) == 64 for digest in record["inputs"].values())
        assert (run / "stages" / name / f"{picture}.png").exists()
    again = command("sennet-train", "run", kidneys / "recipe.toml", "--out", run)
    assert again.code == 0, again.err
    assert stages_run(again.err) == []


def test_a_dry_run_lists_the_stages_and_writes_nothing(command: Command, kidneys: Path, tmp_path: Path) -> None:
    """With the parameters that each network will have, and the steps that it will take."""
    ran = command("sennet-train", "run", kidneys / "recipe.toml", "--out", tmp_path / "run", "--dry-run")
    assert ran.code == 0, ran.err
    assert [line.split()[:4][-1] for line in ran.out.splitlines()] == ["first", "label", "second", "score"]
    weights = sum(one.numel() for one in build_segmenter(NetworkSettings.model_validate(TINY_NETWORK)).parameters())
    assert f"({weights / 1e6:.1f} M), 64 px, 2 epochs = 8 steps of 4" in ran.out
    assert not (tmp_path / "run").exists()


def test_a_real_label_is_never_removed(command: Command, kidneys: Path, tmp_path: Path) -> None:
    """The label file holds 1 where there was a label, 2 where one was added, and the next stage trains on both."""
    run = tmp_path / "run"
    assert command("sennet-train", "run", kidneys / "recipe.toml", "--out", run).code == 0
    real = tifffile.imread(kidneys / "sparse_labels.tif")
    merged = tifffile.imread(run / "stages" / "label" / "labels_0.500.tif")
    assert np.array_equal(merged == 1, real == 1)
    assert set(np.unique(merged)) <= {0, 1, 2}


def test_a_changed_stage_runs_anew_with_all_that_builds_on_it(command: Command, kidneys: Path, tmp_path: Path) -> None:
    """Stages before it stay; its former result is kept and comes back with the former setting."""
    run, recipe = tmp_path / "run", kidneys / "recipe.toml"
    assert command("sennet-train", "run", recipe, "--out", run).code == 0
    before = network_of(run, "second")
    recipe.write_text(RECIPE.replace("training = { epochs = 1 }", "training = { epochs = 2 }"))
    ran = command("sennet-train", "run", recipe, "--out", run)
    assert stages_run(ran.err) == ["second", "score"]
    assert network_of(run, "second") != before
    recipe.write_text(RECIPE)
    ran = command("sennet-train", "run", recipe, "--out", run)
    assert stages_run(ran.err) == []
    assert network_of(run, "second") == before


def test_a_touched_volume_changes_nothing_and_a_changed_one_does(
    command: Command, kidneys: Path, tmp_path: Path
) -> None:
    """What counts is the content of a volume, not its date."""
    run, recipe = tmp_path / "run", kidneys / "recipe.toml"
    assert command("sennet-train", "run", recipe, "--out", run).code == 0
    os.utime(kidneys / "sparse.tif")
    assert stages_run(command("sennet-train", "run", recipe, "--out", run).err) == []
    labels = tifffile.imread(kidneys / "test_labels.tif")
    labels[0] = 0
    tifffile.imwrite(kidneys / "test_labels.tif", labels, photometric="minisblack")
    assert stages_run(command("sennet-train", "run", recipe, "--out", run).err) == ["score"]


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


def test_a_former_result_survives_an_interruption(command: Command, kidneys: Path, tmp_path: Path) -> None:
    """A deleted stage folder comes back from `former`, and a complete former one is never replaced by less."""
    run, recipe = tmp_path / "run", kidneys / "recipe.toml"
    assert command("sennet-train", "run", recipe, "--out", run).code == 0
    before = network_of(run, "second")
    recipe.write_text(RECIPE.replace("training = { epochs = 1 }", "training = { epochs = 2 }"))
    assert command("sennet-train", "run", recipe, "--out", run).code == 0
    shutil.rmtree(run / "stages" / "second")
    recipe.write_text(RECIPE)
    assert "second" not in stages_run(command("sennet-train", "run", recipe, "--out", run).err)
    assert network_of(run, "second") == before


def test_a_deleted_label_file_is_made_again(command: Command, kidneys: Path, tmp_path: Path) -> None:
    """Without predicting again, and to the same bytes: what was trained on it stays."""
    run, recipe = tmp_path / "run", kidneys / "recipe.toml"
    assert command("sennet-train", "run", recipe, "--out", run).code == 0
    labels = run / "stages" / "label" / "labels_0.500.tif"
    before = labels.read_bytes()
    labels.unlink()
    ran = command("sennet-train", "run", recipe, "--out", run)
    assert stages_run(ran.err) == ["label"]
    assert "predicting" not in ran.err
    assert labels.read_bytes() == before


def test_a_corrected_voxel_size_trains_anew(command: Command, kidneys: Path, tmp_path: Path) -> None:
    """It decides the magnification, wherever it is stated."""
    run, recipe = tmp_path / "run", kidneys / "recipe.toml"
    assert command("sennet-train", "run", recipe, "--out", run).code == 0
    labels = '"dense_labels.tif"\n'
    recipe.write_text(RECIPE.replace(labels, labels + "voxel_size_um = 52.0\n"))
    assert "first" in stages_run(command("sennet-train", "run", recipe, "--out", run).err)


def test_a_folder_of_something_else_is_left_alone(command: Command, kidneys: Path, tmp_path: Path) -> None:
    """A mistyped --out costs nobody their files."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("dear")
    ran = command("sennet-train", "run", kidneys / "recipe.toml", "--out", other)
    assert ran.code == 2
    assert "choose another --out" in ran.err
    assert [file.name for file in other.iterdir()] == ["thesis.tex"]


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
