"""Remove small components of a mask that is too large for memory, chunk by chunk along z.

Every chunk is labelled twice. The first time, components that reach its first or last plane are joined with those of
the chunk before. The second time, when it is known what becomes of all of them, voxels are removed. The second
labelling follows the first at a distance: a component that is still too small began fewer planes ago than the voxels it
needs, so what is remembered does not grow with the volume.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import cc3d
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.signedinteger]
Labels = npt.NDArray[np.unsignedinteger]

# What becomes of a component.
REMOVED, KEPT, UNKNOWN = range(3)


@dataclass(frozen=True)
class FilteredChunk:
    """A chunk without its small components.

    Attributes:
        mask: [n, Y, X].
        removed_components: that turned out to be too small here. One of several chunks is counted in one of them.
        removed_voxels: of these components, in all chunks.
    """

    mask: Mask
    removed_components: int
    removed_voxels: int


def without_small_components(read: Callable[[int], Mask], chunks: int, *, min_voxels: int) -> Iterator[FilteredChunk]:
    """Keep the 26-connected components of at least `min_voxels` voxels, however the mask is cut into chunks.

    Held are one chunk, with up to 20 bytes for a voxel of the box around its vessels, and of chunks that are read but
    not given out yet 8 bytes for each component that touches their first or last plane and 21 for each that these
    joined to. That is a few chunks, or the last 2 * `min_voxels` planes where those are more.

    Args:
        read: gives chunk 0, 1, ... as [n, Y, X] with at least one plane; each is asked for twice.
        chunks: how many there are.
    """
    pending: deque[_Joined] = deque()
    before: _Joined | None = None
    given = undecided = 0
    for chunk in range(chunks):
        is_last = chunk == chunks - 1
        before = _joined(_labelled(read(chunk)), before, is_last=is_last, min_voxels=min_voxels)
        pending.append(before)
        # Looking only when there is twice as much as last could not be decided costs each chunk the same.
        if len(pending) > 2 * undecided or is_last:
            _decide(pending)
            while pending and not (pending[0].fate == UNKNOWN).any():
                yield _filtered(read(given), pending.popleft(), min_voxels=min_voxels)
                given += 1
            undecided = len(pending)


@dataclass(frozen=True)
class _Labelled:
    """The components of a chunk on its own.

    Attributes:
        labels: [n, rows, columns] of the box around its vessels: 1 up to the number of components, 0 elsewhere.
        box: rows and columns of the chunk where that lies.
        shape_yx: of the chunk.
        even_shape: of the array that `labels` is cut from.
        indices: of the vessel voxels, flat in that array.
        of_voxel: their labels.
        voxels: by label; 0 for label 0.
    """

    labels: Labels
    box: tuple[slice, slice]
    shape_yx: tuple[int, int]
    even_shape: tuple[int, ...]
    indices: Integers
    of_voxel: Labels
    voxels: Integers


@dataclass
class _Joined:
    """The components of a chunk that touch its first or last plane, joined with those that came into it.

    Attributes:
        face_labels, component: labels of the chunk, and the number of the joined component of each.
        fate: of the joined components.
        leaving: which of them touch the last plane, so that they may go on.
        voxels: of those, so far.
        goes_on_as: their numbers in the next chunk, as soon as that is joined.
        last_plane: [Y + 2, X + 2] with an empty margin: 1 + the place in `leaving`, or 0. Until the next is joined.
    """

    face_labels: Integers
    component: Integers
    fate: npt.NDArray[np.uint8]
    leaving: Integers
    voxels: Integers
    last_plane: Integers
    removed_components: int
    removed_voxels: int
    goes_on_as: Integers = field(default_factory=lambda: np.zeros(0, np.int32))


def _labelled(mask: Mask) -> _Labelled:
    rows, columns = _extent(mask.max(axis=(0, 2))), _extent(mask.max(axis=(0, 1)))
    boxed = mask[:, rows, columns]
    # Even sides: cc3d 4.1.1 reserves too few labels for dense noise in thin arrays, and then fails.
    vessels = np.zeros([side + side % 2 for side in boxed.shape], bool)
    vessels[: boxed.shape[0], : boxed.shape[1], : boxed.shape[2]] = boxed
    labels, count = cc3d.connected_components(vessels, connectivity=26, return_N=True)
    indices = np.flatnonzero(vessels)
    of_voxel = labels.ravel()[indices]
    return _Labelled(
        labels=labels[: boxed.shape[0], : boxed.shape[1], : boxed.shape[2]],
        box=(rows, columns),
        shape_yx=(mask.shape[1], mask.shape[2]),
        even_shape=vessels.shape,
        indices=indices,
        of_voxel=of_voxel,
        voxels=np.bincount(of_voxel, minlength=count + 1),
    )


def _extent(line: Mask) -> slice:
    """From the first to the last True; one element where there is none, so that an empty chunk is like any other."""
    found = np.flatnonzero(line)
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 1)


def _joined(chunk: _Labelled, before: _Joined | None, *, is_last: bool, min_voxels: int) -> _Joined:
    """Join the components that leave the chunk `before` with those that touch the faces of `chunk`."""
    arriving = np.zeros(0, np.int64) if before is None else before.voxels
    in_last = _labels_in(chunk.labels[-1], chunk.voxels.size) & (not is_last)
    at_face = _labels_in(chunk.labels[0], chunk.voxels.size) | in_last
    face_labels = np.flatnonzero(at_face).astype(np.int32)

    # The nodes of the graph are the components that arrive, and behind them the labels at the faces.
    node_of_label = np.cumsum(at_face, dtype=np.int32) + np.int32(arriving.size - 1)
    nodes = arriving.size + face_labels.size
    pairs = np.zeros((2, 0), np.int32) if before is None else _touching(before.last_plane, chunk, node_of_label)
    component = _components(nodes, pairs)
    count = int(component.max(initial=-1)) + 1
    voxels = np.zeros(count, np.int64)
    np.add.at(voxels, component, np.concatenate([arriving, chunk.voxels[face_labels]]))
    leaves = np.zeros(count, bool)
    leaves[component[node_of_label[in_last]]] = True
    leaving = np.flatnonzero(leaves).astype(np.int32)

    fate = np.where(leaves, UNKNOWN, REMOVED).astype(np.uint8)
    fate[voxels >= min_voxels] = KEPT
    inside = chunk.voxels[~at_face]
    removed = np.concatenate([voxels[fate == REMOVED], inside[(inside > 0) & (inside < min_voxels)]])
    last_plane = np.zeros((chunk.shape_yx[0] + 2, chunk.shape_yx[1] + 2) if leaving.size else (0, 0), np.int32)
    if leaving.size:
        place_of_label = np.zeros(chunk.voxels.size, np.int32)
        place_of_label[in_last] = np.cumsum(leaves, dtype=np.int32)[component[node_of_label[in_last]]]
        last_plane[1:-1, 1:-1][chunk.box] = place_of_label[chunk.labels[-1]]
    if before is not None:
        before.goes_on_as = component[: arriving.size]
        before.last_plane = np.zeros((0, 0), np.int32)
    return _Joined(
        face_labels=face_labels,
        component=component[arriving.size :],
        fate=fate,
        leaving=leaving,
        voxels=voxels[leaving],
        last_plane=last_plane,
        removed_components=removed.size,
        removed_voxels=int(removed.sum()),
    )


def _labels_in(labels: Labels, count: int) -> Mask:
    """[count]: whether a label is among `labels`; label 0 never is."""
    found = np.zeros(count, bool)
    found[labels[labels > 0]] = True
    return found


def _touching(last_plane: Integers, chunk: _Labelled, node_of_label: Integers) -> Integers:
    """Pairs [2, n] of nodes that share a face, an edge or a corner between the chunk before and `chunk`."""
    rows, columns = np.nonzero(chunk.labels[0])
    if not rows.size or not last_plane.size:
        return np.zeros((2, 0), np.int32)
    label = node_of_label[chunk.labels[0][rows, columns]]
    rows, columns = rows + chunk.box[0].start, columns + chunk.box[1].start
    pairs = []
    for row in range(3):
        for column in range(3):
            place = last_plane[rows + row, columns + column]
            # Along a run of voxels the same pair comes again and again.
            is_new = place > 0
            is_new[1:] &= (place[1:] != place[:-1]) | (label[1:] != label[:-1])
            pairs.append(np.stack([place[is_new] - 1, label[is_new]]))
    return np.concatenate(pairs, axis=1)


def _components(nodes: int, pairs: Integers) -> Integers:
    """The number of the component, from 0, of each of the nodes of the graph with the edges `pairs`."""
    if not nodes:
        return np.zeros(0, np.int32)
    graph = coo_array((np.ones(pairs.shape[1], bool), (pairs[0], pairs[1])), shape=(nodes, nodes))
    component: Integers = connected_components(graph, directed=False)[1]
    return component


def _decide(pending: deque[_Joined]) -> None:
    """Pass on what became of the components, from the last chunk to the first."""
    for index in range(len(pending) - 2, -1, -1):
        chunk, following = pending[index], pending[index + 1]
        chunk.fate[chunk.leaving] = following.fate[chunk.goes_on_as]


def _filtered(mask: Mask, joined: _Joined, *, min_voxels: int) -> FilteredChunk:
    """Label the chunk again, which gives the same labels, and remove the components that are too small."""
    chunk = _labelled(mask)
    keeps = chunk.voxels >= min_voxels
    keeps[joined.face_labels] = joined.fate[joined.component] == KEPT
    removed = chunk.indices[~keeps[chunk.of_voxel]]
    if removed.size:
        mask = mask.copy()
        mask[:, chunk.box[0], chunk.box[1]][np.unravel_index(removed, chunk.even_shape)] = False
    return FilteredChunk(mask, joined.removed_components, joined.removed_voxels)
