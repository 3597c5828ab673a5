"""Finished slabs on the disk, and the stacks that are made of their compressed planes."""

import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from sennet_engine.errors import OutputError
from sennet_engine.results.stack_writer import StackWriter
from sennet_engine.storage.slab_file import SlabFile, write_slab_file
from sennet_engine.volumes.open import open_volume


def slab(shape, *, seed=0, share=0.1):
    """A mask, of which every third plane is empty, a probability and a grey level for each voxel."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < share
    mask[::3] = False
    return mask, rng.integers(0, 256, shape, np.uint8), rng.integers(0, 256, shape, np.uint8)


def content(path):
    """All that can be read from a slab file."""
    with SlabFile.open(path) as file:
        planes = range(file.shape[0])
        lines = [file.grey_lines(plane) for plane in planes]
        return [
            file.start,
            file.shape,
            [file.vessel_voxels(plane) for plane in planes],
            [file.mask_plane(plane).tolist() for plane in planes],
            [file.probability_plane(plane).tolist() for plane in planes] if file.has_probability else None,
            [(one.row.tolist(), one.column.tolist()) for one in lines],
        ]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 30, 20), (5, 1, 7), (5, 7, 1), (7, 40, 50)])
@pytest.mark.parametrize("keeps_probability", [True, False])
def test_what_is_written_is_read(tmp_path, shape, keeps_probability):
    """Masks, probabilities and the middle lines of the grey levels; also of a slab of one voxel."""
    mask, probability, grey = slab(shape)
    write_slab_file(tmp_path / "a.slab", 37, mask, probability if keeps_probability else None, grey)
    assert content(tmp_path / "a.slab") == [
        37,
        shape,
        mask.sum(axis=(1, 2)).tolist(),
        mask.tolist(),
        probability.tolist() if keeps_probability else None,
        [(one[shape[1] // 2].tolist(), one[:, shape[2] // 2].tolist()) for one in grey],
    ]


@pytest.mark.parametrize("vessel", [1, 7, 255])
def test_a_mask_of_numbers_is_vessel_where_it_is_not_0(tmp_path, vessel):
    """0/1 and 0/255 give the same file as a boolean mask."""
    mask, _, grey = slab((4, 20, 30))
    write_slab_file(tmp_path / "bool", 0, mask, None, grey)
    write_slab_file(tmp_path / "number", 0, mask * np.uint8(vessel), None, grey)
    assert (tmp_path / "bool").read_bytes() == (tmp_path / "number").read_bytes()


def test_views_are_written_like_copies(tmp_path):
    """Planes need not lie in memory as rows of neighbours."""
    arrays = [np.moveaxis(one, 0, 2) for one in slab((30, 6, 20))]
    write_slab_file(tmp_path / "views", 0, *arrays)
    write_slab_file(tmp_path / "copies", 0, *[np.ascontiguousarray(one) for one in arrays])
    assert (tmp_path / "views").read_bytes() == (tmp_path / "copies").read_bytes()


def test_strips_are_zlib_streams_of_whole_planes(tmp_path):
    """Whatever reads TIFF can read them: a mask as 0 and 255, a probability as it is."""
    mask, probability, grey = slab((4, 20, 30))
    write_slab_file(tmp_path / "a.slab", 0, mask, probability, grey)
    with SlabFile.open(tmp_path / "a.slab") as file:
        for plane in range(4):
            assert zlib.decompress(file.mask_strip(plane)) == (mask[plane] * np.uint8(255)).tobytes()
            assert zlib.decompress(file.probability_strip(plane)) == probability[plane].tobytes()


def test_planes_without_vessel_cost_next_to_nothing(tmp_path):
    """A thousand empty planes take 50 bytes each on the disk, their grey lines included."""
    empty = np.zeros((1000, 60, 50), np.uint8)
    write_slab_file(tmp_path / "a.slab", 0, empty, empty, empty)
    assert (tmp_path / "a.slab").stat().st_size < 50_000


def test_probabilities_that_were_not_kept_are_refused(tmp_path):
    """The message says how to get them."""
    mask, _, grey = slab((2, 5, 5))
    write_slab_file(tmp_path / "a.slab", 0, mask, None, grey)
    with SlabFile.open(tmp_path / "a.slab") as file, pytest.raises(OutputError, match=r"a\.slab.*--probability"):
        file.probability_plane(0)


def test_a_file_that_was_cut_off_is_refused(tmp_path):
    """At whichever byte; and so is one with a byte too many, an empty one, one of another kind, and none."""
    path = tmp_path / "a.slab"
    write_slab_file(path, 0, *slab((3, 8, 9)))
    whole = path.read_bytes()
    for other in [*(whole[:size] for size in range(len(whole))), whole + b"\0", b"PK" + whole]:
        path.write_bytes(other)
        with pytest.raises(OutputError, match=r"a\.slab"):
            SlabFile.open(path)
    path.unlink()
    with pytest.raises(OutputError, match=r"a\.slab: cannot be opened"):
        SlabFile.open(path)


def test_a_changed_byte_never_changes_what_is_read(tmp_path):
    """Every byte of the file in turn: it is refused, or what was written comes out."""
    path = tmp_path / "a.slab"
    write_slab_file(path, 5, *slab((3, 6, 7)))
    whole, expected = path.read_bytes(), content(path)
    refused = 0
    for index in range(len(whole)):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        try:
            assert content(path) == expected
        except OutputError:
            refused += 1
    assert refused > 0.9 * len(whole)


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path, monkeypatch):
    """A full disk keeps the file that was there before, and leaves no other."""
    from sennet_engine.storage import durable

    path = tmp_path / "a.slab"
    write_slab_file(path, 5, *slab((3, 6, 7)))
    expected = content(path)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "fdatasync", full)
    with pytest.raises(OSError, match="No space left"):
        write_slab_file(path, 5, *slab((3, 6, 7), seed=1))
    assert list(tmp_path.iterdir()) == [path]
    assert content(path) == expected


@pytest.mark.parametrize("has_zlib_ng", [True, False])
def test_a_stack_of_strips_is_the_stack_of_their_planes(tmp_path, monkeypatch, has_zlib_ng):
    """The same bytes whether planes are compressed for the file or were before; read by three readers."""
    monkeypatch.setattr(imagecodecs.ZLIBNG, "available", has_zlib_ng)
    mask, _, grey = slab((5, 300, 400), share=0.01)
    write_slab_file(tmp_path / "a.slab", 0, mask, None, grey)
    stack, facts = mask * np.uint8(255), {"shape_zyx": mask.shape, "voxel_size_um": (5.0, 6.0, 7.0)}
    path = tmp_path / "mask.tif"
    with StackWriter(path, **facts) as writer:
        writer.append(stack)
    planes_bytes = path.read_bytes()
    with StackWriter(path, **facts) as writer, SlabFile.open(tmp_path / "a.slab") as file:
        writer.append_encoded(file.mask_strip(plane) for plane in range(2))
        writer.append_encoded(file.mask_strip(plane) for plane in range(2, 5))
    assert path.read_bytes() == planes_bytes

    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        assert [series.axes for series in tiff.series] == ["ZYX"]
        assert np.array_equal(tiff.asarray(), stack)
    with Image.open(path) as image:
        for z in range(5):
            image.seek(z)
            assert np.array_equal(np.asarray(image), stack[z])
    with open_volume(path) as volume:
        assert volume.voxel_size_um == (5.0, 6.0, 7.0)
        assert np.array_equal(volume.read_planes(0, 5), stack)
