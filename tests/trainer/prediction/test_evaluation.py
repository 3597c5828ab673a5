"""Evaluation: every threshold from one pass, and one of them in full."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from sennet_engine.errors import ConfigError, VolumeError
from sennet_engine.metrics.surface_dice import surface_dice
from sennet_trainer.labelled_volume import cached_volume
from sennet_trainer.prediction.evaluation import Evaluation
from sennet_trainer.volume_settings import VolumeSettings

from .conftest import SHAPE_ZYX, Watched

EvaluatedBy = Callable[..., Evaluation]
SettingsOf = Callable[..., VolumeSettings]


@pytest.fixture
def dense(settings_of_sparse: SettingsOf, sparse: Path) -> VolumeSettings:
    """The volume with all of its labels."""
    return settings_of_sparse(labels=sparse / "labels.tif", label_fraction=1.0)


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    return 2 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth))


def test_scores_are_those_of_the_thresholded_volume(
    dense: VolumeSettings, evaluated_by: EvaluatedBy, identity_bundle: Path, tmp_path: Path
) -> None:
    """Each row, and the full scores at the given threshold, equal what the whole mask in memory gives."""
    found = evaluated_by(dense, identity_bundle, axes="zx", thresholds=[0.7, 0.2, 0.5], threshold=0.6)
    volume = cached_volume(dense, tmp_path / "cache")
    probability, truth = volume.images / 255, volume.labels > 0
    assert [row.threshold for row in found.rows] == [0.2, 0.5, 0.7]
    for row in found.rows:
        mask = probability >= row.threshold
        assert row.surface_dice == pytest.approx(surface_dice(mask, truth), abs=1e-12)
        assert row.dice == dice(mask, truth)
    mask = probability >= 0.6
    assert found.threshold_from == "given"
    assert found.at == pytest.approx(
        {
            "threshold": 0.6,
            "surface_dice": surface_dice(mask, truth),
            "surface_dice_1": surface_dice(mask, truth, tolerance=1.0),
            "dice": dice(mask, truth),
            "precision": np.count_nonzero(mask & truth) / np.count_nonzero(mask),
            "recall": np.count_nonzero(mask & truth) / np.count_nonzero(truth),
        }
    )


def test_the_sweep_reads_the_volume_once_for_all_thresholds(
    dense: VolumeSettings, evaluated_by: EvaluatedBy, identity_bundle: Path
) -> None:
    """Twenty thresholds, as many planes as the volume has."""
    observer = Watched()
    found = evaluated_by(dense, identity_bundle, observer=observer)
    assert len(found.rows) == 20
    assert [call for call in observer.calls if call[0] == "scoring"] == [
        ("scoring", done, SHAPE_ZYX[0]) for done in range(1, SHAPE_ZYX[0] + 1)
    ]


def test_best_threshold_and_its_stable_range_are_those_of_the_rows(
    dense: VolumeSettings, evaluated_by: EvaluatedBy, identity_bundle: Path, tmp_path: Path
) -> None:
    """And all of it is in the JSON file, with the pictures beside it."""
    found = evaluated_by(dense, identity_bundle)
    scores = {row.threshold: row.surface_dice for row in found.rows}
    assert scores[found.best_threshold] == max(scores.values())
    stable = [key for key in scores if found.stable_low <= key <= found.stable_high]
    assert all(scores[key] >= max(scores.values()) - 0.01 for key in stable)
    facts = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert Evaluation.model_validate(facts) == found
    for name in ("thresholds.png", "slices.png"):
        with Image.open(tmp_path / "evaluation" / name) as picture:
            assert min(picture.size) > 200


def test_the_threshold_is_the_networks_own_or_the_best_of_an_ensemble(
    dense: VolumeSettings, evaluated_by: EvaluatedBy, identity_bundle: Path, strided_bundle: Path
) -> None:
    """The result says which."""
    alone = evaluated_by(dense, identity_bundle)
    assert (alone.threshold_from, alone.at["threshold"]) == ("network", 0.5)
    both = evaluated_by(dense, identity_bundle, strided_bundle)
    assert (both.threshold_from, both.at["threshold"]) == ("sweep", both.best_threshold)


def test_other_thresholds_are_scored_without_predicting(
    dense: VolumeSettings, evaluated_by: EvaluatedBy, identity_bundle: Path
) -> None:
    """And equal ones are not scored again."""
    observer = Watched()
    first = evaluated_by(dense, identity_bundle)
    assert evaluated_by(dense, identity_bundle, observer=observer) == first
    assert observer.calls == []
    other = evaluated_by(dense, identity_bundle, threshold=0.3, observer=observer)
    assert other.at["threshold"] == 0.3
    assert observer.kinds == {"scoring"}


def test_a_score_that_is_nothing_by_nothing_is_null(
    dense: VolumeSettings, evaluated_by: EvaluatedBy, identity_bundle: Path, tmp_path: Path, sparse: Path
) -> None:
    """Nothing is found in a volume of one grey level: there is no precision, and the other scores are 0."""
    tifffile.imwrite(sparse / "flat.tif", np.full(SHAPE_ZYX, 7, np.uint8))
    flat = dense.model_copy(update={"images": sparse / "flat.tif", "invert": False})
    found = evaluated_by(flat, identity_bundle, threshold=0.5)
    assert found.at["precision"] is None
    assert [found.at[name] for name in ("surface_dice", "surface_dice_1", "dice", "recall")] == [0, 0, 0, 0]
    assert json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())["at"] == found.at


def test_centrelines_are_scored_where_asked(
    dense: VolumeSettings, evaluated_by: EvaluatedBy, identity_bundle: Path
) -> None:
    """clDice is between 0 and 1, and high for a good mask."""
    found = evaluated_by(dense, identity_bundle, cldice=True)
    assert found.at["cldice"] is not None
    assert 0.5 < found.at["cldice"] <= 1
    assert "cldice" not in evaluated_by(dense, identity_bundle).at


def test_what_cannot_be_scored_is_refused(
    dense: VolumeSettings, evaluated_by: EvaluatedBy, identity_bundle: Path
) -> None:
    """Pseudo-labels are not scored against, nor is a volume without labels; thresholds are probabilities."""
    with pytest.raises(VolumeError, match="real labels alone"):
        evaluated_by(dense.model_copy(update={"pseudo_labels": True}), identity_bundle)
    with pytest.raises(VolumeError, match="no voxel is labelled"):
        evaluated_by(dense.model_copy(update={"labels": None, "allow_empty": True}), identity_bundle)
    with pytest.raises(ConfigError, match="thresholds: got"):
        evaluated_by(dense, identity_bundle, threshold=0.0)
