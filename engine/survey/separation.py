"""Tell a dark and a bright kind of cells apart, or say that there are no two."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sennet_engine.survey.texture import Values

# How far the two kinds lie apart, in their spreads (Ashman's D). Halves of one Gaussian have 3, those of a uniform
# distribution 3.5; scans of kidneys have 6 and more, gel alone and the inside of a kidney less than 4.
LEAST_DISTANCE = 5.0
# The step between the kinds, in units of the dark one's roughness: scans of kidneys have 28 and more, gel alone 8.
LEAST_CONTRAST = 12.0
# From such a step on the dark kind is parted further, however blurred: it must hold no tissue. The cells that organ
# fills in part make a step of up to 13 within the background.
SUSPICIOUS_CONTRAST = 20.0
# Grey levels of roughness below which differences are those of rounding.
FINEST_ROUGHNESS = 0.5
LEVELS = 256


@dataclass(frozen=True)
class Separation:
    """The dark kind of cells, and how far the bright one lies above it.

    Attributes:
        dark: its brightness, as a median.
        spread: standard deviation of the dark kind's brightness, estimated from absolute deviations.
        contrast: from there to the median of the bright kind, in grey levels.
        roughness: of the dark kind, as a median.
        roughness_spread: standard deviation of the dark kind's roughness, estimated from absolute deviations.
    """

    dark: float
    spread: float
    contrast: float
    roughness: float
    roughness_spread: float


def separation(brightness: Values, roughness: Values) -> Separation | None:
    """The two kinds among cells, given as two [n] arrays in grey levels 0..255; None where they cannot be told apart.

    Where the dark kind consists of two that can be told apart themselves, only the darker one of them is dark: a
    thing much brighter than any tissue (a holder, a clip) must not make tissue the dark kind.
    """
    found = None
    while (split := _split(brightness, roughness, within_dark=found is not None)) is not None:
        threshold, found = split
        below = brightness < threshold
        brightness, roughness = brightness[below], roughness[below]
    return found


def _split(brightness: Values, roughness: Values, *, within_dark: bool) -> tuple[float, Separation] | None:
    if not brightness.size:
        return None
    threshold = _otsu_threshold(brightness)
    below = brightness < threshold
    dark, bright, dark_roughness = brightness[below], brightness[~below], roughness[below]
    if min(dark.size, bright.size) < 2:
        return None
    kinds = Separation(
        dark=float(np.median(dark)),
        spread=_spread(dark),
        contrast=float(np.median(bright) - np.median(dark)),
        roughness=float(np.median(dark_roughness)),
        roughness_spread=_spread(dark_roughness),
    )
    # Cells darker than the dark kind (cores of streaks, the rim of padding) do no harm: the upper side counts.
    upper = np.sqrt(np.mean(np.square(dark[dark >= kinds.dark] - kinds.dark)))
    apart = np.sqrt(2) * float(bright.mean() - dark.mean()) >= LEAST_DISTANCE * np.hypot(upper, bright.std())
    contrast = kinds.contrast / max(kinds.roughness, FINEST_ROUGHNESS)
    if contrast >= LEAST_CONTRAST and (apart or (within_dark and contrast >= SUSPICIOUS_CONTRAST)):
        return threshold, kinds
    return None


def _spread(values: Values) -> float:
    """The standard deviation of what most of the values follow; 1.4826 makes it that of a Gaussian."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _otsu_threshold(brightness: npt.NDArray[np.float32]) -> float:
    """The grey level that parts the cells so that the variance between the parts is highest (Otsu 1979)."""
    share = np.bincount(brightness.astype(np.uint8), minlength=LEVELS) / brightness.size
    below = np.cumsum(share)[:-1]
    moment = np.cumsum(share * np.arange(LEVELS))
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (moment[-1] * below - moment[:-1]) ** 2 / (below * (1 - below))
    between[~np.isfinite(between)] = 0
    # All levels of an empty valley part the cells alike: its middle is what resists noise.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float(best.mean()) + 1
