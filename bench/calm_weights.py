"""Random weights as calm as trained ones: a small change of the input stays small, and logits are spread as usual."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from timm.models._efficientnet_blocks import EdgeResidual, InvertedResidual
from timm.models.maxxvit import MbConvBlock, PartitionAttentionCl
from timm.models.resnet import Bottleneck
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sennet_trainer.network import Segmenter

# With a gain of 1 a change of the input grows with every residual branch.
BRANCH_GAIN = 0.2
# What stays of a kernel's deviation from its mean. Random kernels differentiate, and so amplify noise.
SHARPNESS = 0.3
# Added to the variance of every channel, as a share of the mean variance of the layer's channels.
VARIANCE_FLOOR = 3.0
LOGIT_DEVIATION = 4.0
POSITIVE_SHARE = 0.01
RELATIVE_CHANGE = 1e-3

# The layers that a residual branch ends with, by the type of its block.
LAST_LAYERS: dict[type[nn.Module], tuple[str, ...]] = {
    Bottleneck: ("bn3",),
    InvertedResidual: ("bn3",),
    EdgeResidual: ("bn2",),
    MbConvBlock: ("conv3_1x1",),
    PartitionAttentionCl: ("attn.proj", "mlp.fc2"),
}


@dataclass(frozen=True)
class Calmness:
    """How calm a network is on some tiles.

    Attributes:
        logit_deviation: the standard deviation of its logits.
        positive_share: of the pixels, those with a probability of a half or more.
        amplification: the relative change of its logits (root mean square over standard deviation) over that of its
            input, for white noise of a thousandth of the input's standard deviation.
    """

    logit_deviation: float
    positive_share: float
    amplification: float


def calm(segmenter: Segmenter, tiles: Tensor, *, typical: Tensor) -> Calmness:
    """Make the random weights of `segmenter` calm on `tiles`, float32 [B, 1, S, S] in 0..255; in place.

    Kernels are made smoother, residual branches are damped, the statistics of batch norm are taken anew, and the head
    is scaled so that on `typical`, tiles likewise, the logits have a standard deviation of LOGIT_DEVIATION and
    POSITIVE_SHARE of them are above 0. Returns what is measured on these.
    """
    with torch.no_grad():
        for layer in segmenter.modules():
            if isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1):
                _soften(layer)
        for layer in _last_layers(segmenter):
            _damp(layer)
        _estimate_statistics(segmenter, tiles)
        logits = _logits(segmenter, typical)
        head = segmenter.get_submodule("network.segmentation_head.0")
        assert isinstance(head, nn.Conv2d)
        assert head.bias is not None
        factor = LOGIT_DEVIATION / logits.std()
        head.weight.mul_(factor)
        head.bias.sub_(_quantile(logits, 1 - POSITIVE_SHARE)).mul_(factor)
    return calmness(segmenter, typical)


def calmness(segmenter: Segmenter, tiles: Tensor) -> Calmness:
    """Measure `segmenter` on `tiles`, float32 [B, 1, S, S] in 0..255. The noise is the same every time."""
    noise = torch.randn(tiles.shape, generator=torch.Generator().manual_seed(0)) * tiles.std() * RELATIVE_CHANGE
    with torch.no_grad():
        before, after = _logits(segmenter, tiles), _logits(segmenter, tiles + noise)
    deviation = before.std()
    return Calmness(
        logit_deviation=float(deviation),
        positive_share=float((before >= 0).float().mean()),
        amplification=float((after - before).square().mean().sqrt() / deviation / RELATIVE_CHANGE),
    )


def _last_layers(segmenter: Segmenter) -> Iterator[nn.Module]:
    for block in segmenter.modules():
        if not getattr(block, "has_skip", True):
            continue  # it has nothing beside its branch, so a damped one would make all that follow it seem large
        for name in LAST_LAYERS.get(type(block), ()):
            yield block.get_submodule(name)


def _soften(layer: nn.Conv2d) -> None:
    mean = layer.weight.mean(dim=(2, 3), keepdim=True)
    softened = torch.lerp(mean, layer.weight, SHARPNESS)
    layer.weight.copy_(softened * (layer.weight.norm() / softened.norm()))


def _damp(layer: nn.Module) -> None:
    if isinstance(layer, _BatchNorm):
        nn.init.constant_(layer.weight, BRANCH_GAIN)  # timm begins some with 0, which would leave the branch out
        return
    for parameter in layer.parameters():
        parameter.mul_(BRANCH_GAIN)


def _estimate_statistics(segmenter: Segmenter, tiles: Tensor) -> None:
    """Each batch norm takes the statistics of what it is shown, and shows the next layers what it makes of them.

    A channel that hardly varies is not blown up to the deviation of the others: what it varies by is mostly noise.
    """

    def take(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(norm, _BatchNorm)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance + VARIANCE_FLOOR * variance.mean())

    segmenter.eval()
    hooks = [module.register_forward_pre_hook(take) for module in segmenter.modules() if isinstance(module, _BatchNorm)]
    segmenter(tiles)
    for hook in hooks:
        hook.remove()


def _logits(segmenter: Segmenter, tiles: Tensor) -> Tensor:
    return torch.cat([segmenter(tile[None]) for tile in tiles])


def _quantile(values: Tensor, share: float) -> Tensor:
    ordered = values.flatten().sort().values  # torch.quantile takes 16 million values at most
    return ordered[round(share * (len(ordered) - 1))]
