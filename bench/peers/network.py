"""The network of a bundle in torch, from its weights and its card."""

import re

import torch
from safetensors.torch import load

from sennet_engine.bundle import Bundle
from sennet_engine.errors import ConfigError, ModelError
from sennet_trainer.network import Segmenter, build_segmenter
from sennet_trainer.network_settings import NetworkSettings

# The convolutions whose outputs are the decoder's channels, from the deepest on: of Unet, and of UnetPlusPlus.
DECODER_WIDTH = re.compile(r"network\.decoder\.blocks\.(?:x_0_)?(\d+)\.conv1\.0\.weight")


def network_from_bundle(bundle: Bundle) -> Segmenter:
    """The network that the bundle's fp32 file computes, in evaluation mode: grey levels in, logits out.

    A card does not tell the depth of the encoder and the channels of the decoder: they follow from the stride and from
    the shapes of the weights.

    Raises:
        ModelError: the bundle holds no weights, or they are not of the network that its card names.
    """
    names = [name for name, file in bundle.card.files.items() if file.kind == "weights"]
    if not names:
        raise ModelError(
            f"{bundle.path}: holds no weights, which peers need; export the model again with sennet-export"
        )
    weights = load(bundle.verified_bytes(names[0]))
    try:
        network = build_segmenter(_settings(bundle, weights))
        network.load_state_dict(weights)
    except (ConfigError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"{bundle.path}: its weights do not fit a {bundle.card.decoder} on {bundle.card.encoder} with the options "
            f"that can be told from them ({str(error).splitlines()[0]}); compare a bundle of plain decoder options"
        ) from error
    return network.eval()


def _settings(bundle: Bundle, weights: dict[str, torch.Tensor]) -> NetworkSettings:
    card = bundle.card
    found = {int(match[1]): len(weights[key]) for key in weights if (match := DECODER_WIDTH.fullmatch(key))}
    channels = [found[index] for index in sorted(found)]
    return NetworkSettings(
        decoder=card.decoder,
        encoder=card.encoder,
        encoder_depth=card.tiling.stride.bit_length() - 1,
        decoder_options={"decoder_channels": channels} if channels else {},
        normalisation=card.normalisation,
    )
