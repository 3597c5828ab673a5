"""Recipes as files: what they mean, and what is said of those that cannot be."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sennet_engine.errors import ConfigError
from sennet_trainer.recipe.jobs import fit_settings
from sennet_trainer.recipe.load import load_recipe

RECIPES = Path(__file__).parents[3] / "recipes"

SMALL = """
name = "small"
voxel_size_um = 50.0
[volumes.dense]
images = "dense.tif"
labels = "dense_labels.tif"
[volumes.sparse]
images = "sparse.tif"
labels = "sparse_labels.tif"
label_fraction = 0.85
[networks.tiny]
encoder = "resnet18"
encoder_depth = 3
decoder_options = { decoder_channels = [16, 8, 8] }
[training]
epochs = 3
batch = 4
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
thresholds = [0.1, 0.2]
[[stages]]
kind = "fit"
name = "second"
network = "tiny"
start_from = "first"
volumes = ["dense", { volume = "label", threshold = 0.2, weight = 2 }]
training = { epochs = 1 }
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_a_stage_takes_the_tables_of_the_recipe_and_its_own_keys_over_them(tmp_path: Path) -> None:
    """Only what a stage names differs from what all share."""
    recipe = load_recipe(written(tmp_path, SMALL))
    first, _, second = recipe.stages
    assert first.kind == second.kind == "fit"
    assert fit_settings(recipe, first, None).training.epochs == 3
    training = fit_settings(recipe, second, None).training
    assert (training.epochs, training.batch) == (1, 4)


def test_paths_are_relative_to_the_data_folder(tmp_path: Path) -> None:
    """By default the recipe's own folder; another one can be given with one option."""
    path = written(tmp_path, SMALL)
    assert load_recipe(path).volumes["dense"].images == tmp_path / "dense.tif"
    assert load_recipe(path, data=tmp_path / "other").volumes["dense"].images == tmp_path / "other" / "dense.tif"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('networks = ["first"]', 'networks = ["frist"]', r"stages.label.networks: got 'frist'; did you mean 'first'"),
        ('networks = ["first"]', 'networks = ["second"]', r"stages.label.networks: got 'second'"),
        ('start_from = "first"', 'start_from = "label"', r"stages.second.start_from: got 'label'"),
        ('volumes = ["dense"]', 'volumes = ["dens"]', r"stages.first.volumes: got 'dens'; did you mean 'dense'"),
        ('network = "tiny"\nvolumes', 'network = "tin"\nvolumes', r"stages.first.network: got 'tin'; did you mean"),
        ("threshold = 0.2,", "threshold = 0.3,", r"stages.second: got the threshold 0.3 .* expected one of"),
        ("label_fraction = 0.85", "label_fraction = 1.5", r"label_fraction: .* less than or equal to 1"),
        ("label_fraction = 0.85", "label_fraction = 0", r"label_fraction: .* greater than 0"),
        ('name = "second"', 'name = "first"', r"the name 'first' is given twice"),
        ('kind = "pseudo_label"', 'kind = "pseudolabel"', r"pseudolabel"),
        (
            "thresholds = [0.1, 0.2]",
            "thresholds = [0.1, 1.2]",
            r"stages.label.thresholds.1: .* less than or equal to 0.999",
        ),
        ("epochs = 3", "epoch = 3", r"training.epoch: unknown key; did you mean 'epochs'"),
        ("training = { epochs = 1 }", "training = { epoch = 1 }", r"stage second: .*\n.*training.epoch: unknown key"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_with_what_was_meant(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    """Every name must be that of something there is, and every value within its range, before anything runs."""
    assert before in SMALL
    with pytest.raises(ConfigError, match=message) as refused:
        load_recipe(written(tmp_path, SMALL.replace(before, after)))
    assert len(str(refused.value)) < 600  # and not the whole recipe with it


@pytest.fixture
def competition(tmp_path: Path) -> Path:
    """The competition's folders with tiny kidneys: every slice is a link to one file."""
    folder, side = tmp_path / "train", 448
    folder.mkdir()
    draw = np.random.default_rng(0)
    tifffile.imwrite(folder / "image.tif", draw.integers(0, 2**16, (side, side), np.uint16))
    label = np.zeros((side, side), np.uint8)
    label[100:120, 100:120] = 255
    tifffile.imwrite(folder / "label.tif", label, compression="zlib")
    for kidney, kinds, slices in (
        ("kidney_1_dense", ("images", "labels"), range(448)),
        ("kidney_2", ("images", "labels"), range(2217)),
        ("kidney_3_sparse", ("images", "labels"), range(1000)),
        ("kidney_3_dense", ("labels",), range(496, 996)),
    ):
        for kind in kinds:
            (folder / kidney / kind).mkdir(parents=True)
            for z in slices:
                os.link(folder / f"{kind[:-1]}.tif", folder / kidney / kind / f"{z:04d}.tif")
    return folder


@pytest.mark.slow
def test_the_seeds_recipe_fits_the_competitions_folders(command: Callable[..., object], competition: Path) -> None:
    """The real configuration is checked on volumes of its layout: files, shapes, four real networks, every stage."""
    ran = command("sennet-train", "run", RECIPES / "sennet_hoa.toml", "--data", competition, "--dry-run")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert len(lines) == 11
    assert all(line.startswith("to run") for line in lines)
    for encoder in ("maxvit_large_tf_512 (2", "seresnext101d_32x8d (1", "efficientnetv2_s (2", "efficientnetv2_l (1"):
        assert encoder in ran.out
    assert "832 px, 5 epochs" in ran.out


@pytest.mark.slow
def test_a_missing_volume_is_found_by_the_dry_run(command: Callable[..., object], competition: Path) -> None:
    """What is used by the last stage alone is looked at too."""
    (competition / "kidney_2").rename(competition / "kidney_two")
    ran = command("sennet-train", "run", RECIPES / "sennet_hoa.toml", "--data", competition, "--dry-run")
    assert ran.code == 2
    assert "kidney_2/images" in ran.err


@pytest.mark.parametrize("name", [path.stem for path in sorted(RECIPES.glob("*.toml")) if path.stem != "builtin"])
def test_every_shipped_recipe_is_valid(name: str) -> None:
    """Its keys are known and its stages build on each other."""
    recipe = load_recipe(RECIPES / f"{name}.toml")
    for stage in recipe.stages:
        if stage.kind == "fit":
            fit_settings(recipe, stage, None)


def test_the_seeds_recipe_has_the_seeds_figures() -> None:
    """Epochs, rates and batches of the final networks, and the thresholds of their pseudo-labels."""
    recipe = load_recipe(RECIPES / "sennet_hoa.toml")
    found = {}
    for stage in recipe.stages:
        if stage.kind == "fit":
            settings = fit_settings(recipe, stage, None)
            training = settings.training
            found[stage.name] = (training.epochs, training.learning_rate, training.batch, settings.crops.side)
    assert found == {
        "dense_maxvit": (20, 1e-5, 20, 512),
        "dense_efficientnet_s": (20, 2e-4, 128, 448),
        "resumed_maxvit": (10, 2e-5, 20, 512),
        "resumed_efficientnet_s": (10, 1e-4, 128, 448),
        "final_maxvit": (8, 2e-5, 20, 512),
        "final_seresnext": (12, 1e-4, 64, 512),
        "final_efficientnet_s": (10, 1e-4, 128, 448),
        "final_efficientnet_s_832": (5, 2e-5, 48, 832),
        "final_efficientnet_l": (10, 1e-4, 32, 512),
    }
    low, high = recipe.augmentation.scale_for(50.0)
    assert (low + high) / 2 == pytest.approx(50 / 63.08, abs=1e-3)
