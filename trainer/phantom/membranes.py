"""Loose tissue outside of the capsule: strands that run along it, flaps that hang in the gel, septa in the fat."""

import numpy as np
import numpy.typing as npt

from sennet_trainer.phantom.frame import Field, Frame, cloud
from sennet_trainer.phantom.look import Look
from sennet_trainer.phantom.organ import Organ, OrganFields
from sennet_trainer.phantom.tubes import NearTubes, Tubes, near_tubes

Array = npt.NDArray[np.float64]

WIDEST_LAYER = 26.0  # units of 50 µm that loose tissue along the capsule is wide at most; along much of it is none
FLAPS = 5.0  # mean number of flaps that a slab through the middle of the organ meets
FLAP_PIECES = 24


def add_strands(image: Field, organ: OrganFields, frame: Frame, look: Look, rng: np.random.Generator) -> None:
    """Add membranes that have come off the capsule to `image`, in place: bright sheets along it, gel between them."""
    shape, scale = frame.shape_zyx, frame.scale
    flat, below = image.reshape(-1), organ.below_surface.reshape(-1)
    near = np.flatnonzero((below < 0) & (below > -np.float32(WIDEST_LAYER * scale)))
    outside = -below[near] / np.float32(scale)
    width = (cloud(shape, pitch=100 * scale, rng=rng).reshape(-1)[near] - np.float32(0.2)) * (WIDEST_LAYER / 2)
    wave = cloud(shape, pitch=36 * scale, rng=rng).reshape(-1)[near]
    torn = np.clip(cloud(shape, pitch=12 * scale, rng=rng).reshape(-1)[near] + np.float32(0.2), 0, 1.5)
    within = np.clip((np.minimum(width, WIDEST_LAYER) - outside) / 3, 0, 1) * np.clip(outside, 0, 1)
    sheets = np.cos(np.float32(np.pi) * (outside / np.float32(9) + np.float32(1.3) * wave)) ** 24
    light = torn * (np.float32(0.6) * sheets + np.float32(0.12))
    flat[near] += np.float32(0.7 * (look.tissue - look.gel)) * within * light


def add_flaps(
    image: Field, organ: Organ, fields: OrganFields, frame: Frame, look: Look, rng: np.random.Generator
) -> None:
    """Add shreds of capsule and fascia to `image`, in place: bent ribbons, bright-edged and hazy within."""
    rough = cloud(frame.shape_zyx, pitch=8 * frame.scale, rng=rng)
    for number in range(rng.poisson(FLAPS)):
        near = near_tubes(_flap(organ, frame, rng), frame, reach=np.full(FLAP_PIECES, 2.0), smallest_radius=0.8)
        near = near.where(fields.below_surface.reshape(-1)[near.index] < 0)
        _paint_flap(image, near, rough, frame, look, solid=number % 2 == 1, rng=rng)


def add_septa(image: Field, organ: OrganFields, frame: Frame, look: Look, rng: np.random.Generator) -> None:
    """Add thin bright sheets to `image`, in place: septa in the fat, and shreds that hang on the capsule."""
    shape, scale = frame.shape_zyx, frame.scale
    outside = np.clip(0.5 - organ.below_surface / scale, 0, 1)
    places = (
        (np.clip(organ.in_fat / (3 * scale), 0, 1), 28.0, 0.8),
        (np.exp(np.minimum(organ.below_surface, 0) / (9 * scale)), 12.0, 1.0),
    )
    for zone, pitch, rarity in places:
        # A sheet runs where a smooth field crosses zero; about two voxels thick, given the field's usual slope.
        sheet = np.exp(-((cloud(shape, pitch=pitch * scale, rng=rng) * np.float32(0.45 * pitch)) ** 2))
        sheet *= zone * np.clip(cloud(shape, pitch=70 * scale, rng=rng) - np.float32(rarity), 0, 1) * outside
        image += sheet * (np.float32(0.6 * look.tissue + 0.4 * look.gel) - image)


def _flap(organ: Organ, frame: Frame, rng: np.random.Generator) -> Tubes:
    """A ribbon that starts at the organ's surface near the window and bends away from it."""
    angle = rng.uniform(0, 2 * np.pi)
    outward = np.array([np.cos(angle), np.sin(angle), 0.0]) @ organ.axes
    middle = float(frame.middle @ organ.axes[2])
    reach = np.linspace(0.3, 1.6, 200)[:, None] * (outward * organ.semi_axes.max()) + middle * organ.axes[2]
    inside = organ.depth_below_surface(*reach.T) > 0
    start = reach[np.flatnonzero(inside)[-1]] if inside.any() else reach[0]
    turn = angle + rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 1.3) + np.cumsum(rng.normal(0, 0.22, FLAP_PIECES))
    steps = np.column_stack([np.cos(turn), np.sin(turn), np.zeros(FLAP_PIECES)]) @ organ.axes
    points = start + np.cumsum(np.vstack([np.zeros(3), steps * rng.uniform(2.0, 6.5)]), axis=0)
    radius = (
        rng.uniform(4, 11)
        * np.sin(np.linspace(0.5, np.pi - 0.1, FLAP_PIECES))
        * np.exp(rng.normal(0, 0.15, FLAP_PIECES))
    )
    # Flat along the bend, wide across the plane in which it bends.
    flat = np.cross(steps, organ.axes[2])
    return Tubes(
        points[:-1], points[1:], radius, flat, np.full(FLAP_PIECES, rng.uniform(2, 6)), np.zeros(FLAP_PIECES, np.int64)
    )


def _paint_flap(
    image: Field, near: NearTubes, rough: Field, frame: Frame, look: Look, *, solid: bool, rng: np.random.Generator
) -> None:
    flat = image.reshape(-1)
    away = near.distance / np.float32(frame.scale)
    uneven = rough.reshape(-1)[near.index]
    edge = np.exp(-((away / np.float32(0.9)) ** 2)) * np.clip(0.6 + 0.5 * uneven, 0, 1.5)
    filled = np.clip(-away, 0, 1) * (np.float32(0.5) if solid else np.clip(0.1 + 0.25 * uneven, 0, 1))
    light = np.float32(rng.uniform(0.3, 0.8) * (look.tissue - look.gel)) * np.maximum(edge, filled)
    flat[near.index] += light
