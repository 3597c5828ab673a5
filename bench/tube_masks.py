"""A pair of vessel-like masks: winding tubes, and what a good network would make of them."""

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Field = npt.NDArray[np.float32]

COARSE = 4  # voxels a node of the grid on which the noise is drawn
WINDING, RAGGED = 4.0, 1.5  # widths of the smoothing, in nodes
ERROR = 0.3  # standard deviation of the prediction's radii, as a share of the tubes' radius


def tube_masks(shape_zyx: tuple[int, int, int], *, share: float, seed: int) -> tuple[Mask, Mask]:
    """A prediction and its truth, [Z, Y, X]; `share` (0 to 1) of the voxels of the truth are vessel.

    The truth's tubes wind where two smooth noises are both near 0. The prediction's are thicker here and thinner there.
    """
    rng = np.random.default_rng(seed)
    from_axis = np.hypot(_noise(shape_zyx, WINDING, rng), _noise(shape_zyx, WINDING, rng))
    radius = np.quantile(from_axis, share)
    truth: Mask = from_axis <= radius
    prediction: Mask = from_axis <= radius * (1 + ERROR * _noise(shape_zyx, RAGGED, rng))
    return prediction, truth


def _noise(shape_zyx: tuple[int, int, int], width: float, rng: np.random.Generator) -> Field:
    """Smooth noise of standard deviation 1."""
    from scipy import ndimage

    nodes = [-(-side // COARSE) + 1 for side in shape_zyx]
    drawn = ndimage.gaussian_filter(rng.standard_normal(nodes, dtype=np.float32), width, mode="wrap")
    fine: Field = ndimage.zoom(drawn / drawn.std(), COARSE, order=1)
    z, y, x = shape_zyx
    return fine[:z, :y, :x]
