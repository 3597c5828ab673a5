"""What a training reads is looked at before anything is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from sennet_engine.errors import ConfigError, VolumeError
from sennet_trainer.augmentation_settings import AugmentationSettings
from sennet_trainer.fit import fit
from sennet_trainer.inputs import check_inputs
from sennet_trainer.network import build_segmenter
from sennet_trainer.settings import FitSettings, load_fit_settings
from sennet_trainer.trial import check_sides

from .conftest import CPU, Silent, tubes_zyx

SettingsOf = Callable[..., FitSettings]


def with_first_volume(settings_of: SettingsOf, **changes: Any) -> FitSettings:
    """The quick settings, their training volume changed."""
    first, second = (volume.model_dump() for volume in settings_of().volumes)
    return settings_of(volumes=[first | changes, second])


@pytest.mark.parametrize("axes", ["zyx", "y", "x"])
def test_thin_volume_is_not_cut_across_its_planes(settings_of: SettingsOf, tmp_path: Path, axes: str) -> None:
    """Twelve planes would make crops of 64 that are mostly mirrors; the error says what to set."""
    settings = with_first_volume(settings_of, axes=axes)
    with pytest.raises(VolumeError, match=r'got 12 planes along z, expected at least 32 to cut .* set axes = "z"'):
        fit(settings, tmp_path / "run", device=CPU, observer=Silent())
    assert not (tmp_path / "run").exists()


def test_slices_count_for_the_thickness(settings_of: SettingsOf, tubes: Path) -> None:
    """A volume of 40 planes is thick enough for crops of 64, and 20 planes of it are not."""
    grey, labels = tubes_zyx(0, (40, 96, 96))
    tifffile.imwrite(tubes / "train.tif", grey)
    tifffile.imwrite(tubes / "train_labels.tif", labels)
    check_inputs(with_first_volume(settings_of, axes="zyx"))
    with pytest.raises(VolumeError, match="got 20 planes along z"):
        check_inputs(with_first_volume(settings_of, axes="zyx", slices=(0, 20)))


def test_planes_of_under_half_a_crop_are_refused(settings_of: SettingsOf) -> None:
    """The error names the largest side that fits; validation planes may have any size."""
    with pytest.raises(VolumeError, match=r"got planes of 96 × 96 pixels, expected at least 112 .* crops\.side = 96"):
        check_inputs(settings_of(crops={"side": 224}))


@pytest.mark.parametrize(("size_um", "warned"), [(50.0, False), (54.0, False), (63.0, True)])
def test_other_voxel_size_is_a_warning(
    settings_of: SettingsOf, tubes: Path, caplog: pytest.LogCaptureFixture, size_um: float, warned: bool
) -> None:
    """More than 10 % off the settings' 50 µm."""
    sizes = {f"PhysicalSize{axis}": size_um for axis in "XY"} | {"PhysicalSizeZ": 500.0}
    units = {f"PhysicalSize{axis}Unit": "µm" for axis in "XYZ"}
    grey, _ = tubes_zyx(0)
    tifffile.imwrite(tubes / "train.tif", grey, ome=True, metadata={"axes": "ZYX", **sizes, **units})
    check_inputs(settings_of())
    assert (f"the pixels are {size_um:g} × {size_um:g} µm" in caplog.text) == warned


def test_given_voxel_size_is_held_against_the_settings(
    settings_of: SettingsOf, caplog: pytest.LogCaptureFixture
) -> None:
    """It overrules the file. Where a target decides the magnification, a difference is meant and nothing is said."""
    settings = with_first_volume(settings_of, voxel_size_um=63.0)
    check_inputs(settings)
    assert "the pixels are 63 µm" in caplog.text
    caplog.clear()
    check_inputs(settings.model_copy(update={"augmentation": AugmentationSettings(target_voxel_size_um=63.0)}))
    assert caplog.text == ""


def test_magnification_out_of_reach_is_refused(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Before anything is written."""
    settings = with_first_volume(settings_of, voxel_size_um=5.2)
    settings = settings.model_copy(update={"augmentation": AugmentationSettings(target_voxel_size_um=63.0)})
    with pytest.raises(ConfigError, match=r"scale_spread: got 0\.25, expected at most 0\.03 for a volume of 5\.2 µm"):
        fit(settings, tmp_path / "run", device=CPU, observer=Silent())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("trained", "validated", "refused"),
    [
        ("", "", True),
        ("slices = [0, 6]", "", True),
        ("slices = [0, 6]", "slices = [5, 9]", True),
        ("slices = [0, 6]", "slices = [6, 9]", False),
    ],
)
def test_planes_have_one_role(tmp_path: Path, trained: str, validated: str, refused: bool) -> None:
    """The same planes of the same images in both roles are refused, whatever way their path is written."""
    config = tmp_path / "config.toml"
    config.write_text(f"""
        name = "tiny"
        voxel_size_um = 50.0
        network = {{ encoder = "resnet18" }}
        [[volumes]]
        images = "a/image.tif"
        labels = "a/labels.tif"
        {trained}
        [[volumes]]
        role = "validation"
        images = "b/../a/image.tif"
        labels = "a/labels.tif"
        {validated}
    """)
    if refused:
        with pytest.raises(ConfigError, match=r"trained and validated on .* give each role its own slices"):
            load_fit_settings(config)
    else:
        load_fit_settings(config)


def test_step_of_one_crop_is_refused_where_batch_norm_cannot_take_it(settings_of: SettingsOf, tmp_path: Path) -> None:
    """DeepLabV3+ normalises globally pooled maps: the counts are named. A U-Net takes a single crop."""
    changes: dict[str, Any] = {"crops": {"side": 64, "per_epoch": 5}, "training": {"epochs": 1, "batch": 4}}
    settings = settings_of(network={"encoder": "resnet18", "decoder": "DeepLabV3Plus"}, **changes)
    with pytest.raises(ConfigError, match=r"got 5 and 4, which leave a step of one crop"):
        fit(settings, tmp_path / "run", device=CPU, observer=Silent())
    fit(settings_of(**changes), tmp_path / "unet", device=CPU, observer=Silent())


def test_parts_of_one_crop_are_refused_where_batch_norm_cannot_take_them(
    settings_of: SettingsOf, tmp_path: Path
) -> None:
    """A batch of four in four parts shows the network one crop at a time."""
    settings = settings_of(
        network={"encoder": "resnet18", "decoder": "DeepLabV3Plus"},
        crops={"side": 64, "per_epoch": 4},
        training={"epochs": 1, "batch": 4, "accumulate": 4},
    )
    with pytest.raises(ConfigError, match=r"a step of one crop"):
        fit(settings, tmp_path / "run", device=CPU, observer=Silent())


def test_one_crop_for_each_process_is_refused_where_batch_norm_cannot_take_it(settings_of: SettingsOf) -> None:
    """A batch of two is one crop for each of two processes: said before the first step, not after hours."""
    settings = settings_of(
        network={"encoder": "resnet18", "decoder": "DeepLabV3Plus"},
        crops={"side": 64, "per_epoch": 4},
        training={"epochs": 1, "batch": 2},
    )
    segmenter = build_segmenter(settings.network)
    check_sides(segmenter, settings)
    with pytest.raises(ConfigError, match=r"a step of one crop for one of 2 process"):
        check_sides(segmenter, settings, processes=2)


def test_validation_planes_too_small_for_the_decoder_are_refused(
    settings_of: SettingsOf, tubes: Path, tmp_path: Path
) -> None:
    """Said before training, not after its first epoch."""
    grey, labels = tubes_zyx(1, (12, 20, 20))
    tifffile.imwrite(tubes / "validation.tif", grey)
    tifffile.imwrite(tubes / "validation_labels.tif", np.maximum(labels, 1))
    network = {"encoder": "resnet18", "decoder": "PAN"}
    settings = settings_of(network=network, crops={"side": 128})
    with pytest.raises(ConfigError, match=r"does not take tiles of 32 × 32 pixels .* validation\.tile"):
        fit(settings, tmp_path / "run", device=CPU, observer=Silent())
    assert not (tmp_path / "run").exists()
