"""Recipes that run: each stage once, and again when it changed."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sennet_trainer.network import build_segmenter
from sennet_trainer.network_settings import NetworkSettings
from sennet_trainer.run_folder import load_run

from ..conftest import TINY_NETWORK
from .conftest import RECIPE, Command, network_of, stages_run


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
