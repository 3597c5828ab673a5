"""A sparsely labelled volume of dark tubes, and functions that predict it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from sennet_trainer.prediction.evaluation import Evaluation, Scoring, evaluate
from sennet_trainer.prediction.mean_probability import MeanProbability, mean_probability
from sennet_trainer.prediction.pseudo_labels import PseudoLabels, pseudo_label
from sennet_trainer.prediction.task import prediction_task
from sennet_trainer.volume_settings import VolumeSettings

from ..conftest import CPU, tubes_zyx

SHAPE_ZYX = (36, 52, 70)


class Watched:
    """An observer that only remembers.

    Attributes:
        calls: (what, done, total) in their order.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []

    def __call__(self, what: str, done: int, total: int) -> None:
        self.calls.append((what, done, total))

    @property
    def kinds(self) -> set[str]:
        """What was done at all."""
        return {what for what, _, _ in self.calls}

    def first(self, what: str) -> int:
        """How much of `what` was done when it was first heard of."""
        return next(done for name, done, _ in self.calls if name == what)


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """A folder with image.tif, labels.tif, and sparse.tif, which lacks the vessels of one side of the volume."""
    folder = tmp_path / "volume"
    folder.mkdir()
    grey, labels = tubes_zyx(3, SHAPE_ZYX)
    tifffile.imwrite(folder / "image.tif", grey)
    tifffile.imwrite(folder / "labels.tif", labels * np.uint8(255))
    labels[:, :, 52:] = 0
    tifffile.imwrite(folder / "sparse.tif", labels)
    return folder


@pytest.fixture
def settings_of_sparse(sparse: Path) -> Callable[..., VolumeSettings]:
    """Settings of the sparse volume; keywords replace entries. Inverted, so that bright is vessel."""

    def settings(**changes: Any) -> VolumeSettings:
        table = {"images": sparse / "image.tif", "labels": sparse / "sparse.tif", "label_fraction": 0.8, "invert": True}
        return VolumeSettings.model_validate(table | changes)

    return settings


@pytest.fixture
def labelled_by(tmp_path: Path) -> Callable[..., PseudoLabels]:
    """`pseudo_label` into tmp_path/out on the CPU."""

    def run(volume: VolumeSettings, *networks: Path, **changes: Any) -> PseudoLabels:
        task = prediction_task(volume, networks, axes=changes.pop("axes", None), cache=tmp_path / "cache")
        options: dict[str, Any] = {"thresholds": None, "device": CPU, "observer": Watched()}
        return pseudo_label(task, changes.pop("out", tmp_path / "out"), **options | changes)

    return run


@pytest.fixture
def evaluated_by(tmp_path: Path) -> Callable[..., Evaluation]:
    """`evaluate` into tmp_path/evaluation on the CPU."""

    def run(volume: VolumeSettings, *networks: Path, **changes: Any) -> Evaluation:
        task = prediction_task(volume, networks, axes=changes.pop("axes", "z"), cache=tmp_path / "cache")
        out, observer = changes.pop("out", tmp_path / "evaluation"), changes.pop("observer", Watched())
        return evaluate(task, out, Scoring(**changes), device=CPU, observer=observer)

    return run


@pytest.fixture
def mean_by(tmp_path: Path) -> Callable[..., MeanProbability]:
    """`mean_probability` into tmp_path/probability on the CPU."""

    def run(volume: VolumeSettings, *networks: Path, axes: str = "zyx", observer: Any = None) -> MeanProbability:
        task = prediction_task(volume, networks, axes=axes, cache=tmp_path / "cache")
        return mean_probability(task, tmp_path / "probability", device=CPU, observer=observer or Watched())

    return run
