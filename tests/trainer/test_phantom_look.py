"""Phantoms resemble the scans where it was measured."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from sennet_trainer.phantom import PhantomSettings, make_phantom
from sennet_trainer.phantom.look import Kidney


def tissue_of(image: npt.NDArray[np.float64], labels: npt.NDArray[np.uint8], *, above: float) -> npt.NDArray[np.bool_]:
    """Parenchyma away from its surface, and from arteries: [Y, X] bool."""
    organ = ndimage.binary_fill_holes(ndimage.gaussian_filter(image, 4) > above)
    parts, _ = ndimage.label(organ)
    largest = parts == np.bincount(parts.ravel())[1:].argmax() + 1
    return ndimage.binary_erosion(largest, iterations=15) & ~ndimage.binary_dilation(labels, iterations=10)


@pytest.mark.parametrize(
    ("kidney", "tissue", "lumen", "noise_sd", "autocorrelation"),
    [
        (1, 102.5, (89, 96), 2.0, (0.62, 0.27, 0.16)),
        (2, 144.5, (125, 135), 2.9, (0.52, 0.13, 0.06)),
        (3, 82.0, (77, 80.5), 0.83, (0.56, 0.25, 0.15)),
    ],
)
def test_grey_levels_and_noise_are_those_of_the_scan(
    kidney: Kidney, tissue: float, lumen: tuple[float, float], noise_sd: float, autocorrelation: tuple[float, ...]
) -> None:
    """Tissue, lumen, noise and its autocorrelation lie near the figures measured on the real slices."""
    means, lumens, deviations, correlations = [], [], [], []
    for seed in range(3):
        phantom = make_phantom(PhantomSettings((1, 1000, 800), kidney, seed))
        image, labels = phantom.image[0] / 256, phantom.labels[0]
        gel = float(np.median(image[:50]))
        inside = tissue_of(image, labels, above=(gel + tissue) / 2)
        fine = image - ndimage.gaussian_filter(image, 6)
        means.append(image[inside].mean())
        lumens.append(image[labels > 0].mean())
        deviations.append(fine[inside].std())
        pairs = [inside[:, lag:] & inside[:, :-lag] for lag in (1, 2, 3)]
        products = [fine[:, lag:] * fine[:, :-lag] for lag in (1, 2, 3)]
        correlations.append([p[both].mean() / fine[inside].var() for p, both in zip(products, pairs, strict=True)])
    contrast = tissue - np.mean(lumen)
    assert np.mean(means) == pytest.approx(tissue, abs=0.25 * contrast)
    assert lumen[0] < np.mean(lumens) < lumen[1]
    assert np.mean(deviations) == pytest.approx(noise_sd, rel=0.25)
    np.testing.assert_allclose(np.mean(correlations, axis=0), autocorrelation, atol=0.15)


def test_arteries_have_brighter_surroundings_than_veins() -> None:
    """Two voxels from an artery it is brighter than two voxels from a vein: what tells them apart."""
    rises = []
    for seed in range(4):
        phantom = make_phantom(PhantomSettings((1, 512, 512), 1, seed))
        image, labels, veins = phantom.image[0] / 256, phantom.labels[0], phantom.veins[0]
        tissue = tissue_of(image, labels, above=90) | (ndimage.distance_transform_edt(image < 85) == 0)
        beside_artery, beside_vein = (ndimage.distance_transform_edt(mask == 0) for mask in (labels, veins))
        artery = tissue & (beside_artery > 1) & (beside_artery <= 2) & (veins == 0)
        vein = tissue & (beside_vein > 1) & (beside_vein <= 2) & (beside_artery > 8)
        rises.append(image[artery].mean() - image[vein].mean())
    assert np.mean(rises) > 2


@pytest.mark.parametrize(("kidney", "depth"), [(1, -7.8), (3, -2.3)])
def test_fine_arteries_are_as_dark_as_in_the_scan(kidney: Kidney, depth: float) -> None:
    """Labels of up to 12 pixels are about as much darker than what surrounds them as on the real slices."""
    depths = []
    for seed in range(3):
        phantom = make_phantom(PhantomSettings((1, 900, 800), kidney, seed))
        image, labels = phantom.image[0] / 256, phantom.labels[0]
        around = ndimage.zoom(ndimage.median_filter(image[::4, ::4], 5), 4, order=0)
        parts, count = ndimage.label(labels, np.ones((3, 3)))
        numbers = np.arange(1, count + 1)
        fine = ndimage.sum_labels(labels, parts, numbers) <= 12
        depths.append(ndimage.mean(image - around, parts, numbers)[fine])
    assert np.median(np.concatenate(depths)) == pytest.approx(depth, rel=0.25)


@pytest.mark.parametrize(("kidney", "tissue", "gel"), [(1, 102.5, 78.2), (3, 81.9, 75.9)])
def test_gel_glows_beside_the_organ(kidney: Kidney, tissue: float, gel: float) -> None:
    """Two to four voxels outside of the organ the gel is a fifth to two fifths of the way up to tissue."""
    rises = []
    for seed in range(3):
        phantom = make_phantom(PhantomSettings((1, 600, 600), kidney, seed))
        image = phantom.image[0] / 256
        organ = ndimage.binary_opening(ndimage.gaussian_filter(image, 1) > (gel + tissue) / 2, iterations=8)
        outside = ndimage.distance_transform_edt(~ndimage.binary_fill_holes(organ))
        beside = (outside > 2) & (outside <= 4)
        rises.append((np.median(image[beside]) - np.median(image[outside > 30])) / (tissue - gel))
    assert 0.2 < np.mean(rises) < 0.4


def test_fat_holds_bright_bodies_that_are_no_arteries() -> None:
    """In the sinus of kidney 3, 10 to 40 bodies for each 100 000 pixels of dark fat are bright and far from labels."""
    bodies, area = 0, 0
    for seed in range(4):
        phantom = make_phantom(PhantomSettings((1, 900, 800), 3, seed))
        image = ndimage.gaussian_filter(phantom.image[0] / 256, 1)
        dark = ndimage.zoom(ndimage.median_filter(image[::4, ::4], 15), 4, order=0) < 75.4
        fat = ndimage.binary_erosion(dark, iterations=3)
        parts, count = ndimage.label(fat & (image > 77))
        beside_artery = ndimage.binary_dilation(phantom.labels[0], iterations=12)
        bodies += count - len(np.unique(parts[beside_artery & (parts > 0)]))
        area += int(fat.sum())
    assert 10 < 1e5 * bodies / area < 40
