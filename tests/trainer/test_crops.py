"""Crops: decided by seed, epoch and index alone; images and labels stay together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from torch.utils.data import DataLoader

from sennet_trainer.crops import EpochCrops
from sennet_trainer.labelled_volume import cached_volume
from sennet_trainer.settings import FitSettings

SettingsOf = Callable[..., FitSettings]

PROBABILITIES = ("flip", "shift_scale_rotate", "blur_or_noise", "brightness_contrast", "gamma", "distortion")
UNCHANGED = dict.fromkeys((*PROBABILITIES, "sharpen_or_clahe", "noise"), 0.0)
FLIPS_ONLY = UNCHANGED | {"flip": 0.5}


def crops_of(settings: FitSettings, cache: Path, *, epoch: int = 0) -> EpochCrops:
    """The training crops of an epoch."""
    volumes = [cached_volume(volume, cache) for volume in settings.volumes if volume.role == "train"]
    return EpochCrops(volumes, settings, epoch=epoch)


def stacked(crops: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """All crops of an epoch as [N, 1, side, side] grey levels and labels."""
    pairs = [crops[index] for index in range(len(crops))]
    return torch.stack([grey for grey, _ in pairs]), torch.stack([labels for _, labels in pairs])


def test_crops_do_not_depend_on_order_or_workers(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Asked for backwards, or by two worker processes, they are the same crops."""
    crops = crops_of(settings_of(), tmp_path)
    grey, labels = stacked(crops)
    backwards = [crops[index] for index in reversed(range(len(crops)))][::-1]
    loaded = list(DataLoader(crops, batch_size=4, num_workers=2))
    assert torch.equal(grey, torch.stack([pair[0] for pair in backwards]))
    assert torch.equal(grey, torch.cat([pair[0] for pair in loaded]))
    assert torch.equal(labels, torch.cat([pair[1] for pair in loaded]))


def test_epochs_and_seeds_have_their_own_crops(settings_of: SettingsOf, tmp_path: Path) -> None:
    """No crop comes twice."""
    runs = [
        stacked(crops_of(settings_of(seed=seed), tmp_path, epoch=epoch))[0] for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    every = torch.cat(runs).flatten(1)
    assert len(torch.unique(every, dim=0)) == len(every)


def test_unaugmented_crops_are_pieces_of_the_volume(settings_of: SettingsOf, tmp_path: Path) -> None:
    """With everything turned off, a crop is found in the volume, with its labels at the same place."""
    settings = settings_of(augmentation=UNCHANGED, crops={"side": 32, "per_epoch": 8})
    volume = cached_volume(settings.volumes[0], tmp_path)
    images, labels = volume.along("z")
    windows = np.lib.stride_tricks.sliding_window_view(images, (32, 32), axis=(1, 2))
    for grey, marks in (crops_of(settings, tmp_path)[index] for index in range(8)):
        corner = grey[0].numpy()
        ((z, y, x),) = np.argwhere(
            (windows[..., 0, :] == corner[0]).all(-1) & (windows[..., 31, :] == corner[31]).all(-1)
        )
        assert np.array_equal(images[z, y : y + 32, x : x + 32], corner)
        assert np.array_equal(labels[z, y : y + 32, x : x + 32], marks[0].numpy())


def test_flips_are_drawn_apart(settings_of: SettingsOf, tmp_path: Path) -> None:
    """All eight symmetries of the square occur: one flip does not bring the other with it."""
    settings = settings_of(augmentation=FLIPS_ONLY, crops={"side": 96, "per_epoch": 96})
    settings = settings.model_copy(update={"volumes": [settings.volumes[0].model_copy(update={"slices": (0, 1)})]})
    grey, _ = stacked(crops_of(settings, tmp_path))
    assert len(torch.unique(grey.flatten(1), dim=0)) == 8


def test_augmented_labels_follow_their_vessels(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Under the whole augmentation, labelled pixels stay darker than the others in nearly every crop."""
    grey, labels = stacked(crops_of(settings_of(crops={"side": 64, "per_epoch": 64}), tmp_path))
    assert grey.dtype == labels.dtype == torch.uint8
    assert set(labels.unique().tolist()) == {0, 1}
    darker = [
        one[marks > 0].float().mean() < one[marks == 0].float().mean()
        for one, marks in zip(grey, labels, strict=True)
        if 0 < marks.sum() < marks.numel()
    ]
    assert np.mean(darker) > 0.95


def test_vessel_share_decides_how_many_crops_hold_vessels(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Centred on a labelled voxel, every crop holds one; drawn anywhere, fewer do."""

    def share(vessel_share: float) -> float:
        crops = {"side": 32, "per_epoch": 64, "vessel_share": vessel_share}
        _, labels = stacked(crops_of(settings_of(augmentation=UNCHANGED, crops=crops), tmp_path))
        return float((labels.flatten(1).sum(1) > 0).float().mean())

    assert share(1.0) == 1.0
    assert share(0.0) < 0.95


@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_planes_smaller_than_a_crop_are_mirrored(settings_of: SettingsOf, tmp_path: Path, axis: str) -> None:
    """A volume of 12 planes gives crops of 64 along every axis, with labels."""
    settings = settings_of(augmentation=UNCHANGED, crops={"side": 64, "per_epoch": 4, "vessel_share": 1.0})
    volume = settings.volumes[0].model_copy(update={"axes": axis})
    grey, labels = stacked(crops_of(settings.model_copy(update={"volumes": [volume]}), tmp_path))
    assert grey.shape == (4, 1, 64, 64)
    assert labels.flatten(1).any(1).all()


def test_only_the_given_axes_are_cut(settings_of: SettingsOf, tmp_path: Path) -> None:
    """A volume whose grey level is its z has one level in a crop along z, and several along y and x."""
    ramp = np.repeat(np.arange(40, dtype=np.uint8), 40 * 40).reshape(40, 40, 40) * np.uint8(6)
    tifffile.imwrite(tmp_path / "ramp.tif", ramp)
    for axes, along_z in (("z", {True}), ("yx", {False}), ("zy", {True, False})):
        volumes = [{"images": tmp_path / "ramp.tif", "allow_empty": True, "axes": axes}]
        settings = settings_of(volumes=volumes, augmentation=UNCHANGED, crops={"side": 32, "per_epoch": 16})
        grey, _ = stacked(crops_of(settings, tmp_path))
        assert {len(crop.unique()) == 1 for crop in grey} == along_z


def test_weight_decides_how_often_a_volume_is_drawn(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Three to one."""
    tifffile.imwrite(tmp_path / "black.tif", np.zeros((2, 40, 40), np.uint8))
    black = {"images": tmp_path / "black.tif", "allow_empty": True, "axes": "z"}
    volumes = [black | {"weight": 3.0}, black | {"invert": True}]
    settings = settings_of(volumes=volumes, augmentation=UNCHANGED, crops={"side": 32, "per_epoch": 400})
    grey, _ = stacked(crops_of(settings, tmp_path))
    assert float((grey.float().mean((1, 2, 3)) < 128).float().mean()) == pytest.approx(0.75, abs=0.07)


def test_hard_negative_needs_no_labels(settings_of: SettingsOf, tubes: Path, tmp_path: Path) -> None:
    """With allow_empty a volume without labels gives crops without a labelled pixel."""
    volumes = [{"images": tubes / "train.tif", "allow_empty": True, "axes": "z"}]
    _, labels = stacked(crops_of(settings_of(volumes=volumes), tmp_path))
    assert not labels.any()


def disc_area(settings: FitSettings, cache: Path) -> float:
    """The labelled pixels of a crop of 128, on average."""
    _, labels = stacked(crops_of(settings, cache))
    return float(labels.sum((1, 2, 3)).float().mean())


def test_every_volume_has_its_own_magnification(settings_of: SettingsOf, tmp_path: Path) -> None:
    """With a target, a volume of 50 µm is shown at 50 / 63 and one of 63 µm as it is; unknown is as the run says."""
    y, x = np.mgrid[:160, :160] - 80
    np.save(tmp_path / "disc.npy", (np.hypot(y, x) < 20).astype(np.uint8)[None])
    still = UNCHANGED | {"shift_scale_rotate": 1.0, "target_voxel_size_um": 63.0, "scale_spread": 0.0, "shift": 0.0}
    for size_um, scale in ((50.0, 50 / 63), (63.0, 1.0), (None, 1.0)):
        volume = {"images": tmp_path / "disc.npy", "labels": tmp_path / "disc.npy", "axes": "z"}
        settings = settings_of(
            volumes=[volume | {"voxel_size_um": size_um}], voxel_size_um=63.0, augmentation=still,
            crops={"side": 128, "per_epoch": 4, "vessel_share": 0.0},
        )  # fmt: skip
        assert disc_area(settings, tmp_path / "cache") == pytest.approx(np.pi * 20**2 * scale**2, rel=0.05)


@pytest.mark.parametrize(("top", "left", "least"), [(120, 100, 0.9), (0, 97, 0.55), (60, 197, 0.55)])
def test_shrunken_crop_of_a_vessel_still_shows_it(
    settings_of: SettingsOf, tmp_path: Path, top: int, left: int, least: float
) -> None:
    """The only vessel of a plane is seen in nearly all of its crops, and in most where it lies at the plane's edge."""
    labels = np.zeros((1, 200, 200), np.uint8)
    labels[0, top : top + 3, left : left + 3] = 1
    np.save(tmp_path / "labels.npy", labels)
    volume = {"images": tmp_path / "labels.npy", "labels": tmp_path / "labels.npy", "axes": "z"}
    crops = {"side": 64, "per_epoch": 100, "vessel_share": 1.0}
    _, marks = stacked(crops_of(settings_of(volumes=[volume], crops=crops), tmp_path / "cache"))
    assert marks.flatten(1).any(1).float().mean() > least
