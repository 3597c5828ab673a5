"""Volumes on their way into the cache: named after their files, whole or not there."""

import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sennet_trainer.labelled_volume import cached_volume
from sennet_trainer.settings import FitSettings
from sennet_trainer.volume_settings import VolumeSettings
from sennet_trainer.whole_file import write_whole

from .conftest import tubes_zyx

SettingsOf = Callable[..., FitSettings]


@pytest.fixture
def files_of_at_most_20_kb() -> object:
    """Writing beyond that fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_leaves_no_half_cache(
    settings_of: SettingsOf, tmp_path: Path, files_of_at_most_20_kb: object
) -> None:
    """The error is an OSError that names the file, not a signal that ends the process."""
    with pytest.raises(OSError, match=r"images\.npy"):
        cached_volume(settings_of().volumes[0], tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_full_disk_leaves_the_file_that_was_there(tmp_path: Path, files_of_at_most_20_kb: object) -> None:
    """Neither is it replaced by a part, nor does the part stay."""
    path = tmp_path / "checkpoint"
    write_whole(path, b"before")
    with pytest.raises(OSError, match="checkpoint'"):
        write_whole(path, bytes(30_000))
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"checkpoint": b"before"}


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


def test_cached_arrays_are_plain_npy_files(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Anything that reads .npy reads them."""
    volume = cached_volume(settings_of().volumes[0], tmp_path)
    for name, array in (("images", volume.images), ("labels", volume.labels), ("labelled", volume.labelled)):
        loaded = np.load(volume.folder / f"{name}.npy", allow_pickle=False)
        assert np.array_equal(loaded, array)
        assert loaded.dtype == array.dtype
