"""The cache: images and labels apart, whole or not there, hashed by content, shared by any number of runs."""

import hashlib
import os
import resource
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from sennet_engine.errors import VolumeError
from sennet_trainer.labelled_volume import cached_volume
from sennet_trainer.settings import FitSettings
from sennet_trainer.volume_settings import VolumeSettings
from sennet_trainer.whole_file import write_whole

from .conftest import tubes_zyx

SettingsOf = Callable[..., FitSettings]


@pytest.fixture
def files_of_at_most_20_kb() -> Iterator[None]:
    """Writing beyond that fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def volume(settings_of: SettingsOf) -> VolumeSettings:
    """The tubes that are trained on."""
    return settings_of().volumes[0]


def with_labels(volume: VolumeSettings, labels: npt.NDArray[Any], path: Path, **changes: Any) -> VolumeSettings:
    """`volume` with other labels, written to `path`."""
    tifffile.imwrite(path, labels)
    return volume.model_copy(update={"labels": path, **changes})


def test_full_disk_leaves_no_half_cache(volume: VolumeSettings, tmp_path: Path, files_of_at_most_20_kb: None) -> None:
    """The error is an OSError that names the file, not a signal that ends the process."""
    with pytest.raises(OSError, match=r"labels\.npy"):
        cached_volume(volume, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_full_disk_leaves_the_file_that_was_there(tmp_path: Path, files_of_at_most_20_kb: None) -> None:
    """Neither is it replaced by a part, nor does the part stay."""
    path = tmp_path / "checkpoint"
    write_whole(path, b"before")
    with pytest.raises(OSError, match="checkpoint'"):
        write_whole(path, bytes(30_000))
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"checkpoint": b"before"}


def test_cached_arrays_are_plain_npy_files(volume: VolumeSettings, tmp_path: Path) -> None:
    """Anything that reads .npy reads them: grey levels, 0/1 labels, and where the labels are 1."""
    cached = cached_volume(volume, tmp_path)
    images, labels = cached.folders
    for path, array in ((images / "images.npy", cached.images), (labels / "labels.npy", cached.labels)):
        loaded = np.load(path, allow_pickle=False)
        assert np.array_equal(loaded, array)
        assert (loaded.dtype, loaded.shape) == (np.uint8, (12, 96, 96))
    assert np.array_equal(np.load(labels / "labelled.npy"), np.flatnonzero(cached.labels))
    assert np.array_equal(cached.labels, tubes_zyx(0)[1])


def test_other_labels_do_not_copy_the_images(volume: VolumeSettings, tmp_path: Path) -> None:
    """A volume with pseudo-labels is cached beside the one without: one folder of images, two of labels."""
    plain = cached_volume(volume, tmp_path / "cache")
    more = tubes_zyx(0)[1]
    more[0] = np.where(more[0], more[0], 2)
    pseudo = cached_volume(with_labels(volume, more, tmp_path / "more.tif", pseudo_labels=True), tmp_path / "cache")
    assert pseudo.folders[0] == plain.folders[0]
    assert pseudo.images_sha256 == plain.images_sha256
    assert pseudo.labels_sha256 != plain.labels_sha256
    assert len(list((tmp_path / "cache").iterdir())) == 3


@pytest.mark.parametrize("real", [1, 255])
def test_pseudo_labels_count_as_vessels(volume: VolumeSettings, tmp_path: Path, real: int) -> None:
    """0, 2 and a real label of 1 or 255: all but 0 is vessel."""
    labels = tubes_zyx(0)[1] * np.uint8(real)
    labels[3, :2] = 2
    cached = cached_volume(with_labels(volume, labels, tmp_path / "l.tif", pseudo_labels=True), tmp_path / "cache")
    assert np.array_equal(cached.labels, labels > 0)


@pytest.mark.parametrize(
    ("values", "pseudo_labels", "message"),
    [
        (
            (1, 2),
            False,
            r"got labels with the values 0, 2 in plane 5, .* a pseudo-label, set pseudo_labels = true",
        ),
        ((2, 2), False, r"expected 0/1 or 0/255 throughout; convert the labels"),
        (
            (1, 255),
            False,
            r"got labels with the values 0, 255 in plane 5, expected 0/1 or 0/255 throughout; conv",
        ),
        ((1, 255), True, r"expected 0/1 or 0/255 throughout, and 2 for pseudo-labels; convert the labels"),
        ((3, 3), True, r"got labels with the values 0, 3 in plane 2"),
    ],
)
def test_labels_of_other_values_are_refused(
    volume: VolumeSettings, tmp_path: Path, values: tuple[int, int], pseudo_labels: bool, message: str
) -> None:
    """The values, the plane and the setting are named, and nothing is left in the cache."""
    labels = np.zeros((12, 96, 96), np.uint8)
    labels[2, 5, 5], labels[5, 5, 5] = values
    changed = with_labels(volume, labels, tmp_path / "labels.tif", pseudo_labels=pseudo_labels)
    with pytest.raises(VolumeError, match=message):
        cached_volume(changed, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_volume_without_a_labelled_voxel_is_refused(volume: VolumeSettings, tmp_path: Path) -> None:
    """Also where the empty labels are cached already, for a volume that may be empty."""
    empty = with_labels(volume, np.zeros((12, 96, 96), np.uint8), tmp_path / "labels.tif", slices=(3, 9))
    assert cached_volume(empty.model_copy(update={"allow_empty": True}), tmp_path / "cache").labelled.size == 0
    with pytest.raises(VolumeError, match=r"no voxel is labelled in planes 3 to 8; .* allow_empty = true"):
        cached_volume(empty, tmp_path / "cache")


def test_hashes_are_of_the_content_alone(volume: VolumeSettings, tubes: Path, tmp_path: Path) -> None:
    """Other paths, times, file formats and cache folders: the same hashes. Other voxels or another shape: others."""
    before = cached_volume(volume, tmp_path / "cache")
    grey, labels = tubes_zyx(0)
    np.save(tmp_path / "grey.npy", grey)
    np.save(tmp_path / "labels.npy", labels)  # 0/1 where the tubes' own are 0/255
    copy = VolumeSettings(images=tmp_path / "grey.npy", labels=tmp_path / "labels.npy")
    after = cached_volume(copy, tmp_path / "elsewhere")
    assert (after.images_sha256, after.labels_sha256) == (before.images_sha256, before.labels_sha256)
    content = before.images.tobytes() + b"|u1 (12, 96, 96)"
    assert before.images_sha256 == hashlib.sha256(content).hexdigest()
    part = cached_volume(volume.model_copy(update={"slices": (0, 11)}), tmp_path / "cache")
    assert part.images_sha256 != before.images_sha256
    assert part.labels_sha256 != before.labels_sha256
    os.utime(tubes / "train.tif", (1, 1))
    touched = cached_volume(volume, tmp_path / "cache")
    assert touched.folders != before.folders
    assert touched.images_sha256 == before.images_sha256


def test_cache_is_made_again_when_its_input_changes(volume: VolumeSettings, tubes: Path, tmp_path: Path) -> None:
    """A changed file is read again, an unchanged one is not."""
    before = cached_volume(volume, tmp_path)
    written = (before.folders[0] / "images.npy").stat().st_mtime_ns
    assert cached_volume(volume, tmp_path) == before
    assert (before.folders[0] / "images.npy").stat().st_mtime_ns == written
    grey, _ = tubes_zyx(7)
    tifffile.imwrite(tubes / "train.tif", grey)
    after = cached_volume(volume, tmp_path)
    assert after.folders[0] != before.folders[0]
    assert after.folders[1] == before.folders[1]
    assert not np.array_equal(after.images, before.images)


def test_half_written_cache_is_never_used(
    volume: VolumeSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What a killed run left is named, not touched: another run may be at work on it."""
    whole = cached_volume(volume, tmp_path / "elsewhere")
    left = tmp_path / "cache" / f"{whole.folders[0].name}.0123abcd.partial"
    left.mkdir(parents=True)
    (left / "images.npy").write_bytes(b"half")
    cached = cached_volume(volume, tmp_path / "cache")
    assert np.array_equal(cached.images, whole.images)
    assert (left / "images.npy").read_bytes() == b"half"
    assert f"{left} was left by a run" in caplog.text


def test_runs_that_cache_at_the_same_time_share_the_result(volume: VolumeSettings, tmp_path: Path) -> None:
    """Four of them start at once: all get the same folders, and nothing else stays."""
    start, found = threading.Barrier(4), []

    def caches() -> None:
        start.wait()
        found.append(cached_volume(volume, tmp_path / "cache"))

    threads = [threading.Thread(target=caches) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len({one.folders for one in found}) == 1
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {path.name for path in found[0].folders}
