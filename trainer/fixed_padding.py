"""TensorFlow's SAME padding, made constant.

A `tf_` network pads by an amount that it works out from the size of what it is shown. For sizes that are multiples of
the network's stride the amount never changes: (kernel - 1) * dilation + 1 - stride, or none where that is negative,
with the odd pixel at the end. As a constant it exports with any size, and it costs nothing.
"""

import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from torch import Tensor, nn

Pads = tuple[int, int, int, int]


def with_fixed_padding(network: nn.Module) -> nn.Module:
    """Replace SAME-padded convolutions and poolings of `network`, in place, by constantly padded ones; returns it.

    Parameters and their names stay. The output is the same for sides that are multiples of the network's stride.
    Weight-standardised convolutions (NFNets) keep their own padding.
    """
    for name, child in network.named_children():
        replacement = REPLACEMENTS.get(type(child))
        if replacement is None:
            with_fixed_padding(child)
        else:
            setattr(network, name, replacement(child))
    return network


class FixedPadConv2d(nn.Conv2d):
    """A convolution with constant, possibly asymmetric, zero padding before it."""

    def __init__(self, same: Conv2dSame) -> None:
        super().__init__(
            same.in_channels, same.out_channels, same.kernel_size, same.stride, 0, same.dilation, same.groups,
            same.bias is not None, device="meta",
        )  # fmt: skip
        self.weight, self.bias = same.weight, same.bias
        self.pads = _pads(same.kernel_size, same.stride, same.dilation)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(F.pad(features, self.pads))


class FixedPadMaxPool2d(nn.MaxPool2d):
    """A maximum pooling with constant padding that never wins."""

    def __init__(self, same: MaxPool2dSame) -> None:
        super().__init__(same.kernel_size, same.stride, 0, same.dilation, ceil_mode=same.ceil_mode)
        self.pads = _pads(same.kernel_size, same.stride, same.dilation)

    def forward(self, features: Tensor) -> Tensor:
        largest: Tensor = super().forward(F.pad(features, self.pads, value=float("-inf")))
        return largest


class FixedPadAvgPool2d(nn.AvgPool2d):
    """An average pooling with constant zero padding."""

    def __init__(self, same: AvgPool2dSame) -> None:
        super().__init__(same.kernel_size, same.stride, 0, same.ceil_mode, same.count_include_pad)
        self.pads = _pads(same.kernel_size, same.stride, 1)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(F.pad(features, self.pads))


REPLACEMENTS: dict[type[nn.Module], type[nn.Module]] = {
    Conv2dSame: FixedPadConv2d,
    MaxPool2dSame: FixedPadMaxPool2d,
    AvgPool2dSame: FixedPadAvgPool2d,
}


def _pads(kernel: int | tuple[int, ...], stride: int | tuple[int, ...], dilation: int | tuple[int, ...]) -> Pads:
    """Left, right, top, bottom."""
    vertical, horizontal = (
        max((k - 1) * d + 1 - s, 0) for k, s, d in zip(_pair(kernel), _pair(stride), _pair(dilation), strict=True)
    )
    return horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
