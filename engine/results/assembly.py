"""From finished slabs to the files that a person gets: mask, probability, submission and preview."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import OutputError
from sennet_engine.results.component_filter import FilteredChunk, without_small_components
from sennet_engine.results.preview import Preview
from sennet_engine.results.rle import SubmissionWriter
from sennet_engine.results.stack_writer import StackWriter, encoded_plane
from sennet_engine.storage.slab_file import SlabFile
from sennet_engine.volumes.volume import Volume

MASK, PROBABILITY, SUBMISSION, PREVIEW = "mask.tif", "probability.tif", "submission.csv", "preview.png"

# Planes are taken together up to so many voxels, whatever the thickness of a slab: labelling them needs 20 bytes each.
CHUNK_VOXELS = 1 << 24


@dataclass(frozen=True)
class AssemblyCounts:
    """`vessel_voxels` of the mask as written; components with fewer than `min_voxels`, which it lacks."""

    vessel_voxels: int
    removed_components: int
    removed_voxels: int


def assemble(
    slab_files: Sequence[Path],
    folder: Path,
    volume: Volume,
    *,
    min_voxels: int,
    probability: bool,
    submission: bool,
    grey_of_plane: Callable[[int], npt.NDArray[np.uint8]],
    on_planes: Callable[[int, int], None],
) -> AssemblyCounts:
    """Write mask.tif and preview.png into `folder`, and probability.tif and submission.csv where they are asked for.

    Compressed planes are taken over as they are unless a component was removed from them. Probabilities stay as the
    networks gave them. Memory is that of a few planes, and what `without_small_components` says.

    Args:
        slab_files: of all planes of the volume, in the order of z.
        volume: tells shape, voxel size, name and plane ids; no plane is read.
        min_voxels: 26-connected components of fewer voxels are removed; 0 keeps all.
        grey_of_plane: gives a z plane [Y, X] uint8 as windowed; it is asked for one, after all else.
        on_planes: called with (planes done, planes in all) at the start and as planes are written.

    Raises:
        OutputError: a slab file is missing, damaged or of another volume, or was written without probabilities.
        OSError: the disk is full.
    """
    pieces = _pieces(slab_files, volume.shape_zyx)
    preview = Preview(volume.shape_zyx, voxel_size_um=volume.voxel_size_um)
    writer = partial(StackWriter, shape_zyx=volume.shape_zyx, voxel_size_um=volume.voxel_size_um)
    vessel_voxels = removed_components = removed_voxels = 0
    with ExitStack() as files:
        mask_file = files.enter_context(writer(folder / MASK))
        probability_file = files.enter_context(writer(folder / PROBABILITY)) if probability else None
        rows = None
        if submission:
            rows = files.enter_context(SubmissionWriter(folder / SUBMISSION, name=volume.name))
        on_planes(0, volume.shape_zyx[0])
        for piece, chunk in zip(pieces, _chunks(pieces, min_voxels), strict=True):
            with SlabFile.open(piece.path) as slab:
                for plane, mask in enumerate(chunk.mask, start=piece.first):
                    z = slab.start + plane
                    voxels = int(np.count_nonzero(mask))
                    is_whole = voxels == slab.vessel_voxels(plane)
                    mask_file.append_encoded([slab.mask_strip(plane) if is_whole else encoded_plane(_levels(mask))])
                    if probability_file:
                        probability_file.append_encoded([slab.probability_strip(plane)])
                    if rows:
                        rows.append(volume.plane_ids[z], mask)
                    preview.add(z, mask, slab.grey_lines(plane))
                    vessel_voxels += voxels
                on_planes(slab.start + piece.stop, volume.shape_zyx[0])
            removed_components += chunk.removed_components
            removed_voxels += chunk.removed_voxels
    preview.save(folder / PREVIEW, grey_of_plane=grey_of_plane)
    return AssemblyCounts(vessel_voxels, removed_components, removed_voxels)


@dataclass(frozen=True)
class _Piece:
    """Planes `first` to `stop` (exclusive) of a slab file, counted within it."""

    path: Path
    first: int
    stop: int

    def mask(self) -> npt.NDArray[np.bool_]:
        with SlabFile.open(self.path) as slab:
            return np.stack([slab.mask_plane(plane) for plane in range(self.first, self.stop)])


def _pieces(slab_files: Sequence[Path], shape_zyx: tuple[int, int, int]) -> list[_Piece]:
    """The slabs in pieces that fit the memory; all of them are looked at before anything is written."""
    depth, *shape_yx = shape_zyx
    planes_in_piece = max(1, CHUNK_VOXELS // (shape_yx[0] * shape_yx[1]))
    pieces = []
    z = 0
    for path in slab_files:
        with SlabFile.open(path) as slab:
            planes, *slab_yx = slab.shape
            if slab.start != z or slab_yx != shape_yx:
                raise OutputError(
                    f"{path}: got {planes} planes of {tuple(slab_yx)} (Y, X) from z = {slab.start} on, expected planes "
                    f"of {tuple(shape_yx)} from z = {z} on; start anew with --overwrite"
                )
        starts = range(0, planes, planes_in_piece)
        pieces += [_Piece(path, start, min(start + planes_in_piece, planes)) for start in starts]
        z += planes
    if z != depth:
        raise OutputError(f"got slab files up to z = {z}, expected {depth} planes; start anew with --overwrite")
    return pieces


def _chunks(pieces: Sequence[_Piece], min_voxels: int) -> Iterator[FilteredChunk]:
    """The mask of each piece; a component has at least one voxel."""
    if min_voxels > 1:
        return without_small_components(lambda index: pieces[index].mask(), len(pieces), min_voxels=min_voxels)
    return (FilteredChunk(piece.mask(), 0, 0) for piece in pieces)


def _levels(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """A mask as 0 and 255."""
    return mask.astype(np.uint8) * np.uint8(255)
