"""The settings of a training run: one TOML file, validated whole before anything starts."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from sennet_engine.config import Config, load_config
from sennet_trainer.augmentation_settings import AugmentationSettings, Share
from sennet_trainer.network_settings import NetworkSettings
from sennet_trainer.volume_settings import VolumeSettings


def load_fit_settings(path: Path) -> "FitSettings":
    """Read the TOML file `path`; paths in it are relative to its folder and come back absolute.

    Raises:
        ConfigError: the file is missing or is no TOML, a key is unknown, a value is out of its range.
    """
    return load_config(path, FitSettings).resolved_from(path.resolve().parent)


class CropSettings(Config):
    """How crops are drawn."""

    side: int = Field(256, ge=32)
    """Side of a crop in pixels; a multiple of the network's stride."""
    per_epoch: int = Field(800, ge=1)
    """Crops in an epoch."""
    vessel_share: Share = 0.5
    """Share of the crops that are centred, with jitter, on a labelled voxel; the others lie anywhere. Augmentation may
    lose it again: of vessels one pixel wide in four crops of ten, of wider ones in one of twenty or fewer."""


LossName = Literal["dice", "bce", "bce_dice", "focal", "tversky", "boundary", "surface_dice"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


def _as_weights(loss: Any) -> Any:
    weights = {loss: 1.0} if isinstance(loss, str) else loss
    known = get_args(LossName)
    for name in weights if isinstance(weights, dict) else []:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            raise ValueError(
                f"got {name!r}; did you mean {near[0]!r}?" if near else f"got {name!r}, expected some of {known}"
            )
    return weights


class TrainingSettings(Config):
    """The optimisation: AdamW under a one-cycle learning rate."""

    epochs: int = Field(20, ge=1)
    batch: int = Field(8, ge=1)
    """Crops in a step, on all devices together. Losses are taken over the part of it that a device holds at once."""
    accumulate: int = Field(1, ge=1)
    """Parts that a batch is cut into, one after the other: less memory, the same number of crops in a step."""
    learning_rate: float = Field(2e-4, gt=0)
    """The peak of the one-cycle schedule."""
    weight_decay: float = Field(1e-2, ge=0)
    gradient_clip: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    loss: Annotated[
        dict[LossName, Annotated[float, Field(gt=0)]], Field(min_length=1), BeforeValidator(_as_weights)
    ] = {"dice": 1.0}
    """The name of a loss, or a table of losses and their weights, such as `{ dice = 1, focal = 1, boundary = 0.1 }`.

    `dice`: 1 - soft Dice, pooled over the batch. `bce`: binary cross-entropy. `bce_dice`: the mean of both.
    `focal`: cross-entropy that counts sure pixels less. `tversky`: Dice that counts missed pixels more than false ones.
    `boundary`: probability times the signed distance to the true boundary; negative at its best; beside another loss.
    `surface_dice`: the metric itself, made soft; beside another loss, as alone it leaves large vessels hollow.
    """
    ema: float | None = Field(None, gt=0, lt=1)
    """Validate and keep the exponential moving average of the weights, with this decay a step; absent: none."""
    precision: Precision = "auto"
    """The arithmetic of the network; `auto`: bfloat16 on a GPU that has it, else float32."""
    tensorboard: bool = False
    """Also write the curves for TensorBoard (pip install tensorboard) into the run's folder `tensorboard`."""
    threads: int | None = Field(None, ge=1)
    """Threads of the CPU; absent: as many as torch takes. Equal runs need equal threads."""
    workers: int = Field(0, ge=0)
    """Processes that prepare crops; 0: the training process itself. Does not change the result."""

    @model_validator(mode="after")
    def _parts_are_equal(self) -> "TrainingSettings":
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate: got {self.accumulate}, expected a divisor of batch = {self.batch}")
        return self


def _distinct_thresholds(thresholds: list[float]) -> list[float]:
    if len({round(threshold * 1000) for threshold in thresholds}) != len(thresholds):
        raise ValueError("expected thresholds that differ by 0.001 or more")
    return thresholds


Thresholds = Annotated[
    list[Annotated[float, Field(ge=0.001, le=0.999)]], Field(min_length=1), AfterValidator(_distinct_thresholds)
]


class ValidationSettings(Config):
    """Whole validation planes are predicted and scored at several thresholds."""

    every: int = Field(1, ge=1)
    """Epochs between validations; the last epoch is always validated."""
    thresholds: Thresholds = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    """The best of them by surface Dice is the run's threshold. They are taken to the thousandth."""
    tile: int | None = Field(None, ge=32)
    """Predict in abutting tiles of this side instead of whole planes: for networks that take one size only."""
    threshold_without: float = Field(0.5, ge=0.001, le=0.999)
    """The threshold of a run that has no validation volume."""


class FitSettings(Config):
    """All of a training run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the run's folder and, later, the model."""
    seed: int = Field(0, ge=0, le=2**63 - 1)
    """Decides the initial weights, every crop and every augmentation."""
    voxel_size_um: float = Field(gt=0)
    """The magnification that the network is trained for, micrometres a pixel."""
    network: NetworkSettings
    start_from: Path | None = None
    """A finished run whose weights the network starts from, in place of `encoder_weights`."""
    volumes: list[VolumeSettings] = Field(min_length=1)
    crops: CropSettings = CropSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    training: TrainingSettings = TrainingSettings()
    validation: ValidationSettings = ValidationSettings()

    @model_validator(mode="after")
    def _something_to_train_on(self) -> "FitSettings":
        if not any(volume.role == "train" for volume in self.volumes):
            raise ValueError('volumes: none has role = "train"; give at least one to train on')
        return self

    @model_validator(mode="after")
    def _validated_on_other_planes(self) -> "FitSettings":
        for one in (volume for volume in self.volumes if volume.role == "train"):
            for other in (volume for volume in self.volumes if volume.role == "validation"):
                if one.images.resolve() == other.images.resolve() and _overlap(one.slices, other.slices):
                    raise ValueError(
                        f"volumes: {one.images} is trained and validated on with common planes, which makes the scores "
                        f"worthless; give each role its own slices"
                    )
        return self

    @property
    def shown_voxel_sizes_um(self) -> tuple[float, float]:
        """The smallest and the largest voxel size that training crops look like, after magnification."""
        magnified = self.augmentation.shift_scale_rotate > 0 or self.augmentation.target_voxel_size_um is not None
        shown = []
        for volume in (volume for volume in self.volumes if volume.role == "train"):
            size = volume.voxel_size_um or self.voxel_size_um
            low, high = self.augmentation.scale_for(size) if magnified else (1.0, 1.0)
            shown += [size / high, size / low]
        return min(shown), max(shown)

    def resolved_from(self, folder: Path) -> "FitSettings":
        """The same settings with every relative path taken from `folder`."""
        volumes = [
            volume.model_copy(
                update={"images": folder / volume.images, "labels": volume.labels and folder / volume.labels}
            )
            for volume in self.volumes
        ]
        start = self.start_from and folder / self.start_from
        return self.model_copy(
            update={"volumes": volumes, "network": self.network.resolved_from(folder), "start_from": start}
        )


def _overlap(one: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    """Whether two ranges of planes, of which None is all, have a plane in common."""
    return one is None or other is None or (one[0] < other[1] and other[0] < one[1])
