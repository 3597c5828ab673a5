"""What training makes small: logits against labels, over the whole batch."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses import DiceLoss
from torch import Tensor

from sennet_trainer.settings import LossName

Loss = Callable[[Tensor, Tensor], Tensor]

# Pools over the batch and all its pixels; 0 where the batch holds no labelled pixel at all.
_dice = DiceLoss(mode="binary", from_logits=True, log_loss=False)


def dice(logits: Tensor, labels: Tensor) -> Tensor:
    """1 - soft Dice of float32 [B, 1, H, W] `logits` and 0/1 `labels` of the same shape."""
    loss: Tensor = _dice(logits, labels)
    return loss


def bce_dice(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean of `dice` and the binary cross-entropy; the latter also teaches batches without a labelled pixel."""
    return (dice(logits, labels) + F.binary_cross_entropy_with_logits(logits, labels)) / 2


LOSSES: dict[LossName, Loss] = {"dice": dice, "bce_dice": bce_dice}


def loss_from(weights: Mapping[LossName, float]) -> Loss:
    """The sum of the named losses, each times its weight."""

    def weighted(logits: Tensor, labels: Tensor) -> Tensor:
        return torch.stack([weight * LOSSES[name](logits, labels) for name, weight in weights.items()]).sum()

    return weighted
