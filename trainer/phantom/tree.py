"""A vascular tree that feeds given points: it divides them in two again and again, with radii after Murray."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]  # [n, 3], (z, y, x)


@dataclass(frozen=True)
class Tree:
    """Branches from a root outwards; a branch runs from the end of its parent to its own end.

    Attributes:
        ends: [n, 3] float64, where each branch ends, (z, y, x).
        starts: [n, 3] float64, where each branch starts: the end of its parent.
        parents: [n] int64, the parent's index, smaller than the branch's own; -1 for the root.
        radii: [n] float64, in the unit of the points. r0^3 = r1^3 + r2^3 at every branching (Murray 1926).
    """

    starts: Points
    ends: Points
    parents: npt.NDArray[np.int64]
    radii: npt.NDArray[np.float64]


def grow_tree(
    terminals: Points,
    *,
    flows: npt.NDArray[np.float64],
    root: Points,
    entrance: Points,
    rng: np.random.Generator,
) -> Tree:
    """A tree from `root` through `entrance` to each of `terminals` ([n, 3], n >= 1): 2 n - 1 branches.

    Each terminal draws its flow (`flows`, [n], the cube of its radius); a branch carries the sum of what it feeds, and
    its radius is the cube root of that, which is Murray's law.
    """
    starts, ends, parents, carried = [root], [entrance], [-1], [float(flows.sum())]
    groups = [(0, np.arange(len(terminals)))]
    while groups:
        parent, group = groups.pop()
        if len(group) == 1:
            continue
        for part in _halves(terminals[group], rng):
            members = group[part]
            starts.append(ends[parent])
            ends.append(_end(ends[parent], terminals[members], rng))
            parents.append(parent)
            carried.append(float(flows[members].sum()))
            groups.append((len(ends) - 1, members))
    return Tree(np.array(starts), np.array(ends), np.array(parents, np.int64), np.cbrt(np.array(carried)))


def subtree_sums(tree: Tree, values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For each branch the sum of `values` ([n]) over it and all branches beyond it."""
    sums = values.copy()
    for branch in range(len(sums) - 1, 0, -1):  # children come after their parents
        sums[tree.parents[branch]] += sums[branch]
    return sums


def _halves(points: Points, rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Two parts of `points`, divided across a direction near their longest one, often unequally."""
    centred = points - points.mean(axis=0)
    longest = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    order = np.argsort(centred @ (longest + rng.normal(0, 0.25, 3)))
    cut = int(np.clip(round(len(points) * rng.uniform(0.15, 0.85)), 1, len(points) - 1))
    return order[:cut], order[cut:]


def _end(start: Points, fed: Points, rng: np.random.Generator) -> Points:
    """Where a branch from `start` divides: part of the way to the middle of what it feeds; a terminal is reached."""
    if len(fed) == 1:
        return np.asarray(fed[0])
    way = fed.mean(axis=0) - start
    aside = rng.normal(0, 0.08, 3) * np.linalg.norm(way)
    return np.asarray(start + rng.uniform(0.35, 0.7) * way + aside)
