"""What training makes small: logits against labels, over the whole batch."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.losses import DiceLoss, FocalLoss, TverskyLoss
from torch import Tensor

from sennet_trainer.losses.boundary import boundary
from sennet_trainer.losses.surface_dice import surface_dice
from sennet_trainer.settings import LossName

Loss = Callable[[Tensor, Tensor], Tensor]

# Dice and Tversky pool over the batch and all its pixels, and are 0 where the batch holds no labelled pixel at all.
_dice = DiceLoss(mode="binary", from_logits=True, log_loss=False)
_tversky = TverskyLoss(mode="binary", from_logits=True, log_loss=False, alpha=0.3, beta=0.7)
_focal = FocalLoss(mode="binary", gamma=2.0)


def dice(logits: Tensor, labels: Tensor) -> Tensor:
    """1 - soft Dice of float32 [B, 1, H, W] `logits` and 0/1 `labels` of the same shape."""
    loss: Tensor = _dice(logits, labels)
    return loss


def bce(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean binary cross-entropy; it also teaches batches without a labelled pixel."""
    return F.binary_cross_entropy_with_logits(logits, labels)


def bce_dice(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean of `dice` and `bce`."""
    return (dice(logits, labels) + bce(logits, labels)) / 2


def focal(logits: Tensor, labels: Tensor) -> Tensor:
    """`bce` in which a pixel weighs (1 - p)², p being the probability of its label (Lin et al. 2017, arXiv:1708.02002).

    Both classes weigh the same: the paper's alpha is left out.
    """
    loss: Tensor = _focal(logits, labels)
    return loss


def tversky(logits: Tensor, labels: Tensor) -> Tensor:
    """`dice` in which a missed pixel weighs 0.7 and a false one 0.3 (Salehi et al. 2017, arXiv:1706.05721)."""
    loss: Tensor = _tversky(logits, labels)
    return loss


LOSSES: dict[LossName, Loss] = {
    "dice": dice,
    "bce": bce,
    "bce_dice": bce_dice,
    "focal": focal,
    "tversky": tversky,
    "boundary": boundary,
    "surface_dice": surface_dice,
}


def loss_from(weights: Mapping[LossName, float]) -> Loss:
    """The sum of the named losses, each times its weight."""

    def weighted(logits: Tensor, labels: Tensor) -> Tensor:
        return torch.stack([weight * LOSSES[name](logits, labels) for name, weight in weights.items()]).sum()

    return weighted
