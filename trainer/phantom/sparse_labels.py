"""Labels of which whole subtrees are missing, thin ones first, as an annotator leaves them."""

import numpy as np
import numpy.typing as npt

from sennet_trainer.phantom.tree import Tree, subtree_sums

DISORDER = 0.3  # standard deviation of the logarithm of a radius, when subtrees are put in order


def kept_voxels(
    tree: Tree,
    branch: npt.NDArray[np.int32],
    from_start: npt.NDArray[np.float32],
    *,
    keep: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.bool_]:
    """Which labelled voxels stay, [n] bool, so that a share `keep` of them does.

    Subtrees go one after the other, roughly from the thinnest to the thickest. One that is more than what may still
    go is passed over; in the end the far part of one branch, with nothing left beyond it, makes up the difference.

    Args:
        tree: the vessels.
        branch: [n], the branch that each labelled voxel belongs to.
        from_start: [n], how far each voxel lies from the start of its branch.
        keep: share of the voxels to keep, in (0, 1].
        rng: the order is a little random.
    """
    may_go = len(branch) - round(keep * len(branch))
    left = subtree_sums(tree, np.bincount(branch, minlength=len(tree.radii)))
    gone = np.zeros(len(tree.radii), bool)
    order = np.argsort(tree.radii * np.exp(rng.normal(0, DISORDER, len(tree.radii))))
    for subtree in order:
        if 0 < left[subtree] <= may_go and not _any_above(gone, tree, subtree):
            may_go -= left[subtree]
            _take(left, tree, subtree)
            gone[subtree] = True
    for child in range(1, len(gone)):  # parents come before their children
        gone[child] |= gone[tree.parents[child]]
    kept = ~gone[branch]
    _trim(kept, tree, branch, from_start, may_go)
    return kept


def _any_above(gone: npt.NDArray[np.bool_], tree: Tree, subtree: int) -> bool:
    """Whether something that `subtree` hangs on is gone, and it with that."""
    at = int(tree.parents[subtree])
    while at >= 0 and not gone[at]:
        at = int(tree.parents[at])
    return at >= 0


def _take(left: npt.NDArray[np.int64], tree: Tree, subtree: int) -> None:
    """Take what is left of `subtree` from it and from all that it hangs on, in place."""
    taken, at = left[subtree], subtree
    while at >= 0:
        left[at] -= taken
        at = int(tree.parents[at])


def _trim(
    kept: npt.NDArray[np.bool_],
    tree: Tree,
    branch: npt.NDArray[np.int32],
    from_start: npt.NDArray[np.float32],
    may_go: int,
) -> None:
    """Let the `may_go` farthest voxels of the thinnest branches go that have no kept voxel beyond them, in place."""
    while may_go > 0:
        counts = np.bincount(branch[kept], minlength=len(tree.radii))
        ends = np.flatnonzero((counts > 0) & (subtree_sums(tree, counts) == counts))
        thinnest = ends[np.argmin(tree.radii[ends])]
        members = np.flatnonzero(kept & (branch == thinnest))
        farthest = members[np.argsort(from_start[members], kind="stable")[::-1][:may_go]]
        kept[farthest] = False
        may_go -= len(farthest)
