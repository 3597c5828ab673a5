"""Grey levels to what a network takes, as plain operators that export to any format."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sennet_engine.card import FixedNormalisation, Normalisation, TileNormalisation


def normaliser_from(normalisation: Normalisation) -> nn.Module:
    """The module that normalises float32 [B, C, H, W] in 0..255 as the card's `normalisation` says."""
    return NORMALISERS[type(normalisation)](normalisation)


class FixedNormaliser(nn.Module):
    """(grey / 255 - mean) / std, as one multiplication and one addition."""

    def __init__(self, settings: FixedNormalisation) -> None:
        super().__init__()
        self.factor = 1 / (255 * settings.std)
        self.shift = -settings.mean / settings.std

    def forward(self, grey: Tensor) -> Tensor:
        return grey * self.factor + self.shift


class TileNormaliser(nn.Module):
    """(grey - mean) / (std + epsilon) of each tile; beyond [low, high] the slope is `slope` instead of 1."""

    def __init__(self, settings: TileNormalisation) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, grey: Tensor) -> Tensor:
        centred = grey - _mean_of_tile(grey)
        deviation = torch.sqrt(_mean_of_tile(centred * centred))
        levels = centred / (deviation + self.settings.epsilon)
        inside = levels.clamp(self.settings.low, self.settings.high)
        return inside + (levels - inside) * self.settings.slope


def _mean_of_tile(values: Tensor) -> Tensor:
    """Row by row: onnxruntime's float32 sum over all pixels of a tile of 832 at once is off by 7e-5."""
    return values.mean(dim=3, keepdim=True).mean(dim=(1, 2), keepdim=True)


NORMALISERS: dict[type[Normalisation], Callable[..., nn.Module]] = {
    FixedNormalisation: FixedNormaliser,
    TileNormalisation: TileNormaliser,
}
