"""Drop branches from dense vessel labels, thin and short ones first, as an annotator who leaves some out."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.morphology import skeletonize
from skimage.segmentation import watershed

from sennet_engine.errors import ConfigError, VolumeError

TOLERANCE = 0.005
"""How far the kept share may be from the one asked for."""
DISORDER = 0.3  # standard deviation of the logarithm of a branch's rank: the order of an annotator is not exact
LENGTH_COUNTS = 1 / 3  # power of the length in the rank: the radius comes first, the length decides among equals
TOUCHING = np.ones((3, 3, 3), bool)

Mask = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int32]


@dataclass(frozen=True)
class SparseLabels:
    """Labels of which branches are missing.

    Attributes:
        mask: uint8 0/1 [Z, Y, X], a part of the dense labels.
        kept_share: of the labelled voxels.
        branches, dropped: how many branches there were, and how many of them are missing.
    """

    mask: Mask
    kept_share: float
    branches: int
    dropped: int

    def meets(self, keep: float) -> bool:
        """Whether a share of `keep` is kept, within half a percent of the labelled voxels."""
        return abs(self.kept_share - keep) <= TOLERANCE


@dataclass(frozen=True)
class Branches:
    """The branches of a mask.

    Attributes:
        numbers: int32 [Z, Y, X], 0 outside of the mask, else the branch, 1 to n.
        voxels: [n], voxels of each branch.
        radii: [n], the mean over its centreline of the distance to the background, in voxels.
        lengths: [n], voxels of its centreline.
    """

    numbers: Numbers
    voxels: npt.NDArray[np.int64]
    radii: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]


def dropped_branches(labels: npt.NDArray[np.bool_], *, keep: float, seed: int) -> SparseLabels:
    """Drop whole branches of `labels`, bool [Z, Y, X], until a share `keep` of its voxels is left.

    Branches go one after the other, roughly from the thinnest to the thickest and among equals the short ones first;
    equal seeds give equal labels. One that is more than what may still go is passed over; where that misses the share,
    two branches are exchanged. With few thick branches it may be missed still: see `SparseLabels.meets`. Works in
    memory, about 50 bytes a voxel.

    Raises:
        ConfigError: `keep` is not within (0, 1].
        VolumeError: no voxel is labelled.
    """
    if not 0 < keep <= 1:
        raise ConfigError(f"keep: got {keep}, expected a share in (0, 1]; the sparse kidneys have 0.65 and 0.85")
    if not labels.any():
        raise VolumeError("no voxel is labelled, so there is no branch to drop; give labels with vessels")
    branches = branches_of(labels)
    gone = _gone(branches, keep=keep, rng=np.random.default_rng(seed))
    mask = labels & ~np.append(False, gone)[branches.numbers]
    return SparseLabels(
        mask=mask.astype(np.uint8),
        kept_share=np.count_nonzero(mask) / np.count_nonzero(labels),
        branches=len(gone),
        dropped=int(np.count_nonzero(gone)),
    )


def branches_of(labels: npt.NDArray[np.bool_]) -> Branches:
    """The branches of `labels`, bool [Z, Y, X]: its centrelines between junctions, each with the voxels around it.

    A voxel belongs to the centreline that is reached from it through the thickest part of the vessel, not to the
    nearest: beside a thick vessel that would be a thin neighbour.
    """
    depth = ndimage.distance_transform_edt(labels).astype(np.float32)
    centrelines = _centrelines(labels, depth)
    numbers = watershed(-depth, centrelines, mask=labels, connectivity=TOUCHING).astype(np.int32)
    count = int(numbers.max())
    lengths = np.bincount(centrelines.reshape(-1), minlength=count + 1)[1:]
    radii = ndimage.mean(depth, centrelines, np.arange(1, count + 1))
    return Branches(numbers, np.bincount(numbers.reshape(-1), minlength=count + 1)[1:], radii, lengths)


def _centrelines(labels: npt.NDArray[np.bool_], depth: npt.NDArray[np.float32]) -> Numbers:
    """The skeleton, cut at its junctions, each piece with a number; 0 elsewhere.

    With a junction goes all that lies within the vessel's radius of it. So a thin branch begins at the wall of the
    thick one that it leaves, and the spurs that a rough wall gives a skeleton vanish.
    """
    skeleton = skeletonize(labels)
    neighbours = ndimage.convolve(skeleton.astype(np.uint8), TOUCHING.astype(np.uint8), mode="constant") - skeleton
    points = np.argwhere(skeleton)
    junctions = points[neighbours[skeleton] > 2]
    pieces = skeleton.copy()
    if len(junctions):
        for near in cKDTree(points).query_ball_point(junctions, depth[tuple(junctions.T)]):
            pieces[tuple(points[near].T)] = False
    numbers, count = ndimage.label(pieces, TOUCHING)
    # What has no centreline left, such as a star of spurs alone, is one branch, its deepest voxels the centreline.
    bodies, bodies_count = ndimage.label(labels, TOUCHING)
    bare = np.setdiff1d(np.arange(1, bodies_count + 1), np.unique(bodies[pieces]))
    deepest = np.append(np.inf, ndimage.maximum(depth, bodies, np.arange(1, bodies_count + 1)))
    lone = np.isin(bodies, bare) & (depth == deepest[bodies])
    renumbered = np.zeros(bodies_count + 1, np.int32)
    renumbered[bare] = count + 1 + np.arange(len(bare))
    centrelines: Numbers = np.where(lone, renumbered[bodies], numbers).astype(np.int32)
    return centrelines


def _gone(branches: Branches, *, keep: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which branches are dropped, [n] bool."""
    voxels = branches.voxels
    may_go = round((1 - keep) * int(voxels.sum()))
    rank = branches.radii * branches.lengths**LENGTH_COUNTS * np.exp(rng.normal(0, DISORDER, len(voxels)))
    gone = np.zeros(len(voxels), bool)
    for branch in np.argsort(rank, kind="stable"):
        if voxels[branch] <= may_go:
            gone[branch] = True
            may_go -= int(voxels[branch])
    if abs(may_go) > TOLERANCE * int(voxels.sum()):
        _exchange(gone, voxels, may_go)
    return gone


def _exchange(gone: npt.NDArray[np.bool_], voxels: npt.NDArray[np.int64], may_go: int) -> None:
    """Drop a branch that was passed over, for one that was dropped or for none, so that best `may_go` go; in place."""
    # Each kept branch is larger than the half percent that is missed, so there are at most 200, and the table is small.
    kept, dropped = np.flatnonzero(~gone), np.append(np.flatnonzero(gone), -1)
    back = np.append(voxels, 0)[dropped]
    errors = np.abs(voxels[kept][:, None] - back - may_go)
    one, other = np.unravel_index(np.argmin(errors), errors.shape)
    if errors[one, other] < may_go and len(kept) > 1:
        gone[kept[one]] = True
        if dropped[other] >= 0:
            gone[dropped[other]] = False
