"""A segmentation network with its normalisation at its door: grey levels in, logits out."""

import difflib
import inspect
import logging
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from segmentation_models_pytorch.base.model import SegmentationModel
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn

from sennet_engine.errors import ConfigError
from sennet_trainer.fixed_padding import with_fixed_padding
from sennet_trainer.network_settings import NetworkSettings
from sennet_trainer.normalisation import normaliser_from

logger = logging.getLogger(__name__)

# Set from the other settings, and therefore not among the decoder's options.
OWN_OPTIONS = ("encoder_name", "encoder_depth", "encoder_weights", "in_channels", "classes", "activation", "aux_params")
CHANNELS = 1
FULL_DEPTH = 5


class Segmenter(nn.Module):
    """A network of segmentation_models_pytorch that takes grey levels.

    Attributes:
        network: the smp network, with `encoder`, `decoder` and `segmentation_head`.
        channels: grey-level channels of the input.
        stride: sides of the input are multiples of it.
    """

    def __init__(self, network: nn.Module, *, normaliser: nn.Module, channels: int, stride: int) -> None:
        super().__init__()
        self.normaliser = normaliser
        self.network = network
        self.channels = channels
        self.stride = stride

    def forward(self, grey: Tensor) -> Tensor:
        """Logits float32 [B, 1, H, W] of `grey`, float32 [B, C, H, W] in 0..255."""
        logits: Tensor = self.network(self.normaliser(grey))
        return logits


class Untouched(nn.Module):
    """In the place of a stage without influence on the output. Some encoders run theirs all the same."""

    def forward(self, features: Tensor, *_options: Any) -> Tensor:
        return features


def build_segmenter(settings: NetworkSettings) -> Segmenter:
    """The network of `settings` with random weights; nothing is read from a disk or from the network.

    SAME padding is constant in it (see `fixed_padding`), so that training and export run the same network.

    Raises:
        ConfigError: an unknown decoder or encoder (names the near ones), or options that they do not take.
    """
    decoder = _decoder_class(settings.decoder)
    _check_encoder(settings.encoder)
    _check_options(settings, decoder)
    try:
        network = decoder(
            encoder_name=settings.encoder,
            encoder_depth=settings.encoder_depth,
            encoder_weights=None,
            in_channels=CHANNELS,
            classes=1,
            **settings.decoder_options,
        )
    except (TypeError, ValueError, KeyError, AssertionError, RuntimeError) as error:
        raise ConfigError(
            f"network: {settings.decoder} with the encoder {settings.encoder!r} at depth {settings.encoder_depth} and "
            f"the options {settings.decoder_options} cannot be built: {error}; change one of them"
        ) from error
    encoder: Any = network.get_submodule("encoder")
    _drop_unused_stages(encoder)
    if settings.encoder_depth < FULL_DEPTH:
        _drop_untouched(encoder, network, side=2 * 2**FULL_DEPTH)
    with_fixed_padding(network)
    return Segmenter(
        network,
        normaliser=normaliser_from(settings.normalisation),
        channels=CHANNELS,
        stride=int(encoder.output_stride),
    )


def encoder_options(settings: NetworkSettings) -> dict[str, Any]:
    """The options that smp hands on to the encoder, since the decoder class does not name them."""
    named = inspect.signature(_decoder_class(settings.decoder).__init__).parameters
    return {key: value for key, value in settings.decoder_options.items() if key not in named}


def _decoder_class(name: str) -> type[nn.Module]:
    classes: list[Any] = [value for value in vars(smp).values() if inspect.isclass(value)]
    known: dict[str, type[nn.Module]] = {
        cls.__name__: cls for cls in classes if issubclass(cls, SegmentationModel) and cls is not SegmentationModel
    }
    if name not in known:
        raise ConfigError(f"network.decoder: got {name!r}; {_near(name, list(known))}")
    return known[name]


def _check_encoder(name: str) -> None:
    if name.startswith("tu-") and timm.is_model(name.removeprefix("tu-")):
        return
    known = [*smp.encoders.get_encoder_names(), *(f"tu-{model}" for model in timm.list_models())]
    if name not in known:
        raise ConfigError(f"network.encoder: got {name!r}; {_near(name, known)}")


def _check_options(settings: NetworkSettings, decoder: type[nn.Module]) -> None:
    """smp drops options that neither decoder nor encoder takes without a word, except for `tu-` encoders."""
    named = [
        key for key in inspect.signature(decoder.__init__).parameters if key not in (*OWN_OPTIONS, "self", "kwargs")
    ]
    for key in settings.decoder_options:
        if key in OWN_OPTIONS or (key not in named and not settings.encoder.startswith("tu-")):
            raise ConfigError(f"network.decoder_options: got the option {key!r}; {_near(key, named)}")


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"known ones: {', '.join(known[:40])}"


def _drop_unused_stages(encoder: nn.Module) -> None:
    """timm's EfficientNets build and run all stages whatever the depth; take the ones off that nothing reads."""
    model = getattr(encoder, "model", None)
    if isinstance(model, EfficientNetFeatures | MobileNetV3Features):
        del model.blocks[max(model._stage_out_idx) :]


def _drop_untouched(encoder: nn.Module, network: nn.Module, *, side: int) -> None:
    """smp's own encoders build all stages whatever the depth; replace those that no gradient reaches."""
    network.eval()  # one tile is too few for batch norm, and statistics must not move
    try:
        with torch.enable_grad():
            network(torch.zeros(1, CHANNELS, side, side)).sum().backward()
    except (RuntimeError, AssertionError, ValueError) as error:
        # It takes tiles of one size only.
        logger.info("stages that nothing reads are kept, since a tile of %d cannot be tried: %s", side, error)
        return
    finally:
        network.train()
    _replace_untouched(encoder)
    network.zero_grad(set_to_none=True)


def _replace_untouched(module: nn.Module) -> None:
    for name, child in module.named_children():
        parameters = list(child.parameters())
        if parameters and all(one.requires_grad and one.grad is None for one in parameters):
            setattr(module, name, Untouched())
        elif isinstance(child, nn.Sequential | nn.ModuleList):
            _replace_untouched(child)
