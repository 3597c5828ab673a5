"""Images and labels belong together: by shape, and slice by slice by their names."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from sennet_engine.errors import VolumeError
from sennet_trainer.labelled_volume import LabelledVolume, cached_volume
from sennet_trainer.volume_settings import VolumeSettings

CachedKidney = Callable[..., LabelledVolume]


def write_slices(folder: Path, names: Iterable[int], *, scale: int = 1, side: int = 32) -> None:
    """Slices whose left half is the number in their name (times `scale`) and whose right half is 0."""
    folder.mkdir(parents=True)
    for name in names:
        plane = np.zeros((side, side), np.uint8)
        plane[:, : side // 2] = name * scale if scale else 1
        tifffile.imwrite(folder / f"{name:04d}.tif", plane)


@pytest.fixture
def kidney(tmp_path: Path) -> CachedKidney:
    """Ten slices named 0005 to 0014, of which the grey level tells the name; labels of the named slices."""

    def kidney(labelled: Iterable[int], **changes: Any) -> LabelledVolume:
        write_slices(tmp_path / "kidney_3_sparse" / "images", range(5, 15), scale=10)
        write_slices(tmp_path / "kidney_3_dense" / "labels", labelled, scale=0)
        settings = VolumeSettings(
            images=tmp_path / "kidney_3_sparse" / "images", labels=tmp_path / "kidney_3_dense" / "labels", **changes
        )
        return cached_volume(settings, tmp_path / "cache")

    return kidney


def names_of(volume: LabelledVolume) -> list[int]:
    """The window of the whole volume is 0 to 140, so that the name comes back from the grey level."""
    return [round(int(level) / 255 * 14) for level in volume.images[:, 0, 0]]


def test_labels_of_some_slices_use_only_these(kidney: CachedKidney) -> None:
    """Dense labels of 0008 to 0011 take these images from the folder of the sparse kidney."""
    volume = kidney(range(8, 12))
    assert names_of(volume) == [8, 9, 10, 11]
    assert volume.planes == range(3, 7)
    assert volume.labels.shape == (4, 32, 32)
    assert volume.labels[:, :, :16].all()


def test_slices_count_in_the_images_planes(kidney: CachedKidney) -> None:
    """Planes 4 to 8 are 0009 to 0013; labels of 0008 to 0011 leave two of them."""
    assert names_of(kidney(range(8, 12), slices=(4, 9))) == [9, 10, 11]


def test_labels_outside_the_slices_are_refused(kidney: CachedKidney) -> None:
    """No plane would be left."""
    with pytest.raises(VolumeError, match=r"got labels of the planes 3 to 6, expected some of the planes 0 to 1 that"):
        kidney(range(8, 12), slices=(0, 2))


def test_labels_of_unknown_slices_are_refused(kidney: CachedKidney) -> None:
    """The first such slice is named, and which names there are."""
    with pytest.raises(VolumeError, match=r"the slice '0015', which .*images does not hold, .* from '0005' to '0014'"):
        kidney(range(12, 17))


def test_labels_with_a_gap_are_refused(kidney: CachedKidney) -> None:
    """Planes on both sides of it are no neighbours. The missing slice is named."""
    with pytest.raises(VolumeError, match=r"got no labels of the slice '0009' but of slices on both sides of it"):
        kidney([7, 8, 10, 11])


def test_labels_of_another_size_are_refused(tmp_path: Path) -> None:
    """Names that agree do not make up for it."""
    write_slices(tmp_path / "images", range(3))
    write_slices(tmp_path / "labels", range(1, 3), side=30)
    with pytest.raises(VolumeError, match=r"got labels of shape \(2, 30, 30\) \(Z, Y, X\), expected \(3, 32, 32\)"):
        cached_volume(VolumeSettings(images=tmp_path / "images", labels=tmp_path / "labels"), tmp_path / "cache")


def test_file_of_labels_covers_the_images_or_the_slices(tmp_path: Path) -> None:
    """Pseudo-labels of planes 2 to 5 may be a file of six planes or of these four; five belong to nothing."""
    draw = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", draw.integers(0, 255, (6, 32, 32)).astype(np.uint8))
    labels = draw.integers(0, 2, (6, 32, 32)).astype(np.uint8)
    shas = []
    for first, end in ((0, 6), (2, 6), (1, 6)):
        np.save(tmp_path / "labels.npy", labels[first:end])
        settings = VolumeSettings(images=tmp_path / "images.npy", labels=tmp_path / "labels.npy", slices=(2, 6))
        if first == 1:
            with pytest.raises(VolumeError, match=r"got labels of shape \(5, 32, 32\)"):
                cached_volume(settings, tmp_path / "cache")
            break
        volume = cached_volume(settings, tmp_path / "cache")
        assert np.array_equal(volume.labels, labels[2:])
        shas.append(volume.labels_sha256)
    assert len(shas) == 2
    assert len(set(shas)) == 1
