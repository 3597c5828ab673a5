"""A soft surface Dice: the metric's sums, expected over masks whose pixels are drawn independently."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sennet_engine.metrics.surface_area import surface_area_of_code

# By the dimensions of the logits: the area [lower half, upper half] of a neighbourhood, from which of the pixels of
# both halves are in the mask. Bit x of a half is its pixel (0, x) in 2D; bit 2y + x its voxel (0, y, x) in 3D. A 2×2
# neighbourhood is one of 2×2×2 that repeats along z: the area of its surface is the length of its contour.
_VOLUME_AREAS = torch.from_numpy(surface_area_of_code().reshape(16, 16).T.copy())
_PLANE_AREAS = torch.tensor(
    [[_VOLUME_AREAS[lower + 4 * upper, lower + 4 * upper] for upper in range(4)] for lower in range(4)],
    dtype=torch.float64,
)
_AREAS = {4: _PLANE_AREAS, 5: _VOLUME_AREAS}


def surface_dice(logits: Tensor, labels: Tensor) -> Tensor:
    """1 - soft surface Dice at tolerance 0 of `logits` and 0/1 `labels`, pooled over the batch.

    The score is the metric's (`sennet_engine.metrics.surface_dice`) with the expected area of the prediction's surface
    elements in place of their area, and the probability that an element is one in place of whether it is. On
    probabilities of 0 and 1 it is the metric, in 2D with the lengths of contours for areas. Only neighbourhoods that
    lie whole in the crop are counted, without the metric's padding by zeros: a vessel does not end where a crop does.

    It sharpens outlines and needs another loss beside it: a mask and its complement have the same surface, and alone it
    draws the outline of a large vessel and leaves the inside empty. 0, with gradient 0, where the batch has no true
    surface.

    Args:
        logits: float [B, 1, H, W] or [B, 1, D, H, W].
        labels: of the same shape and dtype.

    Raises:
        ValueError: `logits` have other dimensions.
    """
    if logits.ndim not in _AREAS:
        raise ValueError(f"got logits of shape {list(logits.shape)}, expected [B, 1, H, W] or [B, 1, D, H, W]")
    # One crop at a time, and again for its gradient: only one crop's intermediates, some 30 maps, are ever in memory.
    areas = _AREAS[logits.ndim].to(logits)
    sums = [
        checkpoint(_sums, *crop, areas, use_reentrant=False, preserve_rng_state=False)
        for crop in zip(logits, labels, strict=True)
    ]
    common, predicted_area, true_area = torch.stack(sums).sum(0).unbind()
    return (1 - common / (predicted_area + true_area).clamp_min(1e-6)) * (true_area > 0)


def _sums(logits: Tensor, labels: Tensor, areas: Tensor) -> Tensor:
    """The area in common, the expected area and the true area [3] of one crop's `logits` and `labels` [1, ...]."""
    area, is_surface = _expected_surface(torch.sigmoid(torch.cat((-logits, logits))), areas)
    true_area, is_true_surface = _expected_surface(torch.cat((1 - labels, labels)), areas)
    return torch.stack(((is_true_surface * area + true_area * is_surface).sum(), area.sum(), true_area.sum()))


def _expected_surface(states: Tensor, areas: Tensor) -> tuple[Tensor, Tensor]:
    """The expected area of every neighbourhood, and the probability that it is a surface element, of one crop.

    `states` [2, ...] are the probabilities that a pixel is out of the mask and in it. They are joined to those of the
    neighbourhood's lower half (4 states in 2D, 16 in 3D); the upper half is the lower one a step further. No term of
    the area is negative, so that nothing cancels: where there is surely no surface it is 0, and not a rounding.
    """
    for axis in range(states.ndim - 1, 1, -1):
        first, second = _neighbours(states, axis)
        states = (second.unsqueeze(1) * first).flatten(0, 1)
    # [states, ...]: the expected area under a given lower half, by where the upper half lies.
    given_lower = (areas @ states.flatten(1)).view_as(states)
    lower, upper = _neighbours(states, 1)
    area = (lower * _neighbours(given_lower, 1)[1]).sum(0)
    return area, 1 - lower[0] * upper[0] - lower[-1] * upper[-1]


def _neighbours(states: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """All positions along `axis` but the last one, and those a step further."""
    pairs = states.shape[axis] - 1
    return states.narrow(axis, 0, pairs), states.narrow(axis, 1, pairs)
