"""The boundary loss: probability times the signed distance to the boundary of the truth."""

import torch
from torch import Tensor

REACH_PX = 16
"""Distances are cut here and divided by it: a pixel's weight depends on its surroundings, not on the crop's side."""


def boundary(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over pixels of probability times `signed_distance` (Kervadec et al. 2019, arXiv:1812.07032, equation 5).

    It is smallest, and negative, where the prediction is the truth; its size does not depend on the sides of the crop.
    A crop without a labelled pixel lies beyond the reach of any boundary: there it is the mean probability.

    Args:
        logits: float [B, 1, H, W] or [B, 1, D, H, W].
        labels: 0/1, of the same shape and dtype.
    """
    return (torch.sigmoid(logits) * signed_distance(labels)).mean()


def signed_distance(labels: Tensor) -> Tensor:
    """Distance of every pixel's centre to the boundary of 0/1 `labels` [B, 1, ...], in [-1, 1], negative inside.

    The boundary runs between labelled and other pixels, 0.5 pixels from the nearest of both. Every image stands for
    itself, and its border is no boundary. Exact up to `REACH_PX`, which is 1, and from there on 1.
    """
    inside = labels > 0.5
    to_inside, to_outside = _distance_px(torch.cat((inside, ~inside)), dtype=labels.dtype).chunk(2)
    distance = to_inside - to_outside
    return (distance - distance.sign() / 2) / (REACH_PX - 0.5)


def _distance_px(targets: Tensor, *, dtype: torch.dtype) -> Tensor:
    """Distance of every pixel of `targets` [B, 1, ...], bool, to the nearest true one of its image, cut at the reach.

    Squared distances are sums over axes, so the nearest is found along one axis after the other.
    """
    squared = (~targets).to(torch.int16) * REACH_PX**2
    for axis in range(2, targets.ndim):
        nearest, size = squared.clone(), squared.shape[axis]
        for step in range(1, min(REACH_PX, size)):
            for here, there in ((0, step), (step, 0)):
                near = nearest.narrow(axis, here, size - step)
                torch.minimum(near, squared.narrow(axis, there, size - step) + step**2, out=near)
        squared = nearest
    return squared.to(dtype).sqrt()
