"""The settings file: validated whole, with paths relative to itself."""

from pathlib import Path
from typing import get_args

import pytest

from sennet_engine.errors import ConfigError
from sennet_trainer.losses.table import LOSSES
from sennet_trainer.settings import LossName, load_fit_settings

PLAIN = """
name = "tiny"
voxel_size_um = 50.0
[network]
encoder = "resnet18"
encoder_weights = "weights/encoder.safetensors"
[[volumes]]
images = "a/image.tif"
labels = "a/labels.tif"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """Volumes and weights are found beside the settings, wherever the command is run."""
    settings = load_fit_settings(written(tmp_path, PLAIN))
    assert settings.volumes[0].images == tmp_path / "a/image.tif"
    assert settings.volumes[0].labels == tmp_path / "a/labels.tif"
    assert settings.network.encoder_weights == str(tmp_path / "weights/encoder.safetensors")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('encoder = "resnet18"', 'encodr = "resnet18"', r"network\.encodr: unknown key; did you mean 'encoder'"),
        ('name = "tiny"', 'name = "tiny"\nsede = 1', r"sede: unknown key; did you mean 'seed'"),
        ('labels = "a/labels.tif"', 'label = "a/labels.tif"', r"label: unknown key; did you mean 'labels'"),
        ('labels = "a/labels.tif"', "", "give labels, or allow_empty = true"),
        ('labels = "a/labels.tif"', 'labels = "l.tif"\naxes = "zz"', "letters z, y and x, each at most once"),
        ('labels = "a/labels.tif"', 'labels = "l.tif"\nslices = [5, 5]', "0 <= first < end"),
        ('labels = "a/labels.tif"', 'labels = "l.tif"\nrole = "validation"', 'none has role = "train"'),
        ("encoder.safetensors", "encoder.pth", "pickled weights are never loaded"),
        ("[[volumes]]", '[training]\nloss = "dise"\n[[volumes]]', r"training\.loss: .*'dice'"),
        ("[[volumes]]", "[validation]\nthresholds = [0.0004]\n[[volumes]]", "greater than or equal to 0.001"),
        ("[[volumes]]", "[validation]\nthresholds = [0.9995]\n[[volumes]]", "less than or equal to 0.999"),
        ("[[volumes]]", "[validation]\nthresholds = [0.5, 0.5001]\n[[volumes]]", "that differ by 0.001 or more"),
        ('name = "tiny"', 'name = "tiny"\nseed = 9223372036854775808', "seed: .* less than or equal"),
        ("[[volumes]]", "[augmentation]\nscale = [1.0, 0.5]\n[[volumes]]", "0.05 <= smallest <= largest"),
    ],
)
def test_wrong_settings_are_explained(tmp_path: Path, before: str, after: str, message: str) -> None:
    """Unknown keys name the nearest one, wrong values say what was expected."""
    assert before in PLAIN
    with pytest.raises(ConfigError, match=message):
        load_fit_settings(written(tmp_path, PLAIN.replace(before, after)))


def test_every_loss_of_the_settings_exists() -> None:
    """The names that the settings allow are those of the table."""
    assert set(get_args(LossName)) == set(LOSSES)
