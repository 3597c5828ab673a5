"""From slab files to the files that a person gets."""

import csv
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from sennet_engine.errors import OutputError
from sennet_engine.results import assembly
from sennet_engine.results.assembly import AssemblyCounts, assemble
from sennet_engine.results.preview import Preview, middle_lines
from sennet_engine.results.rle import mask_from_rle
from sennet_engine.storage.slab_file import SlabFile, write_slab_file
from sennet_engine.volumes.open import open_volume
from sennet_engine.volumes.volume import ArrayVolume

SHAPE = (19, 70, 60)
RNG = np.random.default_rng(4)
GREY = RNG.integers(0, 256, SHAPE, np.uint8)
PROBABILITY = RNG.integers(0, 256, SHAPE, np.uint8)
# Winding tubes and specks, and two planes without anything.
NOISES = [ndimage.gaussian_filter(noise, 3) for noise in RNG.normal(size=(2, *SHAPE))]
RESULT = (np.hypot(*NOISES) < 0.01) | (RNG.random(SHAPE) < 0.001)
RESULT[4:6] = False
VOLUME = ArrayVolume(GREY, name="kidney_9", voxel_size_um=(50.0, 20.0, 30.0))


def write_slabs(folder, planes, *, mask=RESULT, probability=PROBABILITY):
    """Slab files of `planes` planes each in `folder`."""
    folder.mkdir()
    paths = []
    for z in range(0, len(mask), planes):
        paths.append(folder / f"{z:06d}.slab")
        part = slice(z, z + planes)
        write_slab_file(paths[-1], z, mask[part], None if probability is None else probability[part], GREY[part])
    return paths


def assembled(out, slabs, *, on_planes=lambda *_: None, volume=VOLUME, **changes):
    """The counts of files written to the new folder `out`."""
    out.mkdir()
    options = {"min_voxels": 0, "probability": False, "submission": False, **changes}
    return assemble(slabs, out, volume, grey_of_plane=lambda z: GREY[z], on_planes=on_planes, **options)


def large_components(mask, min_voxels):
    """By scipy: the mask without small components, and how many were removed."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    is_large = np.bincount(labels.ravel(), minlength=count + 1) >= min_voxels
    is_large[0] = False
    return is_large[labels], int(count - is_large.sum())


def stack(path):
    with open_volume(path) as volume:
        assert volume.voxel_size_um == VOLUME.voxel_size_um
        return volume.read_planes(0, volume.shape_zyx[0])


@pytest.fixture(params=[1, 4, 1000])
def planes_at_a_time(request, monkeypatch):
    """Slabs are taken in pieces of one plane, of a few, and whole."""
    monkeypatch.setattr(assembly, "CHUNK_VOXELS", request.param * SHAPE[1] * SHAPE[2])


@pytest.mark.parametrize("planes", [1, 5, 19])
def test_all_files_hold_what_the_slabs_hold(tmp_path, planes, planes_at_a_time):
    """Mask, probability, submission and preview of slabs of any thickness."""
    counts = assembled(tmp_path / "out", write_slabs(tmp_path / "slabs", planes), probability=True, submission=True)
    assert counts == AssemblyCounts(int(RESULT.sum()), 0, 0)
    out = tmp_path / "out"
    assert {file.name for file in out.iterdir()} == {"mask.tif", "probability.tif", "submission.csv", "preview.png"}
    assert np.array_equal(stack(out / "mask.tif"), RESULT * np.uint8(255))
    assert np.array_equal(stack(out / "probability.tif"), PROBABILITY)
    rows = list(csv.DictReader((out / "submission.csv").read_text().splitlines()))
    assert [row["id"] for row in rows] == [f"kidney_9_{z:04d}" for z in range(19)]
    assert np.array_equal([mask_from_rle(row["rle"], SHAPE[1:]) for row in rows], RESULT)

    preview = Preview(SHAPE, voxel_size_um=VOLUME.voxel_size_um)
    for z in range(19):
        preview.add(z, RESULT[z], middle_lines(GREY[z]))
    preview.save(tmp_path / "expected.png", grey_of_plane=lambda z: GREY[z])
    assert np.array_equal(Image.open(out / "preview.png"), Image.open(tmp_path / "expected.png"))


def test_what_nobody_asked_for_is_not_written(tmp_path):
    """A mask and its preview, though the slabs hold probabilities."""
    assembled(tmp_path / "out", write_slabs(tmp_path / "slabs", 5))
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"mask.tif", "preview.png"}


@pytest.mark.parametrize("planes", [1, 5, 19])
@pytest.mark.parametrize("min_voxels", [2, 40, 1000])
def test_small_components_are_in_no_file(tmp_path, planes, min_voxels, planes_at_a_time):
    """Mask, submission, preview and counts are without them; probabilities stay what the networks said."""
    slabs = write_slabs(tmp_path / "slabs", planes)
    counts = assembled(tmp_path / "out", slabs, probability=True, submission=True, min_voxels=min_voxels)
    expected, removed = large_components(RESULT, min_voxels)
    assert removed > 0
    assert counts == AssemblyCounts(int(expected.sum()), removed, int(RESULT.sum() - expected.sum()))

    clean = tmp_path / "clean"
    assembled(tmp_path / "out2", write_slabs(clean, 19, mask=expected), probability=True, submission=True)
    for name in ("mask.tif", "probability.tif", "submission.csv", "preview.png"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "out2" / name).read_bytes(), name


def test_compressed_planes_are_taken_over(tmp_path, monkeypatch):
    """The strips of mask.tif are the slabs' own bytes; only planes that lost a component are compressed again."""
    compressed, encoded_plane = [], assembly.encoded_plane
    monkeypatch.setattr(assembly, "encoded_plane", lambda plane: compressed.append(plane) or encoded_plane(plane))
    slabs = write_slabs(tmp_path / "slabs", 19)
    assembled(tmp_path / "out", slabs, min_voxels=5)
    expected, _ = large_components(RESULT, 5)
    assert len(compressed) == np.count_nonzero((expected != RESULT).any(axis=(1, 2))) < 19
    with SlabFile.open(slabs[0]) as slab, tifffile.TiffFile(tmp_path / "out" / "mask.tif") as tiff:
        for z, page in enumerate(tiff.pages):
            tiff.filehandle.seek(page.dataoffsets[0])
            strip = tiff.filehandle.read(page.databytecounts[0])
            assert zlib.decompress(strip) == (expected[z] * np.uint8(255)).tobytes()
            assert (strip == slab.mask_strip(z)) == np.array_equal(expected[z], RESULT[z])


def test_progress_goes_up_to_all_planes(tmp_path, planes_at_a_time):
    """From none on, always in the same direction."""
    told = []
    assembled(tmp_path / "out", write_slabs(tmp_path / "slabs", 5), on_planes=lambda *args: told.append(args))
    done = [planes for planes, _ in told]
    assert {planes for _, planes in told} == {19}
    assert (done[0], done[-1]) == (0, 19)
    assert done == sorted(set(done))


def test_slabs_that_do_not_make_up_the_volume_are_refused(tmp_path):
    """One that is missing, twice there, in the wrong place, damaged, or of another volume; before a file is written."""
    slabs = write_slabs(tmp_path / "slabs", 5)
    short = tmp_path / "short.slab"
    short.write_bytes(slabs[1].read_bytes()[:-1])
    wide = ArrayVolume(np.zeros((19, 70, 61), np.uint8))
    flat = ArrayVolume(np.zeros((18, 70, 60), np.uint8))
    wrong = {
        "missing": (slabs[:1] + slabs[2:], VOLUME),
        "at_the_end": (slabs[:-1], VOLUME),
        "twice": ([slabs[0], *slabs], VOLUME),
        "swapped": (slabs[::-1], VOLUME),
        "none": ([], VOLUME),
        "damaged": ([slabs[0], short, *slabs[2:]], VOLUME),
        "gone": ([slabs[0], tmp_path / "gone.slab", *slabs[2:]], VOLUME),
        "wide": (slabs, wide),
        "flat": (slabs, flat),
    }
    for name, (paths, volume) in wrong.items():
        with pytest.raises(OutputError, match="--overwrite"):
            assembled(tmp_path / name, paths, volume=volume)
        assert not list((tmp_path / name).iterdir())


def test_probabilities_that_were_not_kept_cannot_be_written(tmp_path):
    """The message names the slab."""
    slabs = write_slabs(tmp_path / "slabs", 5, probability=None)
    with pytest.raises(OutputError, match=r"000000\.slab.*--probability"):
        assembled(tmp_path / "out", slabs, probability=True)


@pytest.mark.parametrize("min_voxels", [0, 50])
def test_memory_does_not_grow_with_the_planes(tmp_path, min_voxels):
    """Four times the slabs take at most 5 % more at the peak, up to where the picture is drawn."""
    shape, peaks = (8, 200, 150), []
    mask = np.random.default_rng(0).random(shape) < 0.02

    def grey_of_plane(_):
        peaks.append(tracemalloc.get_traced_memory()[1])
        return np.zeros((200, 150), np.uint8)

    for count in (6, 24):
        folder = tmp_path / f"slabs_{count}"
        folder.mkdir()
        slabs = [folder / f"{index}.slab" for index in range(count)]
        for index, path in enumerate(slabs):
            write_slab_file(path, index * 8, np.roll(mask, 7 * index, axis=1), None, np.zeros(shape, np.uint8))
        # Thin planes, of which the preview has only a few rows.
        thin = (0.1, 50.0, 50.0)
        volume = ArrayVolume(np.broadcast_to(np.uint8(0), (8 * count, 200, 150)), voxel_size_um=thin)
        (tmp_path / f"out_{count}").mkdir()
        tracemalloc.start()
        assemble(
            slabs,
            tmp_path / f"out_{count}",
            volume,
            min_voxels=min_voxels,
            probability=False,
            submission=False,
            grey_of_plane=grey_of_plane,
            on_planes=lambda *_: None,
        )
        tracemalloc.stop()
    assert peaks[1] < 1.05 * peaks[0]
