"""The mean probability: every pass, out of core, resumable, in bytes that lose nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sennet_engine.bundle import open_bundle
from sennet_engine.metrics.surface_dice import surface_dice
from sennet_engine.reference import reference_probability
from sennet_engine.runtimes import open_predictor
from sennet_engine.volumes.volume import ArrayVolume
from sennet_trainer.fit import fit
from sennet_trainer.labelled_volume import cached_volume
from sennet_trainer.prediction import mean_probability as module
from sennet_trainer.prediction import passes
from sennet_trainer.prediction.mean_probability import MeanProbability
from sennet_trainer.prediction.teacher import teacher_from_path
from sennet_trainer.run_folder import load_run
from sennet_trainer.settings import FitSettings
from sennet_trainer.volume_settings import VolumeSettings

from ..conftest import CPU, Silent
from .conftest import SHAPE_ZYX, Watched

MeanBy = Callable[..., MeanProbability]
SettingsOf = Callable[..., VolumeSettings]


def reference_sums(images: Any, bundles: list[Path], axes: str) -> Any:
    """The sum over passes as the engine's reference computes it, whole and in memory."""
    sums = np.zeros(images.shape, int)
    for path in bundles:
        teacher = teacher_from_path(path)
        with open_predictor(open_bundle(path), threads=1) as predictor:
            for axis in axes:
                moved = np.ascontiguousarray(np.moveaxis(images, "zyx".index(axis), 0))
                plan = passes._plan(moved.shape, teacher, batch=1)
                answer = reference_probability(ArrayVolume(moved), predictor, plan, window=passes.IDENTITY)
                sums += np.moveaxis(answer, 0, "zyx".index(axis))
    return sums


def test_grey_levels_reach_the_network_as_they_are() -> None:
    """The cached volume is windowed already: the pipeline's window changes no grey level."""
    levels = np.arange(256, dtype=np.uint8)
    assert (passes.IDENTITY.to_uint8(levels) == levels).all()


@pytest.mark.parametrize("axes", ["z", "y", "x", "zyx", "xz"])
def test_sums_are_those_of_the_reference(
    settings_of_sparse: SettingsOf, mean_by: MeanBy, tmp_path: Path, identity_bundle: Path, strided_bundle: Path,
    monkeypatch: pytest.MonkeyPatch, axes: str,
) -> None:  # fmt: skip
    """However slabs and blocks cut the volume, each pass is added at its voxels, once."""
    monkeypatch.setattr(passes, "LARGEST_SLAB_PLANES", 7)
    monkeypatch.setattr(module, "BLOCK_BYTES", 5 * 2 * SHAPE_ZYX[1] * SHAPE_ZYX[2])
    mean = mean_by(settings_of_sparse(), identity_bundle, strided_bundle, axes=axes)
    images = cached_volume(settings_of_sparse(), tmp_path / "cache").images
    assert mean.passes == 2 * len(axes)
    assert mean.sums.dtype == np.uint16
    assert (mean.sums == reference_sums(images, [identity_bundle, strided_bundle], axes)).all()


def test_slabs_are_thinner_where_planes_are_larger(strided_bundle: Path) -> None:
    """A slab stays within its memory whatever the volume, and never falls below a plane."""
    teacher = teacher_from_path(strided_bundle)
    for shape in ((100, 200, 300), (5000, 4000, 3000), (10, 60000, 60000)):
        plan = passes._plan(shape, teacher, batch=1)
        voxels = plan.grid.padded_shape[0] * plan.grid.padded_shape[1]
        thickest = max(slab.stop - slab.start for slab in plan.slabs)
        assert thickest == 1 or thickest * voxels * passes.SLAB_BYTES_A_VOXEL <= passes.LARGEST_SLAB_BYTES
        assert [slab.start for slab in plan.slabs[1:]] == [slab.stop for slab in plan.slabs[:-1]]
        assert (plan.slabs[0].start, plan.slabs[-1].stop) == (0, shape[0])


class Interrupts(Watched):
    """Raises when so much has been predicted."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self._planes = planes

    def __call__(self, what: str, done: int, total: int) -> None:
        super().__call__(what, done, total)
        if done >= self._planes:
            raise KeyboardInterrupt


def test_interrupted_prediction_goes_on_where_it_was(
    settings_of_sparse: SettingsOf, mean_by: MeanBy, strided_bundle: Path, tmp_path: Path
) -> None:
    """Slabs that are whole are not predicted again, and the sums are the same to the byte."""
    volume = settings_of_sparse()
    whole = (mean_by(volume, strided_bundle).path).read_bytes()
    shutil.rmtree(tmp_path / "probability")
    with pytest.raises(KeyboardInterrupt):
        mean_by(volume, strided_bundle, observer=Interrupts(68))  # 36 planes along z, 32 of 52 along y
    observer = Watched()
    again = mean_by(volume, strided_bundle, observer=observer)
    assert observer.first("predicting") == 68
    assert again.path.read_bytes() == whole
    assert {path.name for path in (tmp_path / "probability").iterdir()} == {"plan.json", "sums.npy"}


def test_slabs_of_another_network_or_volume_are_not_taken(
    settings_of_sparse: SettingsOf, mean_by: MeanBy, tmp_path: Path, identity_bundle: Path, strided_bundle: Path
) -> None:
    """What an interruption left belongs to its task: another one begins anew, and ends as if nothing had been there."""
    volume = settings_of_sparse()
    tasks: list[tuple[VolumeSettings, list[Path], str]] = [
        (volume, [strided_bundle], "zy"),
        (volume, [identity_bundle], "zy"),
        (volume, [strided_bundle], "yz"),
        (settings_of_sparse(invert=False), [strided_bundle], "yz"),
    ]
    for settings, networks, axes in tasks:
        with pytest.raises(KeyboardInterrupt):
            mean_by(settings, *networks, axes=axes, observer=Interrupts(36))
    observer = Watched()
    last = mean_by(volume, identity_bundle, axes="z", observer=observer)
    assert observer.first("predicting") == 0
    images = cached_volume(volume, tmp_path / "cache").images
    assert (last.sums == images).all()


def test_a_finished_prediction_is_not_run_again(
    settings_of_sparse: SettingsOf, mean_by: MeanBy, identity_bundle: Path
) -> None:
    """The second call does nothing at all, for other labels of the same images too."""
    first = mean_by(settings_of_sparse(), identity_bundle)
    observer = Watched()
    second = mean_by(settings_of_sparse(label_fraction=0.5), identity_bundle, observer=observer)
    assert first == second
    assert observer.calls == []


def float_mean(run: Path, images: Any) -> Any:
    """The mean over the three axes of what the network of `run` answers, never rounded; as `mean_probability` tiles."""
    segmenter, teacher = load_run(run).segmenter, teacher_from_path(run)
    total = np.zeros(images.shape, np.float64)
    for axis in range(3):
        moved = np.ascontiguousarray(np.moveaxis(images, axis, 0))
        plan = passes._plan(moved.shape, teacher, batch=1)
        answer = np.zeros(moved.shape, np.float32)
        for plane, padded in zip(answer, plan.grid.padded(moved), strict=True):
            for tile in plan.grid:
                grey = torch.from_numpy(plan.grid.cut(padded, tile).astype(np.float32))[None, None]
                with torch.inference_mode():
                    plane[tile.kept] = torch.sigmoid(segmenter(grey))[0, 0].numpy()[tile.kept_in_tile]
        total += np.moveaxis(answer, 0, axis)
    return total / 3


def test_bytes_lose_nothing_that_the_threshold_sees(
    settings_of: Callable[..., FitSettings], settings_of_sparse: SettingsOf, mean_by: MeanBy, tmp_path: Path
) -> None:
    """The mean of bytes is within half a grey level of that of floats. At the network's own threshold fewer than 2 of
    1000 vessel voxels differ, all of them within half a level of it, and surface Dice by less than 0.002."""
    changes = {"crops": {"side": 64, "per_epoch": 32}, "training": {"epochs": 4, "batch": 4, "learning_rate": 3e-3}}
    fit(settings_of(**changes), tmp_path / "run", device=CPU, observer=Silent())
    volume = settings_of_sparse(invert=False, labels=tmp_path / "volume" / "labels.tif")
    mean = mean_by(volume, tmp_path / "run")
    cached = cached_volume(volume, tmp_path / "cache")
    floats = float_mean(tmp_path / "run", cached.images)
    half_a_level = 0.5 / 255 + 1e-6
    assert np.abs(mean.sums / (255 * 3) - floats).max() <= half_a_level
    threshold = load_run(tmp_path / "run").threshold.value
    by_bytes, by_floats = mean.sums >= mean.level(round(1000 * threshold)), floats >= threshold
    flipped = by_bytes != by_floats
    assert np.abs(floats[flipped] - threshold).max(initial=0) <= half_a_level
    assert np.count_nonzero(flipped) < 2e-3 * np.count_nonzero(by_floats)
    assert surface_dice(by_bytes, cached.labels) == pytest.approx(surface_dice(by_floats, cached.labels), abs=2e-3)
    assert surface_dice(by_floats, cached.labels) > 0.6
