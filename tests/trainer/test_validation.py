"""Validation: whole planes, rounded as in deployment, scored at every threshold."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sennet_engine.metrics.surface_dice import surface_dice
from sennet_trainer.labelled_volume import cached_volume
from sennet_trainer.losses.table import bce_dice, dice
from sennet_trainer.network import Segmenter
from sennet_trainer.settings import FitSettings, ValidationSettings
from sennet_trainer.validation import predicted_plane, validation_score

from .conftest import CPU

SettingsOf = Callable[..., FitSettings]


class DarkIsVessel(nn.Module):
    """Probability 1 - grey / 255."""

    def forward(self, grey: Tensor) -> Tensor:
        return torch.logit(1 - grey / 255, eps=1e-6)


def dark_is_vessel() -> Segmenter:
    return Segmenter(DarkIsVessel(), normaliser=nn.Identity(), channels=1, stride=32)


@pytest.mark.parametrize("tile", [None, 32, 64])
@pytest.mark.parametrize("shape_yx", [(64, 96), (37, 101), (5, 3)])
def test_planes_of_any_size_come_back_in_place(shape_yx: tuple[int, int], tile: int | None) -> None:
    """Padding and tiling are undone: a network that looks at single pixels answers each at its place."""
    plane = np.random.default_rng(0).integers(0, 256, shape_yx, np.uint8)
    assert np.array_equal(predicted_plane(dark_is_vessel(), plane, tile=tile, device=CPU), 255 - plane)


@pytest.mark.parametrize("axes", ["z", "y", "zx"])
def test_scores_equal_those_of_the_whole_volume(settings_of: SettingsOf, tmp_path: Path, axes: str) -> None:
    """Plane by plane, along any axis, the score is that of the thresholded volume."""
    volume = cached_volume(settings_of().volumes[1].model_copy(update={"axes": axes}), tmp_path)
    for threshold in (0.3, 0.55):
        score = validation_score(dark_is_vessel(), [volume], ValidationSettings(thresholds=[threshold]), device=CPU)
        mask = (255 - volume.images) / 255 >= threshold
        both = np.count_nonzero(mask) + volume.labels.sum()
        assert score.surface_dice == pytest.approx(surface_dice(mask, volume.labels), abs=1e-12)
        assert score.dice == pytest.approx(2 * np.count_nonzero(mask & (volume.labels > 0)) / both)


def test_best_threshold_comes_with_its_stable_range(settings_of: SettingsOf, tmp_path: Path) -> None:
    """The best one has the highest surface Dice; the range ends where that falls by more than 0.01."""
    volume = cached_volume(settings_of().volumes[1], tmp_path)
    thresholds = [0.1, 0.3, 0.45, 0.5, 0.55, 0.6, 0.9]
    score = validation_score(dark_is_vessel(), [volume], ValidationSettings(thresholds=thresholds), device=CPU)
    alone = {
        threshold: validation_score(
            dark_is_vessel(), [volume], ValidationSettings(thresholds=[threshold]), device=CPU
        ).surface_dice
        for threshold in thresholds
    }
    assert score.surface_dice == max(alone.values()) == alone[score.threshold.value]
    low, high = score.threshold.low, score.threshold.high
    assert low is not None
    assert high is not None
    assert all(value >= score.surface_dice - 0.01 for key, value in alone.items() if low <= key <= high)
    outside = [key for key in thresholds if key < low][-1:] + [key for key in thresholds if key > high][:1]
    assert all(alone[key] < score.surface_dice - 0.01 for key in outside)


def test_volumes_of_equal_name_get_a_number(settings_of: SettingsOf, tmp_path: Path) -> None:
    """Two parts of one volume are scored apart."""
    volume = settings_of().volumes[1]
    parts = [cached_volume(volume.model_copy(update={"slices": part}), tmp_path) for part in ((0, 6), (6, 12))]
    score = validation_score(dark_is_vessel(), parts, ValidationSettings(thresholds=[0.5]), device=CPU)
    assert list(score.volumes) == ["tubes/validation along z", "tubes/validation 2 along z"]


def test_dice_is_taken_over_the_whole_batch() -> None:
    """One crop without a vessel does not weigh as much as one with many."""
    labels = torch.zeros(2, 1, 8, 8)
    labels[0, 0, :4] = 1
    logits = torch.where(labels > 0, 2.0, -1.0)
    p, q = torch.sigmoid(torch.tensor(2.0)), torch.sigmoid(torch.tensor(-1.0))
    expected = 1 - 2 * 32 * p / (32 * p + 96 * q + 32)
    torch.testing.assert_close(dice(logits, labels), expected)


def test_bce_dice_teaches_where_there_is_no_vessel() -> None:
    """Soft Dice is silent on a batch without a labelled pixel; with cross-entropy it is not."""
    logits, labels = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    assert dice(logits, labels) == 0
    assert bce_dice(logits, labels) > 0.3
