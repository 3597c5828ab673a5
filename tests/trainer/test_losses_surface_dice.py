"""The soft surface Dice is the engine's metric on hard masks, and an expectation on soft ones."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sennet_engine.metrics.surface_area import surface_area_of_code
from sennet_engine.metrics.surface_dice import surface_dice as metric
from sennet_trainer.losses.surface_dice import surface_dice


def blobs(*shape: int, seed: int) -> Tensor:
    """A 0/1 mask of smooth blobs, float32 [B, 1, ...]; two seeds have many surface elements in common."""
    common, own = (torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in (0, seed))
    blur = F.avg_pool2d if len(shape) == 4 else F.avg_pool3d
    return (blur(3 * common + own, 3, stride=1, padding=1) > 0.2).float()


def sure(mask: Tensor) -> Tensor:
    """Logits whose probabilities are the mask to the last bit of a float32."""
    return (2 * mask - 1) * 200


def test_3d_on_hard_masks_is_the_metric() -> None:
    """Of masks with an empty rim, as neighbourhoods across the border are not counted."""
    prediction, truth = (F.pad(blobs(1, 1, 12, 20, 16, seed=seed), (1,) * 6) for seed in (1, 2))
    expected = metric(prediction[0, 0].numpy(), truth[0, 0].numpy())
    assert 0.3 < expected < 0.95
    assert surface_dice(sure(prediction), truth).item() == pytest.approx(1 - expected, abs=1e-6)


def test_2d_on_hard_masks_is_3d_on_planes_that_repeat() -> None:
    """So lengths of contours take the place of areas."""
    prediction, truth = (blobs(2, 1, 20, 24, seed=seed) for seed in (1, 2))
    twice_prediction, twice_truth = (mask.unsqueeze(2).expand(-1, -1, 2, -1, -1) for mask in (prediction, truth))
    in_3d = surface_dice(sure(twice_prediction), twice_truth).item()
    assert 0.1 < in_3d < 0.7
    assert surface_dice(sure(prediction), truth).item() == pytest.approx(in_3d, abs=1e-6)


def test_batch_is_pooled() -> None:
    """Two crops score as one that holds both, not as the mean of two scores."""
    prediction, truth = (F.pad(blobs(2, 1, 6, 9, 8, seed=seed), (1,) * 6) for seed in (1, 2))
    stacked = metric(prediction.flatten(0, 2).numpy(), truth.flatten(0, 2).numpy())
    assert surface_dice(sure(prediction), truth).item() == pytest.approx(1 - stacked, abs=1e-6)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_one_neighbourhood_has_its_expected_area(dimensions: int) -> None:
    """The sum over all masks, each with its probability and its area of the metric's table."""
    area_of_code, shape = surface_area_of_code(), (2,) * dimensions
    probabilities = torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    truth = torch.zeros(shape, dtype=torch.float64)
    truth[..., 1, 0] = 1

    def area(mask: np.ndarray) -> float:
        return float(area_of_code[np.broadcast_to(mask, (2, 2, 2)).reshape(8) @ (1 << np.arange(8))])

    expected_area = is_surface = 0.0
    for values in itertools.product((0, 1), repeat=2**dimensions):
        mask = np.reshape(values, shape)
        probability = float(np.where(mask, probabilities, 1 - probabilities).prod())
        expected_area += probability * area(mask)
        is_surface += probability * (area(mask) > 0)
    true_area = area(truth.numpy().astype(int))
    expected = 1 - (expected_area + true_area * is_surface) / (expected_area + true_area)
    assert expected > 0.001
    found = surface_dice(torch.logit(probabilities)[None, None], truth[None, None]).item()
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shape", [(2, 1, 4, 5), (1, 1, 3, 3, 4)])
def test_gradient_is_that_of_the_loss(shape: tuple[int, ...]) -> None:
    """By finite differences in float64."""
    labels = blobs(*shape, seed=1).double()
    assert 0 < labels.mean() < 1
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: surface_dice(values, labels), logits)


def test_sure_background_adds_no_rounding_in_float32() -> None:
    """A quarter of a million pixels of probability 1e-9 about one small vessel: all is as in float64."""
    labels = torch.zeros(1, 1, 512, 512)
    labels[..., 250:254, 250:254] = 1
    results = []
    for dtype in (torch.float32, torch.float64):
        logits = torch.full(labels.shape, math.log(1e-9), dtype=dtype)
        logits[..., 250:255, 251:254] = 0.7
        logits.requires_grad_()
        loss = surface_dice(logits, labels.to(dtype))
        loss.backward()
        assert logits.grad is not None
        results.append((loss.item(), logits.grad.double()))
    (value, gradient), (exact_value, exact_gradient) = results
    assert value == pytest.approx(exact_value, rel=1e-5)
    torch.testing.assert_close(gradient, exact_gradient, rtol=0, atol=1e-6 * float(exact_gradient.abs().max()))
    background = ..., slice(0, 240), slice(0, None)
    assert (exact_gradient[background] > 0).all()
    torch.testing.assert_close(gradient[background], exact_gradient[background], rtol=1e-4, atol=0)


def test_mask_and_complement_have_the_same_surface() -> None:
    """Which is why the loss needs another one beside it."""
    labels = blobs(2, 1, 12, 12, seed=1)
    logits = torch.randn(labels.shape, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(surface_dice(logits, labels), surface_dice(-logits, labels))


def test_other_dimensions_are_refused() -> None:
    """By a message that says which are taken."""
    with pytest.raises(ValueError, match=r"shape \[1, 32, 32\], expected \[B, 1, H, W\] or \[B, 1, D, H, W\]"):
        surface_dice(torch.zeros(1, 32, 32), torch.zeros(1, 32, 32))
