"""Every loss of the table teaches the truth, on labels as the trainer gives them."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sennet_trainer.losses.table import LOSSES, Loss, loss_from

EVERY_LOSS = pytest.mark.parametrize("name", list(LOSSES))


def vessels() -> Tensor:
    """Labels [2, 1, 32, 32]: a wide vessel that a thin one crosses, and two small ones."""
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    wide, thin = (y - 10) ** 2 + (x - 10) ** 2 <= 25, (x - y - 8).abs() < 2
    small = ((y - 20) ** 2 + (x - 10) ** 2 <= 1) | ((y - 8) ** 2 + (x - 25) ** 2 <= 9)
    return torch.stack((wide | thin, small)).unsqueeze(1).float()


def hard_dice(logits: Tensor, labels: Tensor) -> float:
    """Dice of the mask at probability 0.5."""
    mask = (logits > 0).float()
    return float(2 * (mask * labels).sum() / (mask + labels).sum())


def optimised(loss_of: Loss, start: Tensor, labels: Tensor) -> tuple[Tensor, list[float]]:
    """The logits that 150 steps of Adam lead to from `start`, and the loss before every step."""
    logits = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.3)
    losses = []
    for _ in range(150):
        loss = loss_of(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return logits.detach(), losses


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "surface_dice"])
def test_minimum_is_the_truth(name: str) -> None:
    """From a probability of 0.5 everywhere."""
    labels = vessels()
    logits, losses = optimised(LOSSES[name], torch.zeros_like(labels), labels)
    assert losses[-1] < 0.1 * losses[0]
    assert hard_dice(logits, labels) > 0.99


def test_surface_dice_mends_an_outline() -> None:
    """Alone, from a prediction that is vague and too small; its insides are filled already."""
    labels = vessels()
    start = 2 * F.avg_pool2d(labels, 3, stride=1, padding=1, count_include_pad=False) - 1.5
    assert hard_dice(start, labels) < 0.8
    logits, losses = optimised(LOSSES["surface_dice"], start, labels)
    assert losses[-1] < 0.1 * losses[0]
    assert hard_dice(logits, labels) > 0.95


def test_surface_dice_beside_a_little_bce_finds_the_truth() -> None:
    """From a probability of 0.5 everywhere."""
    labels = vessels()
    logits, losses = optimised(loss_from({"surface_dice": 1.0, "bce": 0.1}), torch.zeros_like(labels), labels)
    assert losses[-1] < 0.1 * losses[0]
    assert hard_dice(logits, labels) > 0.99


def test_weighted_sum() -> None:
    """Weights multiply the losses, which are added up."""
    torch.manual_seed(0)
    labels = vessels()
    logits = torch.randn_like(labels)
    dice, focal, boundary = (LOSSES[name](logits, labels) for name in ("dice", "focal", "boundary"))
    total = loss_from({"dice": 1.0, "focal": 2.0, "boundary": 0.1})(logits, labels)
    torch.testing.assert_close(total, dice + 2 * focal + 0.1 * boundary)


@EVERY_LOSS
def test_loss_is_a_float32_number_with_a_float32_gradient(name: str) -> None:
    """Whatever the layout in memory, and with the same value."""
    torch.manual_seed(0)
    labels = vessels()
    plain = torch.randn_like(labels)
    values = []
    for logits in (plain, plain.contiguous(memory_format=torch.channels_last), plain.mT.contiguous().mT):
        logits = logits.clone().requires_grad_()
        loss = LOSSES[name](logits, labels)
        loss.backward()
        assert logits.grad is not None
        assert (loss.shape, loss.dtype, logits.grad.dtype) == (torch.Size([]), torch.float32, torch.float32)
        assert logits.grad.isfinite().all()
        assert logits.grad.any()
        values.append(loss.item())
    assert values == pytest.approx([values[0]] * 3, rel=1e-5)


@EVERY_LOSS
@pytest.mark.parametrize("logit", [-200.0, -1.0, 0.0, 200.0])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_batch_of_one_label_has_a_finite_loss_and_gradient(name: str, logit: float, label: float) -> None:
    """Also where the probabilities are 0 or 1 to the last bit."""
    labels = torch.full((2, 1, 32, 32), label)
    logits = torch.full_like(labels, logit).requires_grad_()
    loss = LOSSES[name](logits, labels)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@EVERY_LOSS
def test_batch_without_a_labelled_pixel_lowers_the_logits_or_teaches_nothing(name: str) -> None:
    """Dice, Tversky and surface Dice have nothing to compare with; the others say that all of it is tissue."""
    labels = torch.zeros(2, 1, 32, 32)
    logits = torch.zeros_like(labels).requires_grad_()
    loss = LOSSES[name](logits, labels)
    loss.backward()
    assert logits.grad is not None
    if name in ("dice", "tversky", "surface_dice"):
        assert loss.item() == 0
        assert not logits.grad.any()
    else:
        assert (logits.grad > 0).all()


def test_tversky_counts_missed_pixels_more_than_false_ones() -> None:
    """7 to 3."""
    labels = torch.zeros(1, 1, 8, 8)
    labels[..., :4] = 1
    missing, false = (labels * 2 - 1) * 50, (labels * 2 - 1) * 50
    missing[..., 3], false[..., 4] = -50, 50
    tversky = LOSSES["tversky"]
    assert tversky(missing, labels).item() == pytest.approx(1 - 24 / (24 + 0.7 * 8), abs=1e-5)
    assert tversky(false, labels).item() == pytest.approx(1 - 32 / (32 + 0.3 * 8), abs=1e-5)


def test_focal_counts_sure_pixels_less() -> None:
    """A pixel of probability 0.9 for its label counts 0.1² of its cross-entropy."""
    logits = torch.logit(torch.full((1, 1, 4, 4), 0.9))
    labels = torch.ones_like(logits)
    focal, bce = (LOSSES[name](logits, labels).item() for name in ("focal", "bce"))
    assert focal == pytest.approx(0.01 * bce, rel=1e-4)
