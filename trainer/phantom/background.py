"""What surrounds the organ: gel of many translucent shards, rings and streaks of the scan, its round field of view."""

import numpy as np
import numpy.typing as npt

from sennet_trainer.phantom.frame import Field, Frame, cloud, coarse_shape, fine_from_coarse
from sennet_trainer.phantom.look import Look

SHARD_STEP = 2  # voxels between the points at which shards are drawn
SHARD_VOLUMES = 1.3  # how many times over the pieces fill the gel


def gel(frame: Frame, look: Look, rng: np.random.Generator, *, slow: float = 0.5) -> Field:
    """The gel's grey level at every voxel, in 8-bit units, float32 [Z, Y, X]; `slow` scales its slow variation."""
    shape = frame.shape_zyx
    size = rng.uniform(0.7, 1.4)
    field = fine_from_coarse(_shards(frame, size, rng), step=SHARD_STEP, shape_zyx=shape)
    field *= np.float32(look.gel_sd * rng.uniform(0.7, 1.1))
    field += np.float32(slow * look.gel_sd) * cloud(shape, pitch=180 * size * frame.scale, rng=rng)
    field += np.float32(0.15 * look.gel_sd) * cloud(shape, pitch=14 * frame.scale, rng=rng)
    field += np.float32(look.gel)
    return field


def add_splinters(image: Field, frame: Frame, look: Look, rng: np.random.Generator) -> None:
    """Add a few small bright wedges to `image`, in place: the glints of gel seen edge-on."""
    _, height, width = frame.shape_zyx
    for _ in range(rng.poisson(_planes_crossed(frame, 12) * height * width / frame.scale**2 / 60_000)):
        middle = rng.uniform(0, frame.shape_zyx)
        reach = rng.uniform(5, 20) * frame.scale
        box = tuple(
            slice(max(0, int(m - reach)), min(n, int(m + reach) + 1))
            for m, n in zip(middle, frame.shape_zyx, strict=True)
        )
        dz, dy, dx = (axis - m for axis, m in zip(np.ogrid[box], middle, strict=True))
        angle = rng.uniform(0, np.pi)
        along, across = dy * np.cos(angle) + dx * np.sin(angle), dx * np.cos(angle) - dy * np.sin(angle)
        wedge = (np.abs(along) < reach) & (np.abs(across) < 0.12 * (reach - along)) & (np.abs(dz) < reach / 3)
        light = look.gel_sd * rng.uniform(1, 6) * np.clip((along / reach + 1) / 2, 0, 1)
        image[box] += (wedge * light).astype(np.float32)


def add_rings(image: Field, frame: Frame, strength: float, rng: np.random.Generator) -> None:
    """Add slow rings about the scan's axis to `image`, in place, with an amplitude near `strength`."""
    radius = _distance_from(frame, rng.uniform(0.35, 0.65, 2))
    profile = np.zeros(int(radius.max()) + 3, np.float32)
    for pitch in (120.0, 40.0, 12.0):
        nodes = rng.standard_normal(int(len(profile) / (pitch * frame.scale)) + 3)
        at = np.arange(len(profile)) / (pitch * frame.scale)
        profile += np.interp(at, np.arange(len(nodes)), nodes).astype(np.float32) * np.float32(pitch / 120) ** 0.5
    image += np.float32(0.5 * strength) * profile[radius.astype(np.int64)]


def add_streaks(image: Field, frame: Frame, strength: float, rng: np.random.Generator) -> None:
    """Add the artefact of a dense speck at the edge of the plane to `image`, in place: a black core, rays around it."""
    side = rng.integers(4)
    along, outside = rng.uniform(0.05, 0.95), rng.uniform(-0.02, 0.10)
    at = [(outside, along), (1 - outside, along), (along, outside), (along, 1 - outside)][side]
    radius = _distance_from(frame, np.array(at))
    origin = np.array(at) * (np.array(frame.shape_zyx[1:]) - 1)
    dy, dx = (axis - o for axis, o in zip(np.ogrid[: frame.shape_zyx[1], : frame.shape_zyx[2]], origin, strict=True))
    turn = (np.arctan2(dy, dx) / (2 * np.pi) + 0.5) * 180
    rays = np.convolve(np.r_[(rough := rng.standard_normal(180)), rough], [0.15, 0.2, 0.3, 0.2, 0.15], "same")[:181]
    rays = np.clip(np.sign(rays) * np.abs(2 * rays) ** 2.5, -1.2, 2.5)
    fan = np.interp(turn, np.arange(181), rays)
    # The strongest rays reach farthest, over a hundred pixels.
    reach = rng.uniform(12, 32) * frame.scale * (1 + np.abs(fan))
    core = min(rng.uniform(5, 16) * frame.scale, 0.01 * min(frame.shape_zyx[1:]) + 1)
    plane = strength * (1.2 * fan * np.exp(-radius / reach) * (radius > core) - 5 * np.exp(-((radius / core) ** 4)))
    depth = np.arange(frame.shape_zyx[0]) - rng.uniform(0, frame.shape_zyx[0])
    fade = np.exp(-((depth / (30 * frame.scale)) ** 2))
    image += (fade[:, None, None] * plane).astype(np.float32)


def outside_field_of_view(frame: Frame, rng: np.random.Generator) -> tuple[Field, Field]:
    """How much of a pixel lies outside the scan's circle (0 to 1), and the brightness of the ring within its edge.

    Both float32 [Y, X]; the circle touches the longer sides of the plane or cuts its corners only.
    """
    height, width = frame.shape_zyx[1:]
    radius = _distance_from(frame, rng.uniform(0.47, 0.53, 2))
    edge = rng.uniform(0.52, 0.62) * max(height, width)
    outside = np.clip(radius - edge, 0, 1).astype(np.float32)
    ring = np.exp(-(((edge - radius) / (0.05 * edge)) ** 2)) * (radius < edge)
    return outside, ring.astype(np.float32)


def _shards(frame: Frame, size: float, rng: np.random.Generator) -> Field:
    """Overlapping flat-sided pieces, dark gaps between them; mean 0, deviation 1, on a grid of `SHARD_STEP`."""
    shape = coarse_shape(frame.shape_zyx, SHARD_STEP)
    field = np.full(shape, -1.6, np.float32)
    typical = 22 * size * frame.scale / SHARD_STEP
    _, height, width = shape
    body = 4.2 * typical**3 * 0.55
    count = int(SHARD_VOLUMES * (shape[0] + 2 * typical) * height * width / body)
    for _ in range(count):
        semi = typical * np.exp(rng.normal(0, 0.45)) * np.array([rng.uniform(0.5, 1.1), rng.uniform(0.5, 1.1), 2.0])
        middle = rng.uniform([-typical, 0, 0], [shape[0] + typical, height, width])
        _draw_shard(field, middle, semi, rng)
    field -= field.mean()
    field /= max(float(field.std()), 1e-3)
    return field


def _draw_shard(
    field: Field, middle: npt.NDArray[np.float64], semi: npt.NDArray[np.float64], rng: np.random.Generator
) -> None:
    """Lay one ellipsoid, cut by four planes, over `field` in place."""
    reach = float(semi.max())
    box = tuple(
        slice(max(0, int(m - reach)), min(n, int(m + reach) + 2)) for m, n in zip(middle, field.shape, strict=True)
    )
    if any(part.start >= part.stop for part in box):
        return
    dz, dy, dx = ((axis - m).astype(np.float32) for axis, m in zip(np.ogrid[box], middle, strict=True))
    turned = np.linalg.qr(rng.normal(size=(3, 3)))[0] / semi[:, None]
    scaled = [np.float32(t[0]) * dz + np.float32(t[1]) * dy + np.float32(t[2]) * dx for t in turned]
    inside = scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2 < 1
    for normal in rng.normal(size=(4, 3)):
        n = (normal / np.linalg.norm(normal)).astype(np.float32)
        inside &= scaled[0] * n[0] + scaled[1] * n[1] + scaled[2] * n[2] < np.float32(rng.uniform(0.15, 0.7))
    cover = np.float32(rng.uniform(0.35, 0.95))
    view = field[box]
    np.copyto(view, view * (1 - cover) + np.float32(rng.normal(0.5, 0.45)) * cover, where=inside)


def _distance_from(frame: Frame, share_yx: npt.NDArray[np.float64]) -> Field:
    """Pixels to the point at this share of the plane, float32 [Y, X]."""
    height, width = frame.shape_zyx[1:]
    dy = np.arange(height)[:, None] - share_yx[0] * (height - 1)
    dx = np.arange(width)[None, :] - share_yx[1] * (width - 1)
    return np.asarray(np.hypot(dy, dx), np.float32)


def _planes_crossed(frame: Frame, depth: float) -> float:
    """How many times more bodies `depth` units deep a slab meets than a single plane does."""
    return 1.0 + frame.shape_zyx[0] / (depth * frame.scale)
