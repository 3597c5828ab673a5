"""Labelled volumes: named after their files, windowed as a whole, their voxel size known."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sennet_trainer.labelled_volume import cached_volume
from sennet_trainer.settings import FitSettings
from sennet_trainer.volume_settings import VolumeSettings

from .conftest import tubes_zyx

SettingsOf = Callable[..., FitSettings]


@pytest.mark.parametrize(
    ("images", "name"),
    [
        ("phantom/image.tif", "phantom/image"),
        ("kidney_1_dense/images/", "kidney_1_dense"),
        ("kidney_2/", "kidney_2"),
        ("scan_5.2um/voi.ome.tif", "scan_5.2um/voi"),
    ],
)
def test_volumes_are_named_after_their_files(tmp_path: Path, images: str, name: str) -> None:
    """The file's stem tells little without its folder, and a folder called images tells nothing."""
    grey, _ = tubes_zyx(0, (2, 32, 32))
    path = tmp_path / images
    if images.endswith("/"):
        path.mkdir(parents=True)
        for z, plane in enumerate(grey):
            tifffile.imwrite(path / f"{z:04d}.tif", plane)
    else:
        path.parent.mkdir()
        tifffile.imwrite(path, grey, metadata={"axes": "ZYX"})
    settings = VolumeSettings(images=path, allow_empty=True)
    assert cached_volume(settings, tmp_path / "cache").name == name
    assert cached_volume(settings.model_copy(update={"name": "mine"}), tmp_path / "cache").name == "mine"


def test_inverted_volume_is_cached_inverted(settings_of: SettingsOf, tmp_path: Path) -> None:
    """invert = true turns bright into dark after windowing."""
    volume = settings_of().volumes[0]
    plain = cached_volume(volume, tmp_path).images
    inverted = cached_volume(volume.model_copy(update={"invert": True}), tmp_path).images
    assert np.array_equal(255 - plain, inverted)


def test_slices_of_a_volume_are_windowed_as_the_whole(settings_of: SettingsOf, tmp_path: Path) -> None:
    """A range of planes looks as it does in the whole volume: the engine's window knows no range."""
    volume = settings_of().volumes[0]
    part = cached_volume(volume.model_copy(update={"slices": (3, 7)}), tmp_path)
    whole = cached_volume(volume, tmp_path)
    assert np.array_equal(part.images, whole.images[3:7])
    assert np.array_equal(part.labels, whole.labels[3:7])
    assert part.labels.ravel()[part.labelled].all()
    assert part.labelled.size == part.labels.sum()


def write_ome(path: Path, size_um_yx: tuple[float, float]) -> None:
    """The tubes with a voxel size, 500 µm along z."""
    sizes = {"PhysicalSizeZ": 500.0, "PhysicalSizeY": size_um_yx[0], "PhysicalSizeX": size_um_yx[1]}
    units = {f"PhysicalSize{axis}Unit": "µm" for axis in "XYZ"}
    tifffile.imwrite(path, tubes_zyx(0)[0], ome=True, metadata={"axes": "ZYX", **sizes, **units})


def test_voxel_size_is_the_settings_else_the_files(settings_of: SettingsOf, tubes: Path, tmp_path: Path) -> None:
    """That of the planes along z; unknown where neither tells."""
    volume = settings_of().volumes[0]
    assert cached_volume(volume, tmp_path).voxel_size_um is None
    write_ome(tubes / "train.tif", (50.0, 52.0))
    assert cached_volume(volume, tmp_path).voxel_size_um == 51.0
    assert cached_volume(volume.model_copy(update={"voxel_size_um": 63.0}), tmp_path).voxel_size_um == 63.0


def test_volume_travels_without_its_arrays(settings_of: SettingsOf, tmp_path: Path) -> None:
    """To a worker process go a few facts, even after the arrays were read, and there they are mapped again."""
    volume = cached_volume(settings_of().volumes[0], tmp_path)
    grey = volume.images.copy()
    travelled = pickle.dumps(volume)
    assert len(travelled) < 2000
    assert np.array_equal(pickle.loads(travelled).images, grey)
