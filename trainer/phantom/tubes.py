"""Tubes: the pieces that branches are made of, and the distances to them at the voxels near them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sennet_trainer.phantom.frame import Frame
from sennet_trainer.phantom.tree import Tree

Array = npt.NDArray[np.float64]
FAR = np.float32(1e6)


@dataclass(frozen=True)
class Tubes:
    """Straight pieces of tube with an elliptic cross-section.

    Attributes:
        starts, ends: [n, 3], (z, y, x).
        radii: [n], the geometric mean of the two semi-axes of the cross-section.
        flat_directions: [n, 3], unit vectors along the short semi-axis.
        flatness: [n], long semi-axis over short one, at least 1.
        branches: [n] int64, the branch that each piece belongs to.
    """

    starts: Array
    ends: Array
    radii: Array
    flat_directions: Array
    flatness: Array
    branches: npt.NDArray[np.int64]

    def chosen(self, mask: npt.NDArray[np.bool_]) -> "Tubes":
        """The pieces where `mask` ([n]) is true."""
        return Tubes(
            self.starts[mask], self.ends[mask], self.radii[mask],
            self.flat_directions[mask], self.flatness[mask], self.branches[mask],
        )  # fmt: skip


@dataclass(frozen=True)
class NearTubes:
    """The voxels near tubes, sparse: all arrays have one entry a voxel.

    Attributes:
        index: int64, positions in the flattened volume.
        distance: float32, voxels to the tube's surface, negative inside.
        branch: int32, the branch of the nearest tube.
    """

    index: npt.NDArray[np.int64]
    distance: npt.NDArray[np.float32]
    branch: npt.NDArray[np.int32]

    def where(self, mask: npt.NDArray[np.bool_]) -> "NearTubes":
        """The voxels where `mask` (one entry a voxel) is true."""
        return NearTubes(self.index[mask], self.distance[mask], self.branch[mask])


def tubes_from_tree(tree: Tree, *, flattest: float, rng: np.random.Generator) -> Tubes:
    """Curved branches as straight pieces, each branch leaving in the direction of its parent; unit of the tree.

    `flattest` is the largest flatness of a cross-section; most branches are nearly round.
    """
    count = len(tree.radii)
    chord = tree.ends - tree.starts
    length = np.linalg.norm(chord, axis=1)
    incoming = np.where(tree.parents[:, None] < 0, chord, chord[tree.parents])
    incoming = incoming / np.maximum(np.linalg.norm(incoming, axis=1, keepdims=True), 1e-9) * length[:, None]
    wander = rng.normal(0, 0.55, (count, 3)) * length[:, None]
    wind = _unit(rng.normal(size=(count, 3))) * rng.gamma(2.0, 0.5, (count, 1))
    leave, arrive = 0.5 * chord + 0.6 * incoming + 0.5 * wander, chord + wander
    pieces = np.clip(np.ceil(length / np.maximum(1.5 * tree.radii, 5.0)), 2, 60).astype(np.int64)
    branch = np.repeat(np.arange(count), pieces)
    first = np.repeat(np.cumsum(pieces) - pieces, pieces)
    share = (np.arange(len(branch)) - first) / pieces[branch]
    start, end = (
        _curve(tree.starts[branch], tree.ends[branch], leave[branch], arrive[branch], at)
        + _winding(tree, wind, branch, at)
        for at in (share, share + 1 / pieces[branch])
    )
    flat = _unit(rng.normal(size=(count, 3)))[branch]
    flatness = (1 + (flattest - 1) * rng.beta(1.2, 2.5, count))[branch]
    radii = tree.radii[branch] * np.exp(rng.normal(0, 0.06, len(branch)))
    return Tubes(start, end, radii, _across(flat, end - start), flatness, branch)


def near_tubes(tubes: Tubes, frame: Frame, *, reach: Array, smallest_radius: float) -> NearTubes:
    """The voxels of `frame` within `reach` ([n], world units) of the surface of each tube.

    Tubes are in the world; thinner ones than `smallest_radius` voxels are drawn with that radius, as no voxel's centre
    might lie within them otherwise.
    """
    distance = np.full(frame.shape_zyx, FAR, np.float32)
    branch = np.zeros(frame.shape_zyx, np.int32)
    starts, ends = frame.voxels_from_world(tubes.starts), frame.voxels_from_world(tubes.ends)
    radii = np.maximum(tubes.radii * frame.scale, smallest_radius)
    reach = reach * frame.scale
    pad = (radii * np.sqrt(tubes.flatness) + reach)[:, None]
    low = np.maximum(np.floor(np.minimum(starts, ends) - pad), 0).astype(np.int64)
    high = np.minimum(np.ceil(np.maximum(starts, ends) + pad) + 1, frame.shape_zyx).astype(np.int64)
    for piece in np.flatnonzero((low < high).all(axis=1)):
        box = tuple(slice(a, b) for a, b in zip(low[piece], high[piece], strict=True))
        offset = np.ogrid[box]
        to_surface = _distance(
            [(axis - at).astype(np.float32) for axis, at in zip(offset, starts[piece], strict=True)],
            (ends[piece] - starts[piece]).astype(np.float32),
            np.float32(radii[piece]),
            tubes.flat_directions[piece].astype(np.float32),
            np.float32(tubes.flatness[piece]),
        )
        nearer = to_surface < np.minimum(distance[box], np.float32(reach[piece]))
        np.copyto(distance[box], to_surface, where=nearer)
        np.copyto(branch[box], np.int32(tubes.branches[piece]), where=nearer)
    index = np.flatnonzero(distance < FAR)
    return NearTubes(index, distance.ravel()[index], branch.ravel()[index])


def _distance(
    offset: list[npt.NDArray[np.float32]],
    along: npt.NDArray[np.float32],
    radius: np.float32,
    flat: npt.NDArray[np.float32],
    flatness: np.float32,
) -> npt.NDArray[np.float32]:
    """About the distance to the surface of a capsule from its start at 0 to `along`, flattened along `flat`.

    `offset` holds the coordinates (z, y, x) relative to the start, ready to broadcast; `radius` and the result are in
    the same unit.
    """
    dz, dy, dx = offset
    length2 = max(np.float32(along @ along), np.float32(1e-6))
    share = (dz * along[0] + dy * along[1] + dx * along[2]) / length2
    within = np.clip(share, 0, 1)
    rz, ry, rx = dz - within * along[0], dy - within * along[1], dx - within * along[2]
    squared = rz * rz + ry * ry + rx * rx
    if flatness < 1.05:
        return np.asarray(np.sqrt(squared) - radius)
    short2 = (rz * flat[0] + ry * flat[1] + rx * flat[2]) ** 2
    beyond2 = (share - within) ** 2 * length2
    # Squares of the offsets along the long, the short and the tube's own axis, with weights 1/f, f and 1.
    scaled2 = np.maximum(squared / flatness + short2 * (flatness - 1 / flatness) + beyond2 * (1 - 1 / flatness), 1e-6)
    slope2 = 1 / flatness + (short2 * flatness / scaled2) * (flatness - 1 / flatness)
    return np.asarray((np.sqrt(scaled2) - radius) / np.sqrt(slope2))


def _curve(start: Array, end: Array, leave: Array, arrive: Array, share: Array) -> Array:
    """Points of cubic Hermite curves at `share` of their way."""
    t = share[:, None]
    return np.asarray(
        (2 * t**3 - 3 * t**2 + 1) * start + (t**3 - 2 * t**2 + t) * leave
        + (3 * t**2 - 2 * t**3) * end + (t**3 - t**2) * arrive
    )  # fmt: skip


def _winding(tree: Tree, wind: Array, branch: npt.NDArray[np.int64], share: Array) -> Array:
    """How far a winding vessel is off its curve: waves about ten radii long that vanish at both ends."""
    length = np.linalg.norm(tree.ends - tree.starts, axis=1)[branch]
    radius = tree.radii[branch]
    wave = np.sin(share * length / (1.6 * radius)) * np.sin(np.pi * share) * radius
    return np.asarray(wave[:, None] * wind[branch])


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9))


def _across(vectors: Array, along: Array) -> Array:
    """`vectors` made perpendicular to `along`, unit length."""
    direction = _unit(along)
    return _unit(vectors - (vectors * direction).sum(axis=1, keepdims=True) * direction)
