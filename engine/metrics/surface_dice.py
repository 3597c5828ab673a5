"""Surface Dice: the share of two masks' surfaces that lie within a tolerance of each other, plane by plane."""

import copy
import itertools
import math
from collections import deque

import numpy as np
import numpy.typing as npt

from sennet_engine.metrics.surface_area import surface_area_of_code

Mask = npt.NDArray[np.generic]
Codes = npt.NDArray[np.uint8]

PREDICTION, TRUTH = 0, 1


def surface_dice(
    prediction_zyx: Mask,
    truth_zyx: Mask,
    *,
    tolerance: float = 0.0,
    spacing_zyx: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> float:
    """Surface Dice of two masks [Z, Y, X] of any dtype, positive where not 0; see `SurfaceDice`."""
    if prediction_zyx.shape != truth_zyx.shape:
        raise ValueError(f"got masks of shapes {prediction_zyx.shape} and {truth_zyx.shape}, expected equal ones")
    dice = SurfaceDice(prediction_zyx.shape[1:], largest_tolerance=tolerance, spacing_zyx=spacing_zyx)
    for prediction_yx, truth_yx in zip(prediction_zyx, truth_zyx, strict=True):
        dice.add_plane(prediction_yx, truth_yx)
    return dice.score(tolerance)


class SurfaceDice:
    """Surface Dice of two masks that are shown plane by plane, at any tolerance up to a largest one.

    A surface element is a 2×2×2 neighbourhood of the zero-padded mask that is neither empty nor full; its area is
    that of `surface_area_of_code`. So the faces of a cut volume count as surface. The score at tolerance t is the area
    of the elements of either mask that have an element of the other within t (<=), over the area of all elements of
    both. Definition and areas are those of the package `surface-distance` (Nikolov et al. 2018, arXiv:1809.04430).

    Elements are counted by their code in integers and weighed at the end in float64, so the order of summation does
    not matter. In memory are the last plane of both masks and 1 + 2 × (tolerance in planes) layers of elements.

    Args:
        shape_yx: rows and columns of every plane.
        largest_tolerance: the largest tolerance that `score` will be asked for, in the unit of the spacing.
        spacing_zyx: the distance of voxel centres.
    """

    def __init__(
        self,
        shape_yx: tuple[int, ...],
        *,
        largest_tolerance: float = 0.0,
        spacing_zyx: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> None:
        if not 0 <= largest_tolerance < math.inf:
            raise ValueError(f"got largest_tolerance {largest_tolerance}, expected a finite number >= 0")
        self._shape_yx = tuple(shape_yx)
        self._largest_tolerance = largest_tolerance
        self._areas = surface_area_of_code(spacing_zyx)
        self._offsets_at = _offsets_by_distance(largest_tolerance, spacing_zyx)
        reach_zyx = np.max([offset for offsets in self._offsets_at.values() for offset in offsets], axis=0)
        self._reach_z = int(reach_zyx[0])
        # One ring for the zero padding that the metric asks for, and as many as an offset can step over.
        pad = 1 + int(max(reach_zyx[1:]))
        self._coders = (_Coder(self._shape_yx, pad), _Coder(self._shape_yx, pad))
        nothing = np.zeros(self._coders[0].size, np.uint8)
        depth = 2 * self._reach_z + 1
        self._layers = deque([(nothing, nothing)] * depth, maxlen=depth)
        self._total = np.zeros((2, 256), np.int64)
        self._near_at = {distance: np.zeros((2, 256), np.int64) for distance in self._offsets_at}

    def add_plane(self, prediction_yx: Mask, truth_yx: Mask) -> None:
        """Take the next plane of both masks: [Y, X], any dtype, positive where not 0."""
        if not self._shape_yx == prediction_yx.shape == truth_yx.shape:
            raise ValueError(
                f"got planes of shapes {prediction_yx.shape} and {truth_yx.shape}, expected {self._shape_yx}"
            )
        self._layers.append((self._coders[PREDICTION].codes(prediction_yx), self._coders[TRUTH].codes(truth_yx)))
        self._count_elements(PREDICTION, TRUTH)
        self._count_elements(TRUTH, PREDICTION)

    def score(self, tolerance: float = 0.0) -> float:
        """The score of the planes so far, in [0, 1]; NaN where neither mask has a surface (both are empty)."""
        if not 0 <= tolerance <= self._largest_tolerance:
            raise ValueError(f"got tolerance {tolerance}, expected 0 <= tolerance <= {self._largest_tolerance}")
        closed = self._closed()
        near_area = sum(
            float((counts @ self._areas).sum()) for distance, counts in closed._near_at.items() if distance <= tolerance
        )
        area = float((closed._total @ self._areas).sum())
        return near_area / area if area else math.nan

    def _closed(self) -> "SurfaceDice":
        """A copy with the zero padding below the last plane; more planes may still follow in the original."""
        closed = copy.deepcopy(self)
        nothing = np.zeros(self._shape_yx, bool)
        for _ in range(1 + self._reach_z):
            closed.add_plane(nothing, nothing)
        return closed

    def _count_elements(self, mask: int, other: int) -> None:
        """Count the elements of `mask` in the layer whose neighbours above and below are all there by now."""
        codes = self._layers[self._reach_z][mask]
        elements = _surface_elements(codes)
        self._total[mask] += np.bincount(codes[elements], minlength=256)
        for distance, offsets in self._offsets_at.items():
            near = np.zeros(elements.size, bool)
            for dz, dy, dx in offsets:
                step = dy * self._coders[other].width + dx
                near |= _is_surface(self._layers[self._reach_z + dz][other][elements + step])
            self._near_at[distance][mask] += np.bincount(codes[elements[near]], minlength=256)
            elements = elements[~near]


class _Coder:
    """Turns the planes of one mask into the neighbourhood codes of each plane with the one before it.

    Planes are padded with zeros and laid out flat, so that a neighbour is a constant step away and the padding catches
    steps across the end of a row. The layout's size is a multiple of 8: bytes are shifted eight at a time.
    """

    def __init__(self, shape_yx: tuple[int, ...], pad: int) -> None:
        self._pad = pad
        self._height, self.width = (side + 2 * pad for side in shape_yx)
        self.size = -(-self._height * self.width // 8) * 8
        self._padded = np.zeros(self.size, np.uint8)
        self._above = np.zeros(self.size, np.uint8)

    def codes(self, plane_yx: Mask) -> Codes:
        """Codes [size] of the neighbourhoods between the previous plane and this one; bits as `surface_area_of_code`.

        The neighbourhood at a position has its voxel (1, 0, 0) there.
        """
        grid = self._padded[: self._height * self.width].view(bool).reshape(self._height, self.width)
        np.not_equal(plane_yx, 0, out=grid[self._pad : -self._pad, self._pad : -self._pad])
        squares = self._padded.copy()
        squares[:-1] |= _shifted_bits(squares, 1)[1:]
        squares[: -self.width] |= _shifted_bits(squares, 2)[self.width :]
        codes = _shifted_bits(squares, 4)
        codes |= self._above
        self._above = squares
        return codes


def _shifted_bits(codes: Codes, bits: int) -> Codes:
    """`codes << bits` where no bit leaves its byte: eight bytes at a time, which is what numpy does fast."""
    return (codes.view(np.uint64) << np.uint64(bits)).view(np.uint8)


def _offsets_by_distance(
    tolerance: float, spacing_zyx: tuple[float, float, float]
) -> dict[float, list[tuple[int, int, int]]]:
    """The offsets (z, y, x) from one element to another that are no farther than `tolerance`, nearest first."""
    steps_zyx = [range(-math.ceil(tolerance / spacing), math.ceil(tolerance / spacing) + 1) for spacing in spacing_zyx]
    offsets_at: dict[float, list[tuple[int, int, int]]] = {}
    for dz, dy, dx in itertools.product(*steps_zyx):
        distance = math.hypot(dz * spacing_zyx[0], dy * spacing_zyx[1], dx * spacing_zyx[2])
        if distance <= tolerance:
            offsets_at.setdefault(distance, []).append((dz, dy, dx))
    return dict(sorted(offsets_at.items()))


def _surface_elements(codes: Codes) -> npt.NDArray[np.intp]:
    """Positions of the codes that are neither 0 nor 255, ascending; looked for only where eight codes are not all 0."""
    words = np.flatnonzero(codes.view(np.uint64) != 0)
    if words.size * 4 > codes.size // 8:
        return np.flatnonzero(_is_surface(codes))
    positions = (words[:, None] * 8 + np.arange(8)).ravel()
    return positions[_is_surface(codes[positions])]


def _is_surface(codes: Codes) -> npt.NDArray[np.bool_]:
    # 255 + 1 is 0 in a byte: both codes without a surface end at 0 or 1.
    return codes + np.uint8(1) > 1
