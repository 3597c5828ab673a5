"""Small labelled volumes of dark tubes, and settings to train on them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import torch

from sennet_trainer.history import EpochRow
from sennet_trainer.settings import FitSettings

TINY_NETWORK: dict[str, Any] = {
    "encoder": "resnet18",
    "encoder_depth": 3,
    "decoder_options": {"decoder_channels": [16, 8, 8]},
}
CPU = torch.device("cpu")


class Silent:
    """An observer that only remembers."""

    def __init__(self) -> None:
        self.rows: list[EpochRow] = []
        self.losses: list[float] = []
        self.epochs_done: int | None = None

    def starts(self, *, epochs_done: int, epochs: int, steps: int) -> None:
        self.epochs_done = epochs_done
        self.steps_in_all = epochs * steps

    def step(self, loss: float) -> None:
        self.losses.append(loss)

    def epoch(self, row: EpochRow) -> None:
        self.rows.append(row)


class StopsAfter(Silent):
    """Raises as soon as `epochs` epochs are finished."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs = epochs

    def epoch(self, row: EpochRow) -> None:
        super().epoch(row)
        if row.epoch == self._epochs:
            raise KeyboardInterrupt


def tubes_zyx(seed: int, shape_zyx: tuple[int, int, int] = (12, 96, 96)) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """A uint16 volume of bright noisy tissue with dark tubes, and its 0/1 labels."""
    draw = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.arange(extent) for extent in shape_zyx), indexing="ij")
    labels = np.zeros(shape_zyx, bool)
    for _ in range(12):
        centre_y, centre_x = draw.uniform(0, shape_zyx[1]), draw.uniform(0, shape_zyx[2])
        slope_y, slope_x, radius = draw.uniform(-1, 1), draw.uniform(-1, 1), draw.uniform(2, 5)
        labels |= np.hypot(y - centre_y - slope_y * z, x - centre_x - slope_x * z) < radius
    grey = 1200 - 500 * labels + draw.normal(0, 60, shape_zyx)
    return grey.round().astype(np.uint16), labels.astype(np.uint8)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Threads that wait for each other on busy processors make small networks ten times slower."""
    torch.set_num_threads(1)


@pytest.fixture
def tubes(tmp_path: Path) -> Path:
    """A folder with train.tif, train_labels.tif, validation.tif and validation_labels.tif."""
    folder = tmp_path / "tubes"
    folder.mkdir()
    for seed, name in enumerate(("train", "validation")):
        grey, labels = tubes_zyx(seed)
        tifffile.imwrite(folder / f"{name}.tif", grey)
        tifffile.imwrite(folder / f"{name}_labels.tif", labels * np.uint8(255 if name == "train" else 1))
    return folder


@pytest.fixture
def settings_of(tubes: Path) -> Callable[..., FitSettings]:
    """Settings of a quick training on the tubes; keywords replace whole top-level entries."""

    def settings(**changes: Any) -> FitSettings:
        table: dict[str, Any] = {
            "name": "tiny",
            "voxel_size_um": 50.0,
            "network": TINY_NETWORK,
            "volumes": [
                {"images": tubes / "train.tif", "labels": tubes / "train_labels.tif", "axes": "z"},
                {
                    "images": tubes / "validation.tif",
                    "labels": tubes / "validation_labels.tif",
                    "axes": "z",
                    "role": "validation",
                },
            ],
            "crops": {"side": 64, "per_epoch": 16},
            "training": {"epochs": 3, "batch": 4, "learning_rate": 3e-3},
        }
        return FitSettings.model_validate(table | changes)

    return settings
