"""What lies in the fat of the sinus and is no vessel to label: lymph nodes, bright specks, rings of tiny vessels."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sennet_trainer.phantom.frame import Field, Frame, cloud
from sennet_trainer.phantom.look import Look
from sennet_trainer.phantom.organ import OrganFields

NODE_AREA = 90_000.0  # square units of fat a plane meets for each lymph node
SPECK_AREA = 4_500.0  # and for each speck

Profile = Callable[[Field, float, float], Field]


def add_nodes(image: Field, organ: OrganFields, frame: Frame, look: Look, rng: np.random.Generator) -> None:
    """Add lymph nodes to `image`, in place: long solid bodies of tissue, mottled, with a soft edge."""
    for middle in _places(organ, frame, NODE_AREA, 60.0, rng):
        semi = frame.scale * rng.uniform(10, 24) * np.array([1.0, 1.0, rng.uniform(1.2, 3.0)])
        box, away = _ellipsoid(frame, middle, semi, 1.3, rng)
        inside = np.clip((1 - away) * 4 + 0.5, 0, 1) * np.clip(-organ.below_surface[box], 0, 1)
        core = np.clip(1.2 - away, 0, 1)
        z, y, x = away.shape
        mottled = core * np.minimum(cloud((z, y, x), pitch=5 * frame.scale, rng=rng), 0.5)
        step = (look.tissue - look.fat) * (rng.uniform(0.6, 1.0) + 0.25 * mottled)
        image[box] += (inside * (look.fat + step - image[box])).astype(np.float32)
        halo = np.exp(-np.maximum(away - 1, 0) * 8) * (away > 1) * (organ.below_surface[box] < 0)
        image[box] += (0.2 * (look.tissue - look.fat) * halo).astype(np.float32)


def add_specks(image: Field, organ: OrganFields, frame: Frame, look: Look, rng: np.random.Generator) -> None:
    """Add small bright bodies to `image`, in place: dots, short strands, and rings with fat within."""
    for middle in _places(organ, frame, SPECK_AREA, 8.0, rng):
        profile = PROFILES[rng.integers(len(PROFILES))]
        radius = frame.scale * rng.uniform(0.8, 4.0)
        semi = radius * np.array([1.0, 1.0, rng.uniform(1.0, 4.0)])
        box, away = _ellipsoid(frame, middle, semi, 1 + 3 * frame.scale / radius, rng)
        light = rng.uniform(0.15, 0.8) * (look.tissue - look.fat) * profile(away, radius, frame.scale)
        image[box] += (light * np.clip(-organ.below_surface[box], 0, 1)).astype(np.float32)


def _dot(away: Field, radius: float, scale: float) -> Field:
    return np.asarray(np.clip((1 - away) * radius + 0.5, 0, 1) * np.clip(2 * scale / radius, 0, 1), np.float32)


def _ring(away: Field, radius: float, scale: float) -> Field:
    return np.asarray(np.exp(-(((away - 1) * radius / (0.8 * scale)) ** 2)), np.float32)


PROFILES: tuple[Profile, ...] = (_dot, _dot, _ring)


def _places(
    organ: OrganFields, frame: Frame, area: float, depth: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Voxels [n, 3] in the fat, on average one for each `area` of a plane, of bodies `depth` units deep."""
    planes, height, width = frame.shape_zyx
    expected = height * width / frame.scale**2 / area * (1 + planes / (depth * frame.scale))
    tries = np.floor(rng.uniform(0, frame.shape_zyx, (rng.poisson(expected), 3))).astype(np.int64)
    at = tuple(tries.T)
    return np.asarray(tries[(organ.in_fat[at] > 0) & (organ.below_surface[at] < 0)], np.int64)


def _ellipsoid(
    frame: Frame,
    middle: npt.NDArray[np.int64],
    semi: npt.NDArray[np.float64],
    reach: float,
    rng: np.random.Generator,
) -> tuple[tuple[slice, ...], Field]:
    """The box around an ellipsoid turned at random, and the distance to its middle there, 1 on its surface."""
    pad = int(reach * semi.max()) + 1
    box = tuple(slice(max(0, m - pad), min(n, m + pad + 1)) for m, n in zip(middle, frame.shape_zyx, strict=True))
    dz, dy, dx = ((axis - m).astype(np.float32) for axis, m in zip(np.ogrid[box], middle, strict=True))
    turned = (np.linalg.qr(rng.normal(size=(3, 3)))[0] / semi[:, None]).astype(np.float32)
    scaled = [t[0] * dz + t[1] * dy + t[2] * dx for t in turned]
    return box, np.asarray(np.sqrt(scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2), np.float32)
