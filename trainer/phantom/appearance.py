"""From shapes to grey levels: tissue, rim, cavities, veins, arteries with their bright walls, blur and noise."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sennet_trainer.phantom.frame import Field, Frame, cloud, coarse_shape, fine_from_coarse
from sennet_trainer.phantom.look import Look
from sennet_trainer.phantom.organ import OrganFields
from sennet_trainer.phantom.tubes import NearTubes

BLUR_SIGMA = 0.57
TEXTURE_SIGMA = 2.2
GLOW_LENGTH = 6.5  # units of 50 µm over which the brightness outside of the surface falls to 1/e, in all scans alike
QUIET_SHARE = 0.25  # share of the noise's variance in tissue that does not grow with brightness


@dataclass(frozen=True)
class Lumens:
    """Near voxels of one kind of tube with what its appearance depends on; radii in units of 50 µm, one a voxel."""

    near: NearTubes
    radius: npt.NDArray[np.float32]


def paint_organ(image: Field, organ: OrganFields, frame: Frame, look: Look, rng: np.random.Generator) -> None:
    """Lay fat, the glow outside of the surface, parenchyma and capsule over the gel of `image`, in place."""
    shape, scale = frame.shape_zyx, frame.scale
    fat = np.clip(organ.in_fat / (6 * scale), 0, 1)
    if fat.any():
        level = np.float32(look.fat) + np.float32(0.25 * look.gel_sd) * cloud(shape, pitch=6 * scale, rng=rng)
        image += fat * (level - image)
    below = organ.below_surface
    side = cloud(shape, pitch=150 * scale, rng=rng)
    outside = np.exp(np.minimum(below, 0) / np.float32(GLOW_LENGTH * scale))
    image += np.float32(look.glow * (look.tissue - look.gel)) * np.clip(1 + 0.2 * side, 0.5, 1.5) * outside
    tissue = _tissue(below, frame, look, rng)
    inside = np.clip(below + 0.5, 0, 1)
    image += inside * (tissue - image)
    # The capsule is thick and bright along some of the contour, hardly to be seen along the rest.
    thickness = np.float32(scale) * np.clip(1.2 + 0.6 * side, 0.8, 2.6)
    rim = np.exp(-np.maximum(np.abs(below - thickness) - 0.5 * thickness, 0) / np.float32(scale))
    bright = np.clip(0.6 + 0.4 * cloud(shape, pitch=50 * scale, rng=rng) + 0.6 * side, 0.05, 2.4)
    bright *= np.clip(1 - fat, 0.15, 1)
    image += np.float32(look.rim) * bright * rim


def paint_lumen(image: Field, lumens: Lumens, frame: Frame, look: Look, *, depth: float) -> None:
    """Fill tubes with their grey level, in place; `depth` scales the step from tissue (1 for arteries)."""
    near, radius = lumens.near, lumens.radius
    flat = image.reshape(-1)
    inside = np.clip(0.5 - near.distance, 0, 1)
    wide = np.clip((radius - 2.5) / 7, 0, 1)
    level = look.lumen_small + (look.lumen_large - look.lumen_small) * wide
    # The middle of a wide lumen comes close to the gel, with which it is filled.
    level -= (look.lumen_large - look.gel) * 0.6 * np.clip((-near.distance / frame.scale - 2) / 8, 0, 1)
    level = look.tissue + (level - look.tissue) * _of_branch(near, 0.10, 1.0) * depth
    flat[near.index] += inside * (level.astype(np.float32) - flat[near.index])


def paint_wall(
    image: Field,
    lumens: Lumens,
    organ: OrganFields,
    frame: Frame,
    look: Look,
    *,
    height: float,
    thickest: float,
    rng: np.random.Generator,
) -> None:
    """Brighten the surroundings of tubes, in place; `height` scales the rise (1 for arteries).

    `thickest` bounds, in units of 50 µm, the wall of a tube that lies outside of the parenchyma.
    """
    near, radius = lumens.near, lumens.radius
    flat = image.reshape(-1)
    distance = np.maximum(near.distance / np.float32(frame.scale), 0)
    wide = np.clip((radius - 1.5) / 4, 0, 1).astype(np.float32)
    in_tissue = np.clip(organ.below_surface.reshape(-1)[near.index] / (6 * frame.scale), 0, 1)
    # Outside of the parenchyma the wall of an artery is thick and stands alone.
    plateau = 0.35 + 0.4 * wide + (1 - in_tissue) * np.minimum(0.6 * radius, thickest)
    decay = look.decay_small + (look.decay_large - look.decay_small) * wide * _of_branch(near, 0.25, 4.0)
    uneven = np.exp(0.3 * cloud(frame.shape_zyx, pitch=14 * frame.scale, rng=rng).reshape(-1)[near.index])
    profile = np.exp(-np.maximum(distance - plateau, 0) / decay)
    rise = height * (look.wall_small + (look.wall_large - look.wall_small) * wide) * _of_branch(near, 0.25, 2.0)
    # Walls of wide vessels differ most: from a faint line to a bright band.
    rise *= np.where(in_tissue > 0, _of_branch(near, 0.25, 3.0) ** wide, 1)
    level = np.float32(look.tissue) + rise * uneven * np.exp(-distance / (3 * decay))
    ground = flat[near.index]
    # Wide vessels lie in fibrous tissue: patchy streaks that fade within some voxels.
    fibrous = np.clip(0.5 + 1.1 * cloud(frame.shape_zyx, pitch=5 * frame.scale, rng=rng).reshape(-1)[near.index], 0, 3)
    glow = 0.45 * rise * wide * np.exp(-distance / 6) * fibrous * uneven
    # Around the grey muscle of some wide arteries the outermost layer shows as a second, broken line.
    layer = 2.5 + 4.0 * _uniform_of_branch(near, 5.0)
    broken = np.clip(uneven - 0.6, 0, 1.5) * (_uniform_of_branch(near, 6.0) < 0.5)
    glow += 1.2 * rise * wide * broken * np.exp(-np.square(distance - layer))
    soft = np.maximum(profile, look.glow * np.exp(-np.maximum(distance - plateau, 0) / GLOW_LENGTH))
    thick = np.where(in_tissue < 1, soft * (level - ground) * (1 - in_tissue), 0)
    flat[near.index] += (profile * rise * uneven + glow) * in_tissue + thick


def add_clots(image: Field, lumens: Lumens, frame: Frame, look: Look, rng: np.random.Generator) -> None:
    """Fill parts of wide tubes in `image` with bright smooth clots, in place."""
    near, radius = lumens.near, lumens.radius
    flat = image.reshape(-1)
    rounded = cloud(frame.shape_zyx, pitch=14 * frame.scale, rng=rng).reshape(-1)[near.index]
    clot = np.clip((rounded - np.float32(1.1)) * 6, 0, 1) * np.clip(-near.distance, 0, 1) * (radius > 4)
    level = np.float32(look.tissue + 0.25 * (look.tissue - look.gel))
    flat[near.index] += clot * (level - flat[near.index])


def add_spots(image: Field, organ: OrganFields, frame: Frame, look: Look, rng: np.random.Generator) -> None:
    """Add bright specks and blobs to the parenchyma of `image`, in place."""
    depth, height, width = frame.shape_zyx
    contrast = look.tissue - look.lumen_small
    expected = height * width / frame.scale**2 / 9_000 * (1 + depth / (6 * frame.scale))
    for _ in range(rng.poisson(expected)):
        middle = rng.uniform(0, frame.shape_zyx)
        radius = frame.scale * min(0.7 * (1 - rng.random()) ** -0.8, 8)
        if organ.below_surface[tuple(middle.astype(np.int64))] < 8 * frame.scale:
            continue
        reach = 2 * radius + 1
        box = tuple(
            slice(max(0, int(m - reach)), min(n, int(m + reach) + 2))
            for m, n in zip(middle, frame.shape_zyx, strict=True)
        )
        stretch = np.exp(rng.normal(0, 0.25, 3))
        squares = [((axis - m) * s) ** 2 for axis, m, s in zip(np.ogrid[box], middle, stretch, strict=True)]
        away = np.sqrt(squares[0] + squares[1] + squares[2])
        light = contrast * rng.uniform(0.3, 1.8) * np.clip((1.5 * radius - away) / radius, 0, 1)
        image[box] += light.astype(np.float32)


def add_noise(image: Field, look: Look, rng: np.random.Generator) -> Field:
    """`image` blurred, with noise whose variance grows with brightness and which the blur has correlated.

    Plain tissue gets the deviation `Look.noise_sd`; a share of it, `Look.texture_share`, is smoother than the noise of
    the detector and stays within the tissue.
    """
    texture_sd = look.noise_sd * np.sqrt(look.texture_share)
    noise_sd = look.noise_sd * np.sqrt(1 - look.texture_share)
    blurred: Field = ndimage.gaussian_filter(image, BLUR_SIGMA, truncate=4.0)
    bright = np.clip((blurred - look.gel) / (look.tissue - look.gel), 0, 1.5)
    blurred += _texture(image.shape, rng) * np.float32(texture_sd) * np.clip(bright, 0, 1)
    noise = ndimage.gaussian_filter(rng.standard_normal(image.shape, np.float32), BLUR_SIGMA, truncate=4.0)
    noise *= np.float32(noise_sd / _kept_deviation(BLUR_SIGMA, image.shape[0]))
    noise *= np.sqrt(QUIET_SHARE + (1 - QUIET_SHARE) * bright)
    blurred += noise
    return blurred


def _kept_deviation(sigma: float, planes: int) -> float:
    """The deviation that white noise of deviation 1 keeps after a blur along as many axes as the volume has."""
    impulse = np.zeros(65)
    impulse[32] = 1
    one_axis = float(np.sqrt((ndimage.gaussian_filter1d(impulse, sigma, truncate=4.0) ** 2).sum()))
    return one_axis ** (3 if planes > 1 else 2)


def _texture(shape: tuple[int, ...], rng: np.random.Generator) -> Field:
    """Smooth noise of `TEXTURE_SIGMA` and deviation 1, made at half the resolution."""
    shape_zyx = (shape[0], shape[1], shape[2])
    rough = rng.standard_normal(coarse_shape(shape_zyx, 2), np.float32)
    smooth = ndimage.gaussian_filter(rough, TEXTURE_SIGMA / 2)
    smooth /= _kept_deviation(TEXTURE_SIGMA / 2, rough.shape[0])
    return fine_from_coarse(smooth, step=2, shape_zyx=shape_zyx)


def _tissue(below: Field, frame: Frame, look: Look, rng: np.random.Generator) -> Field:
    """Parenchyma: brighter towards its middle, pyramids between columns, slow clouds."""
    scale = frame.scale
    deep = np.clip(below / (np.float32(110) * scale), 0, 1.5)
    lobes = cloud(frame.shape_zyx, pitch=120 * scale, rng=rng)
    medulla = np.clip((deep - 0.55) * 6, 0, 1) * np.clip(0.5 + 2 * lobes, 0, 1)
    sd = np.float32(look.slow_sd)
    level = np.float32(look.tissue) + sd * np.float32(rng.uniform(0.5, 1.6)) * (deep - np.float32(0.5))
    level += sd * np.float32(rng.uniform(-0.6, 0.6)) * medulla
    level += np.float32(0.75) * sd * cloud(frame.shape_zyx, pitch=220 * scale, rng=rng)
    level += np.float32(0.22) * sd * cloud(frame.shape_zyx, pitch=30 * scale, rng=rng)
    return np.asarray(level, np.float32)


def _of_branch(near: NearTubes, spread: float, turn: float) -> npt.NDArray[np.float32]:
    """A factor near 1 that differs from branch to branch; its logarithm is uniform with deviation `spread`.

    `turn` picks one of many such factors.
    """
    exponent = np.float32(spread * np.sqrt(12)) * (_uniform_of_branch(near, turn) - np.float32(0.5))
    return np.asarray(np.exp(exponent), np.float32)


def _uniform_of_branch(near: NearTubes, turn: float) -> npt.NDArray[np.float32]:
    """A number in [0, 1) that differs from branch to branch; `turn` picks one of many such numbers."""
    # A hash of the branch's number: cheap, and the same whatever else was drawn.
    return np.asarray(np.mod(np.sin(near.branch * np.float64(12.9898) + turn) * 43758.5453, 1.0), np.float32)
