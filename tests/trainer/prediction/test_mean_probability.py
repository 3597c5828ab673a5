"""The mean probability: every pass, out of core, resumable, in bytes that lose nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sennet_engine.bundle import open_bundle
from sennet_engine.metrics.surface_dice import surface_dice
from sennet_engine.planning.axes import seen_along
from sennet_engine.planning.layout import blend_weights
from sennet_engine.runtimes import open_predictor
from sennet_trainer.fit import fit
from sennet_trainer.labelled_volume import cached_volume
from sennet_trainer.prediction import mean_probability as module
from sennet_trainer.prediction import passes
from sennet_trainer.prediction.mean_probability import MeanProbability
from sennet_trainer.prediction.passes import Pass, passes_of
from sennet_trainer.prediction.teacher import teacher_from_path
from sennet_trainer.run_folder import load_run
from sennet_trainer.settings import FitSettings
from sennet_trainer.volume_settings import VolumeSettings

from ..conftest import CPU, Silent
from .conftest import SHAPE_ZYX, Watched

MeanBy = Callable[..., MeanProbability]
SettingsOf = Callable[..., VolumeSettings]


def passes_over(images: Any, networks: list[Path], axes: str) -> list[Pass]:
    """Every network along every axis; nothing is predicted."""
    return passes_of(images.shape, [teacher_from_path(path) for path in networks], axes, folder=Path(), device=CPU)


def plain_answer(one: Pass, images: Any, tile_answer: Callable[[Any], Any]) -> Any:
    """[Z, Y, X] float64: the volume plane by plane and tile by tile; `tile_answer` is given uint8 [1, 1, H, W].

    Blended tiles are averaged by their weights, not rounded.
    """
    answer = np.zeros(images.shape)
    planes, answers = seen_along(images, one.axis), seen_along(answer, one.axis)
    for number, plane in enumerate(planes):
        layout = one.plan.passes[0].layout_of(number)
        padding = [(0, padded - size) for padded, size in zip(layout.padded_shape, plane.shape, strict=True)]
        padded_plane, weights = np.pad(plane, padding, mode="symmetric"), np.zeros(plane.shape)
        for tile in layout:
            weight = blend_weights(tile.shape) if layout.blended else np.ones(tile.shape)
            of_tile = tile_answer(np.ascontiguousarray(padded_plane[tile.slices])[None, None])[0, 0]
            for kept in tile.kept:
                answers[number][kept.slices] += (weight * of_tile)[kept.within(tile)]
                weights[kept.slices] += weight[kept.within(tile)]
        answers[number] /= weights
    return answer


def reference_sums(images: Any, bundles: list[Path], axes: str) -> Any:
    """The sum over passes, each of them rounded half up, whole and in memory."""
    sums = np.zeros(images.shape, int)
    for one in passes_over(images, bundles, axes):
        with open_predictor(open_bundle(one.teacher.path), threads=1) as predictor:
            sums += np.floor(plain_answer(one, images, predictor.predict) + 0.5).astype(int)
    return sums


@pytest.fixture
def never_exact(strided_bundle: Path) -> Callable[[int], Path]:
    """A copy of the strided bundle whose card says that it is exact on no tiles; they have a side of its own."""

    def bundle(side: int) -> Path:
        path = strided_bundle.with_name(f"blended{side}.model")
        shutil.copytree(strided_bundle, path)
        card = json.loads((path / "model.json").read_text())
        card["tiling"] |= {"exact": False, "halo": 0, "sides": [side], "default_side": side}
        (path / "model.json").write_text(json.dumps(card))
        return path

    return bundle


@pytest.mark.parametrize("axes", ["z", "y", "x", "zyx", "xz"])
def test_sums_are_those_of_the_reference(
    settings_of_sparse: SettingsOf, mean_by: MeanBy, tmp_path: Path, never_exact: Callable[[int], Path],
    strided_bundle: Path, monkeypatch: pytest.MonkeyPatch, axes: str,
) -> None:  # fmt: skip
    """However slabs and blocks cut the volume, each pass is added at its voxels, once; tiles are blended or not."""
    monkeypatch.setattr(passes, "LARGEST_SLAB_PLANES", 7)
    monkeypatch.setattr(module, "BLOCK_BYTES", 5 * 2 * SHAPE_ZYX[1] * SHAPE_ZYX[2])
    networks = [strided_bundle, never_exact(32)]
    mean = mean_by(settings_of_sparse(), *networks, axes=axes)
    images = cached_volume(settings_of_sparse(), tmp_path / "cache").images
    assert mean.passes == 2 * len(axes)
    assert mean.sums.dtype == np.uint16
    assert (mean.sums == reference_sums(images, networks, axes)).all()


def test_tiles_are_blended_where_a_network_is_not_known_to_be_exact(
    settings_of_sparse: SettingsOf, mean_by: MeanBy, never_exact: Callable[[int], Path], strided_bundle: Path
) -> None:
    """Small tiles without context answer otherwise than the whole plane, which one exact tile holds here."""
    whole = mean_by(settings_of_sparse(), strided_bundle, axes="z").sums.astype(int)
    blended = mean_by(settings_of_sparse(), never_exact(32), axes="z").sums.astype(int)
    differing = whole != blended
    assert 0.01 < differing.mean() < 0.9
    # Seams are smooth: the edge of a tile counts little beside the middle of its neighbour.
    assert np.abs(whole - blended)[differing].mean() < 10


def test_slabs_are_thinner_where_planes_are_larger(strided_bundle: Path) -> None:
    """A slab stays within its memory whatever the volume, and never falls below a plane."""
    for shape in ((100, 200, 300), (5000, 4000, 3000), (10, 5000, 5000)):
        (one,) = passes_of(shape, [teacher_from_path(strided_bundle)], "z", folder=Path(), device=CPU)
        padded = one.plan.passes[0].layouts[0].padded_shape
        thickest = max(map(len, one.plan.slabs))
        slab_bytes = thickest * padded[0] * padded[1] * passes.SLAB_BYTES_A_VOXEL
        assert thickest == 1 or slab_bytes <= passes.LARGEST_SLAB_BYTES
        assert [slab.start for slab in one.plan.slabs[1:]] == [slab.stop for slab in one.plan.slabs[:-1]]
        assert (one.plan.slabs[0].start, one.plan.slabs[-1].stop) == (0, shape[0])


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
    segmenter = load_run(run).segmenter

    def answer(tiles: Any) -> Any:
        with torch.inference_mode():
            return torch.sigmoid(segmenter(torch.from_numpy(tiles.astype(np.float32)))).numpy()

    return np.mean([plain_answer(one, images, answer) for one in passes_over(images, [run], "zyx")], axis=0)


def test_bytes_lose_nothing_that_the_threshold_sees(
    settings_of: Callable[..., FitSettings], settings_of_sparse: SettingsOf, mean_by: MeanBy, tmp_path: Path
) -> None:
    """The mean of bytes is within a grey level of that of floats: half of it by the tiles, half by their blending. At
    the network's own threshold fewer than 2 of 1000 vessel voxels differ, all of them within a level of it, and surface
    Dice by less than 0.002."""
    changes = {"crops": {"side": 64, "per_epoch": 32}, "training": {"epochs": 4, "batch": 4, "learning_rate": 3e-3}}
    fit(settings_of(**changes), tmp_path / "run", device=CPU, observer=Silent())
    volume = settings_of_sparse(invert=False, labels=tmp_path / "volume" / "labels.tif")
    mean = mean_by(volume, tmp_path / "run")
    cached = cached_volume(volume, tmp_path / "cache")
    floats = float_mean(tmp_path / "run", cached.images)
    a_level = 1 / 255 + 1e-6
    assert np.abs(mean.sums / (255 * 3) - floats).max() <= a_level
    threshold = load_run(tmp_path / "run").threshold.value
    by_bytes, by_floats = mean.sums >= mean.level(round(1000 * threshold)), floats >= threshold
    flipped = by_bytes != by_floats
    assert np.abs(floats[flipped] - threshold).max(initial=0) <= a_level
    assert np.count_nonzero(flipped) < 2e-3 * np.count_nonzero(by_floats)
    assert surface_dice(by_bytes, cached.labels) == pytest.approx(surface_dice(by_floats, cached.labels), abs=2e-3)
    assert surface_dice(by_floats, cached.labels) > 0.6
