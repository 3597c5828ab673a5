"""The boundary loss weighs probabilities by their distance to the true boundary."""

import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from sennet_trainer.losses.boundary import REACH_PX, boundary, signed_distance


def random_labels(*shape: int, share: float = 0.02, dtype: torch.dtype = torch.float32) -> Tensor:
    """Labels [B, 1, ...] of scattered blobs."""
    torch.manual_seed(1)
    seeds = (torch.rand(shape) < share).float()
    blur = F.max_pool2d if len(shape) == 4 else F.max_pool3d
    return blur(seeds, 3, stride=1, padding=1).to(dtype)


@pytest.mark.parametrize("shape", [(3, 1, 60, 90), (2, 1, 10, 21, 60), (1, 1, 40, 3)])
def test_distances_are_exact_up_to_the_reach(shape: tuple[int, ...]) -> None:
    """As scipy finds them, less the half pixel from a pixel's centre to the boundary, over the reach."""
    labels = random_labels(*shape, share=0.0002)
    labels[:, :, :2, -1] = 1
    for label, found in zip(labels, signed_distance(labels), strict=True):
        inside = label[0].numpy() > 0.5
        outer, inner = distance_transform_edt(~inside), distance_transform_edt(inside)
        assert outer.max() > REACH_PX
        expected = torch.tensor(outer.clip(max=REACH_PX) - inner.clip(max=REACH_PX))
        expected -= expected.sign() / 2
        torch.testing.assert_close(found[0].double(), expected / (REACH_PX - 0.5), atol=1e-6, rtol=0)


def test_weights_do_not_depend_on_the_side_of_the_crop() -> None:
    """Nor do they leave [-1, 1]."""
    labels = F.pad(random_labels(1, 1, 20, 20), (REACH_PX,) * 4)
    larger = signed_distance(F.pad(labels, (50,) * 4))
    torch.testing.assert_close(larger[..., 50:-50, 50:-50], signed_distance(labels))
    assert (larger.min() < 0, larger.max()) == (True, 1)


def test_crop_without_a_boundary_is_beyond_its_reach() -> None:
    """On its own side of it: all 1 where nothing is labelled, all -1 where everything is."""
    labels = torch.stack((torch.zeros(1, 24, 24), torch.ones(1, 24, 24)))
    torch.testing.assert_close(signed_distance(labels), 1 - 2 * labels)


def test_loss_is_the_mean_of_probability_times_distance() -> None:
    """A column of two labelled pixels in a row of four, at known probabilities."""
    labels = torch.tensor([0.0, 1.0, 1.0, 0.0]).reshape(1, 1, 1, 4)
    probabilities = torch.tensor([0.2, 0.9, 0.6, 0.4]).reshape(1, 1, 1, 4)
    expected = 0.5 * (0.2 - 0.9 - 0.6 + 0.4) / (REACH_PX - 0.5) / 4
    assert boundary(torch.logit(probabilities), labels).item() == pytest.approx(expected, rel=1e-5)


def test_gradient_is_that_of_the_loss() -> None:
    """By finite differences in float64."""
    labels = random_labels(2, 1, 6, 7, dtype=torch.float64)
    assert labels.any()
    logits = torch.randn_like(labels).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: boundary(values, labels), logits)
