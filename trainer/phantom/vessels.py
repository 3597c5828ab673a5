"""The organ's vessels in a window: arteries, the veins beside them, and the collecting system."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sennet_trainer.phantom.frame import Frame
from sennet_trainer.phantom.look import Look
from sennet_trainer.phantom.organ import Organ, feeding_points
from sennet_trainer.phantom.tree import Tree, grow_tree
from sennet_trainer.phantom.tubes import Tubes, tubes_from_tree

Array = npt.NDArray[np.float64]

FEWEST_ENDS, CLOSEST = 200, 24.0  # a small organ has its finest arteries closer, so that it too has all sizes
FINEST_RADIUS = 1.15  # units of 50 µm
FISSURES = 0.07  # share of the arteries of middle size that lie in a gap between lobes
FLOW_SPREAD = 0.8  # standard deviation of the logarithm of a terminal's flow


@dataclass(frozen=True)
class Vessels:
    """All tubes of an organ that can meet a window, in the world."""

    tree: Tree
    arteries: Tubes
    veins: Tubes
    cavities: Tubes


def grow_vessels(organ: Organ, frame: Frame, look: Look, rng: np.random.Generator) -> Vessels:
    """Arteries that fill the organ from its hilum, veins beside and between them, and calyces that join in a pelvis."""
    ends = _number_of_ends(organ, look)
    tree = _grown(organ, frame, ends=ends, radius=FINEST_RADIUS, rng=rng)
    arteries = tubes_from_tree(tree, flattest=2.2, rng=rng)
    lone = _grown(organ, frame, ends=max(8, ends // 3), radius=1.1, rng=rng)
    lone_tubes = tubes_from_tree(lone, flattest=4.0, rng=rng)
    # Wide veins keep to the fat; in the parenchyma they would displace the arteries.
    in_fat = organ.depth_in_fat(*lone_tubes.starts.T) > 0
    hollow = organ.depth_below_surface(*lone_tubes.starts.T) < 0
    alone = lone_tubes.chosen((lone_tubes.radii < 4.0) | (in_fat & hollow))
    veins = _joined(_joined(_companions(tree, arteries, rng), alone), _fissures(tree, arteries, rng))
    return Vessels(tree, arteries, veins, _cavities(organ, look, rng))


def _number_of_ends(organ: Organ, look: Look) -> int:
    volume = 4.2 * float(np.prod(organ.semi_axes))
    return int(np.clip(max(FEWEST_ENDS, volume / look.spacing**3), 8, max(8, volume / CLOSEST**3)))


def _grown(organ: Organ, frame: Frame, *, ends: int, radius: float, rng: np.random.Generator) -> Tree:
    depth = float(frame.middle @ organ.axes[2]) / organ.semi_axes[2]
    aside = rng.normal(0, 0.12)
    return grow_tree(
        feeding_points(organ, ends, rng),
        flows=radius**3 * np.exp(rng.normal(0, FLOW_SPREAD, ends)),
        root=organ.world(aside + rng.normal(0, 0.1), -2.0, depth + rng.normal(0, 0.12)),
        entrance=organ.world(aside, -1.25, depth + rng.normal(0, 0.1)),
        rng=rng,
    )


def _companions(tree: Tree, arteries: Tubes, rng: np.random.Generator) -> Tubes:
    """Veins that run beside some of the arteries, larger and collapsed, their flat side towards the artery."""
    count = len(tree.radii)
    present = rng.random(count) < np.interp(tree.radii, [1.0, 2.0, 4.0], [0.3, 0.6, 0.85])
    width = (0.3 + tree.radii * np.exp(rng.normal(0.2, 0.3, count)))[arteries.branches]
    flatness = (1 + 5.0 * rng.beta(1.3, 2.4, count))[arteries.branches]
    gap = (2.0 + rng.gamma(2.0, 0.8, count) + 0.25 * tree.radii)[arteries.branches]
    side = arteries.flat_directions
    shift = side * (arteries.radii + gap + width / np.sqrt(flatness))[:, None]
    veins = Tubes(arteries.starts + shift, arteries.ends + shift, width, side, flatness, arteries.branches)
    return veins.chosen(present[arteries.branches])


def _fissures(tree: Tree, arteries: Tubes, rng: np.random.Generator) -> Tubes:
    """Gaps between lobes: flat and wide, along some of the arteries of middle size, which lie in them."""
    gap = (tree.radii > 3) & (tree.radii < 9) & (rng.random(len(tree.radii)) < FISSURES)
    pieces = arteries.chosen(gap[arteries.branches])
    flatness = rng.uniform(6, 16, len(tree.radii))[pieces.branches]
    # The short semi-axis of a gap is 1.5 to 3 units; the long one follows from the flatness.
    short = rng.uniform(1.5, 3.0, len(tree.radii))[pieces.branches]
    return Tubes(
        pieces.starts, pieces.ends, short * np.sqrt(flatness), pieces.flat_directions, flatness, pieces.branches
    )


def _cavities(organ: Organ, look: Look, rng: np.random.Generator) -> Tubes:
    """The collecting system: few wide smooth branches that widen at their ends, from a pelvis in the sinus."""
    size = organ.semi_axes[1]
    inner = feeding_points(organ, 120, rng)
    calyces = inner[organ.depth_below_surface(*inner.T) > 0.22 * size][:16]
    tree = grow_tree(
        calyces,
        flows=np.full(len(calyces), (look.cavity * size) ** 3),
        root=organ.world(rng.normal(0, 0.1), -1.6, rng.normal(0, 0.3)),
        entrance=organ.world(rng.normal(0, 0.1), -0.7, rng.normal(0, 0.2)),
        rng=rng,
    )
    tubes = tubes_from_tree(tree, flattest=4.0, rng=rng)
    last = np.r_[tubes.branches[1:] != tubes.branches[:-1], True]
    leaf = ~np.isin(tubes.branches, tree.parents)
    cup = np.where(last & leaf, rng.uniform(1.2, 4.5, len(last)), 1.0)
    return Tubes(
        tubes.starts, tubes.ends, np.minimum(tubes.radii * cup, 0.16 * size),
        tubes.flat_directions, tubes.flatness, tubes.branches,
    )  # fmt: skip


def _joined(one: Tubes, other: Tubes) -> Tubes:
    """The pieces of both; the branches of `other` get new numbers."""
    return Tubes(
        np.concatenate([one.starts, other.starts]),
        np.concatenate([one.ends, other.ends]),
        np.concatenate([one.radii, other.radii]),
        np.concatenate([one.flat_directions, other.flat_directions]),
        np.concatenate([one.flatness, other.flatness]),
        np.concatenate([one.branches, other.branches + one.branches.max(initial=-1) + 1]),
    )
