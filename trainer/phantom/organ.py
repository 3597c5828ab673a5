"""The organ: a bent ellipsoid with a sinus at its hilum, and where its vessels have to go."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sennet_trainer.phantom.frame import Field, Frame, fine_from_coarse
from sennet_trainer.phantom.look import Look

Vector = npt.NDArray[np.float64]
STEP = 4  # voxels between the points at which the organ's shape is evaluated


@dataclass(frozen=True)
class Organ:
    """A kidney in the world (unit 50 µm, origin in its middle).

    Attributes:
        semi_axes: along its length, its width and its depth.
        axes: [3, 3], rows are the directions of length, width and depth as (z, y, x). The hilum lies at -width.
        bend: how strongly its ends turn towards the hilum's side.
        sinus: semi-axes of the sinus as a share of the organ's.
        fat: how far the fat around the hilum reaches, as a share of the organ's semi-axes; 0 for none.
        lumps: [m, 4], slow waves on its surface: wave vector (length, width, depth) and phase.
    """

    semi_axes: Vector
    axes: Vector
    bend: float
    sinus: float
    fat: float
    lumps: Vector

    def world(self, length: float, width: float, depth: float) -> Vector:
        """The point at these shares of the semi-axes, (z, y, x)."""
        return np.asarray((np.array([length, width, depth]) * self.semi_axes) @ self.axes)

    def depth_below_surface(self, z: Vector, y: Vector, x: Vector) -> Vector:
        """About the distance to the surface, positive inside; the sinus does not count as inside."""
        u, v, w = self._shares(z, y, x)
        bent = v + self.bend * u**2 - 0.35 * self.bend
        waves = sum(np.sin(k[0] * u + k[1] * v + k[2] * w + k[3]) for k in self.lumps)
        radius = np.sqrt(u**2 + bent**2 + w**2)
        outer = (1 + 0.012 * waves - radius) * self._stretch(u, bent, w, radius)
        return np.asarray(np.minimum(outer, self._outside_sinus(u, v, w)))

    def depth_in_fat(self, z: Vector, y: Vector, x: Vector) -> Vector:
        """About the distance to the edge of the fat around the hilum, positive within it."""
        u, v, w = self._shares(z, y, x)
        radius = np.sqrt((u / 0.8) ** 2 + ((v + 0.8) / 0.95) ** 2 + (w / 0.9) ** 2)
        waves = sum(np.sin(2.0 * (k[0] * u + k[1] * v + k[2] * w) + k[3]) for k in self.lumps)
        return np.asarray((self.fat + 0.03 * waves - radius) * self.semi_axes[1] * 0.8)

    def _outside_sinus(self, u: Vector, v: Vector, w: Vector) -> Vector:
        reach = self.sinus
        radius = np.sqrt((u / (1.5 * reach)) ** 2 + ((v + 0.85) / (2.2 * reach)) ** 2 + (w / (1.5 * reach)) ** 2)
        waves = sum(np.sin(1.4 * (k[0] * u + k[1] * v + k[2] * w) + k[3]) for k in self.lumps)
        return np.asarray((radius - 1 - 0.035 * waves) * 1.6 * reach * self.semi_axes[1])

    def _shares(self, z: Vector, y: Vector, x: Vector) -> tuple[Vector, Vector, Vector]:
        u, v, w = ((a[0] * z + a[1] * y + a[2] * x) / size for a, size in zip(self.axes, self.semi_axes, strict=True))
        return u, v, w

    def _stretch(self, u: Vector, v: Vector, w: Vector, radius: Vector) -> Vector:
        """World units per unit of the scaled radius: turns the implicit function into a distance near the surface."""
        a, b, c = self.semi_axes
        return np.asarray(np.maximum(radius, 1e-3) / np.sqrt((u / a) ** 2 + (v / b) ** 2 + (w / c) ** 2 + 1e-12))


@dataclass(frozen=True)
class OrganFields:
    """Distances at every voxel, in voxels, float32 [Z, Y, X]: below the organ's surface, and within the fat."""

    below_surface: Field
    in_fat: Field


def place_organ(plane_yx: tuple[int, int], look: Look, rng: np.random.Generator) -> Organ:
    """An organ that fills 20 to 45 % of a plane of `plane_yx` units in a random pose, its length near the plane's."""
    height, width = plane_yx
    area = rng.uniform(0.26, 0.47) * height * width
    slender = rng.uniform(0.52, 0.66)
    length = min(np.sqrt(area / np.pi / slender), 0.62 * max(height, width))
    semi_axes = np.array([length, area / np.pi / length, length * rng.uniform(0.75, 1.1)])
    upright = 0.0 if height >= width else np.pi / 2
    square = min(height, width) / max(height, width)
    angle = upright + rng.normal(0, 0.25 + 0.5 * square**4)
    side = rng.choice([-1.0, 1.0])
    along = np.array([0.0, np.cos(angle), np.sin(angle)])
    across = np.array([0.0, -np.sin(angle), np.cos(angle)]) * side
    tilt = rng.normal(0, 0.2)
    deep = np.cos(tilt) * np.array([1.0, 0.0, 0.0]) + np.sin(tilt) * across
    across = np.cos(tilt) * across - np.sin(tilt) * np.array([1.0, 0.0, 0.0])
    lumps = np.column_stack([rng.normal(0, 3.5, (5, 3)), rng.uniform(0, 2 * np.pi, 5)])
    fat = rng.uniform(0.85, 1.1) if rng.random() < look.fat_share else 0.0
    return Organ(
        semi_axes=semi_axes,
        axes=np.array([along, across, deep]),
        bend=look.bend * rng.uniform(0.6, 1.4),
        sinus=look.sinus * rng.uniform(0.75, 1.15),
        fat=fat,
        lumps=lumps,
    )


def organ_fields(organ: Organ, frame: Frame) -> OrganFields:
    """The organ's distances at every voxel of `frame`."""
    grid = frame.coarse(STEP)
    fields = (organ.depth_below_surface(*grid), organ.depth_in_fat(*grid))
    below, fat = (
        fine_from_coarse((field * frame.scale).astype(np.float32), step=STEP, shape_zyx=frame.shape_zyx)
        for field in fields
    )
    return OrganFields(below, fat)


def feeding_points(organ: Organ, count: int, rng: np.random.Generator) -> Vector:
    """`count` points [count, 3] that vessels have to reach: all over the parenchyma, densest in the cortex."""
    found: list[Vector] = []
    cortex = 0.3 * organ.semi_axes[1]
    while sum(map(len, found)) < count:
        cube = rng.uniform(-1.25, 1.25, (4 * count, 3)) * organ.semi_axes
        points = cube @ organ.axes
        depth = organ.depth_below_surface(*points.T)
        wanted = np.where(depth < cortex, 1.0, 0.4) * (depth > 0.04 * organ.semi_axes[1])
        found.append(points[rng.random(len(points)) < wanted])
    return np.concatenate(found)[:count]
