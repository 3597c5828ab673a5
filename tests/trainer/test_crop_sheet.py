"""`sennet-train crops` tells bad input apart before it draws anything."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from sennet_engine.errors import OutputError, SennetError, VolumeError
from sennet_trainer.commands.crops import crops


@pytest.fixture
def config(tubes: Path) -> Path:
    """The settings of a sheet of the tubes."""
    path = tubes / "sheet.toml"
    path.write_text(
        """
        name = "sheet"
        voxel_size_um = 50.0
        network = { encoder = "resnet18" }
        crops = { side = 64 }
        [[volumes]]
        images = "train.tif"
        labels = "train_labels.tif"
        axes = "z"
        """
    )
    return path


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('axes = "z"', "", r"got 12 planes along z, expected at least 32 to cut along y .* set axes"),
        ('"train.tif"', '"gone.tif"', r"gone\.tif: no such file"),
        ("side = 64", "side = 256", r"got planes of 96 × 96 pixels, expected at least 128"),
        ('axes = "z"', "label_fraction = 1.5", r"label_fraction: .*1\.5"),
        ('axes = "z"', "label_fraction = 0.0", r"label_fraction: .*0\.0"),
    ],
)
def test_bad_settings_are_told_before_drawing(config: Path, before: str, after: str, message: str) -> None:
    """As a training does it."""
    text = config.read_text()
    assert before in text
    config.write_text(text.replace(before, after))
    with pytest.raises(SennetError, match=message):
        crops(config, out=config.with_name("sheet.png"), count=2, epoch=0)
    assert not config.with_name("sheet.png").exists()


def test_labels_of_another_shape_are_told(config: Path, tubes: Path) -> None:
    """Both shapes are named."""
    tifffile.imwrite(tubes / "train_labels.tif", np.ones((12, 96, 95), np.uint8))
    with pytest.raises(VolumeError, match=r"\(12, 96, 95\) \(Z, Y, X\), expected \(12, 96, 96\)"):
        crops(config, out=tubes / "sheet.png", count=2, epoch=0)


def test_volumes_are_kept_for_the_next_sheet_where_asked(config: Path, tubes: Path) -> None:
    """A folder for images and one for labels; without --cache nothing stays beside the picture."""
    crops(config, out=tubes / "sheet.png", count=2, epoch=0)
    drawn = (tubes / "sheet.png").read_bytes()
    crops(config, out=tubes / "sheet.png", count=2, epoch=0, cache=tubes / "cache")
    assert len(list((tubes / "cache").iterdir())) == 2
    assert (tubes / "sheet.png").read_bytes() == drawn


def test_sheet_that_cannot_be_written_is_told(config: Path, tubes: Path) -> None:
    """The path and what to do."""
    with pytest.raises(OutputError, match=r"gone/sheet\.png: cannot be written .* choose another --out"):
        crops(config, out=tubes / "gone" / "sheet.png", count=2, epoch=0)
