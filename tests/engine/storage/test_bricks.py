"""Brick files: what is written along one axis is read along any, and survives what befalls a disk."""

import os
import re
import resource
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from sennet_engine.errors import OutputError
from sennet_engine.planning.axes import AXES, seen_along
from sennet_engine.storage import bricks
from sennet_engine.storage.bricks import BrickFile, BrickPlanes, bytes_needed

SHAPE = (21, 40, 33)


def volume(shape=SHAPE, dtype="uint16", seed=0):
    """No two neighbouring voxels alike, and a corner without anything."""
    values = np.random.default_rng(seed).integers(1, np.iinfo(dtype).max, shape, dtype)
    values[:16, :16] = 0
    return values


def write(file, axis, values):
    """Write a whole (Z, Y, X) array, one brick's planes at a time."""
    planes = seen_along(values, axis)
    for start in range(0, len(planes), file.brick):
        file.write_planes(axis, start, planes[start : start + file.brick])


@contextmanager
def no_file_larger_than(size):
    """What the system then says differs from a full disk only in the number of the error."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


@pytest.mark.parametrize("piece_bytes", [1, 2500, 4 << 20])
@pytest.mark.parametrize("brick", [8, 16, 64])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
@pytest.mark.parametrize("written", AXES)
def test_what_is_written_along_one_axis_is_read_along_any(tmp_path, monkeypatch, written, dtype, brick, piece_bytes):
    """Whole, plane by plane and in any run; the sides of the volume need not be whole bricks."""
    monkeypatch.setattr(bricks, "PIECE_BYTES", piece_bytes)
    values = volume(dtype=dtype)
    with BrickFile.create(tmp_path / "a.bricks", SHAPE, dtype, brick) as file:
        write(file, written, values)
        for axis in AXES:
            expected = seen_along(values, axis)
            for start, stop in [(0, len(expected)), (0, 1), (7, 17), (len(expected) - 3, len(expected)), (5, 5)]:
                planes = file.read_planes(axis, start, stop)
                assert planes.dtype == dtype
                assert planes.flags.c_contiguous
                np.testing.assert_array_equal(planes, expected[start:stop])


def test_what_bricks_hold_beyond_the_volume_is_zero(tmp_path):
    """And not what the memory happened to hold."""
    values = volume()
    with BrickFile.create(tmp_path / "a.bricks", SHAPE, np.uint16, 64) as file:
        for axis in AXES:
            write(file, axis, values)
    stored = np.fromfile(tmp_path / "a.bricks", np.uint16)[bricks.HEADER_BYTES // 2 :]
    assert stored.sum(dtype=int) == values.sum(dtype=int)


def test_a_file_is_the_same_when_opened_again(tmp_path):
    """Opening tells the shape, the dtype and the brick, and writing goes on."""
    values = volume()
    with BrickFile.create(tmp_path / "a.bricks", SHAPE, np.uint16, 8) as file:
        file.write_planes("z", 0, values[:8])
        file.sync()
    with BrickFile.open(tmp_path / "a.bricks") as file:
        assert (file.shape_zyx, file.dtype, file.brick) == (SHAPE, np.dtype(np.uint16), 8)
        file.write_planes("z", 8, values[8:])
        np.testing.assert_array_equal(file.read_planes("z", 0, SHAPE[0]), values)
    assert (tmp_path / "a.bricks").stat().st_size == bytes_needed(SHAPE, np.uint16, 8)


def test_what_was_never_written_is_zero_and_takes_no_space(tmp_path):
    """Nor do bricks of zeros that are written."""
    shape = (64, 256, 256)
    values = np.zeros(shape, np.uint8)
    values[40, 100, 100] = 7
    with BrickFile.create(tmp_path / "a.bricks", shape, np.uint8, 32) as file:
        assert not file.read_planes("x", 0, 256).any()
        for axis in AXES:
            write(file, axis, values)
        file.sync()
        np.testing.assert_array_equal(file.read_planes("y", 0, 256), seen_along(values, "y"))
    assert (tmp_path / "a.bricks").stat().st_blocks * 512 < 2 * 32**3 < bytes_needed(shape, np.uint8, 32) // 50


@pytest.mark.parametrize("axis", AXES)
def test_zeros_replace_what_stood_there(tmp_path, axis):
    """A run that was killed may have left anything where bricks of zeros belong."""
    values = volume()
    with BrickFile.create(tmp_path / "a.bricks", SHAPE, np.uint16, 8) as file:
        write(file, axis, np.full(SHAPE, 9, np.uint16))
        write(file, axis, values)
        np.testing.assert_array_equal(file.read_planes("z", 0, SHAPE[0]), values)


def test_a_new_file_replaces_an_old_one(tmp_path):
    """Nothing of the old one is seen."""
    with BrickFile.create(tmp_path / "a.bricks", SHAPE, np.uint16, 8) as file:
        write(file, "z", volume())
    with BrickFile.create(tmp_path / "a.bricks", SHAPE, np.uint16, 8) as file:
        assert not file.read_planes("z", 0, SHAPE[0]).any()


def test_a_file_may_be_larger_than_four_gigabytes(tmp_path):
    """Its far end is another place than its near one."""
    shape = (300_000, 32, 1000)
    planes = volume((32, *shape[1:]), "uint8")
    with BrickFile.create(tmp_path / "a.bricks", shape, np.uint8, 32) as file:
        file.write_planes("z", shape[0] - 32, planes)
        np.testing.assert_array_equal(file.read_planes("z", shape[0] - 32, shape[0]), planes)
        assert not file.read_planes("z", shape[0] - 64, shape[0] - 32).any()
        assert not file.read_planes("z", 0, 32).any()
    assert bytes_needed(shape, np.uint8, 32) > 2**33


def test_threads_write_and_read_at_the_same_time(tmp_path):
    """Each other planes of one file."""
    shape = (128, 64, 96)
    values = volume(shape)
    with BrickFile.create(tmp_path / "a.bricks", shape, np.uint16, 8) as file, ThreadPoolExecutor(8) as threads:

        def there_and_back(start):
            for _ in range(5):
                file.write_planes("z", start, values[start : start + 8])
                np.testing.assert_array_equal(file.read_planes("z", start, start + 8), values[start : start + 8])

        list(threads.map(there_and_back, range(0, 128, 8)))
        np.testing.assert_array_equal(file.read_planes("z", 0, 128), values)


def test_calls_of_the_system_may_do_less_than_they_are_asked(tmp_path, monkeypatch):
    """Then the rest follows."""
    values = volume()
    pwrite, preadv = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: pwrite(file, data[:1001], offset))
    monkeypatch.setattr(os, "preadv", lambda file, buffers, offset: preadv(file, [buffers[0][:1001]], offset))
    with BrickFile.create(tmp_path / "a.bricks", SHAPE, np.uint16, 16) as file:
        write(file, "z", values)
        np.testing.assert_array_equal(file.read_planes("y", 0, SHAPE[1]), seen_along(values, "y"))
    monkeypatch.undo()
    with BrickFile.open(tmp_path / "a.bricks") as file:
        np.testing.assert_array_equal(file.read_planes("z", 0, SHAPE[0]), values)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_planes_that_were_read_do_not_stay_in_the_memory_of_the_process(tmp_path):
    """As the pages of a memory map would."""

    def of_files():
        return int(re.search(r"RssFile:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024

    shape = (64, 512, 1024)
    block = volume((32, *shape[1:]), "uint8")
    with BrickFile.create(tmp_path / "a.bricks", shape, np.uint8, 32) as file:
        before = of_files()
        for start in (0, 32):
            file.write_planes("z", start, block)
            file.read_planes("z", start, start + 32)
        assert of_files() - before < 2**22


def test_a_disk_that_is_full_names_the_file(tmp_path):
    """And what the write left undone is mended by repeating it."""
    values = volume()
    with BrickFile.create(tmp_path / "a.bricks", SHAPE, np.uint16, 16) as file:
        with no_file_larger_than(40_000), pytest.raises(OSError, match=r"a\.bricks"):
            write(file, "z", values)
        write(file, "z", values)
        np.testing.assert_array_equal(file.read_planes("z", 0, SHAPE[0]), values)


def test_a_file_that_cannot_be_made_leaves_nothing(tmp_path):
    """Neither under its name nor under another."""
    with no_file_larger_than(40_000), pytest.raises(OSError, match=r"a\.bricks"):
        BrickFile.create(tmp_path / "a.bricks", SHAPE, np.uint16, 16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff" * 5000, b'{"format": "sennet bricks 2"}'.ljust(5000)])
def test_another_file_is_refused(tmp_path, content):
    """Whatever it holds."""
    (tmp_path / "a.bricks").write_bytes(content)
    with pytest.raises(OutputError, match=r"expected 'sennet bricks 1'; start anew"):
        BrickFile.open(tmp_path / "a.bricks")


@pytest.mark.parametrize(
    "change", [(b"uint16", b"float8"), (b'"brick": 16', b'"brick": -6'), (b"21, 40, 33", b"21, 40    ")]
)
def test_a_header_that_cannot_be_is_refused(tmp_path, change):
    """A damaged one, that is."""
    BrickFile.create(tmp_path / "a.bricks", SHAPE, np.uint16, 16).close()
    content = (tmp_path / "a.bricks").read_bytes()
    assert change[0] in content
    (tmp_path / "a.bricks").write_bytes(content.replace(*change))
    with pytest.raises(OutputError, match="expected three sides and a brick"):
        BrickFile.open(tmp_path / "a.bricks")


def test_a_missing_or_shortened_file_is_refused(tmp_path):
    """With what was expected."""
    with pytest.raises(OutputError, match="No such file"):
        BrickFile.open(tmp_path / "a.bricks")
    with BrickFile.create(tmp_path / "a.bricks", SHAPE, np.uint16, 16) as file:
        os.truncate(tmp_path / "a.bricks", 50_000)
        with pytest.raises(OutputError, match="cut short"):
            file.read_planes("z", 0, SHAPE[0])
    with pytest.raises(OutputError, match=f"has 50000 bytes, expected {bytes_needed(SHAPE, 'uint16', 16)}"):
        BrickFile.open(tmp_path / "a.bricks")


@pytest.mark.parametrize(("start", "shape", "dtype"), [
    (8, (16, 40, 33), "uint16"),
    (0, (15, 40, 33), "uint16"),
    (16, (6, 40, 33), "uint16"),
    (0, (16, 33, 40), "uint16"),
    (0, (16, 40, 33), "uint8"),
])  # fmt: skip
def test_only_whole_bricks_are_written(tmp_path, start, shape, dtype):
    """Of the right dtype and shape, and nothing is written otherwise."""
    with BrickFile.create(tmp_path / "a.bricks", SHAPE, np.uint16, 16) as file:
        with pytest.raises(ValueError, match=r"bricks of 16|expected uint16|not within 0 to 21"):
            file.write_planes("z", start, np.ones(shape, dtype))
        assert not file.read_planes("z", 0, SHAPE[0]).any()
        with pytest.raises(ValueError, match="not within 0 to 21"):
            file.read_planes("z", 20, 22)


@pytest.mark.parametrize(
    ("shape", "dtype", "brick"), [((0, 4, 4), "uint8", 8), ((4, 4, 4), "int8", 8), (SHAPE, "uint8", 0)]
)
def test_a_form_that_cannot_be_is_not_made(tmp_path, shape, dtype, brick):
    """Empty volumes, other dtypes."""
    with pytest.raises(OutputError, match="expected three sides"):
        BrickFile.create(tmp_path / "a.bricks", shape, dtype, brick)
    assert list(tmp_path.iterdir()) == []


def test_the_planes_of_a_file_feed_the_pipeline(tmp_path):
    """As they are: they were windowed before."""
    values = volume(dtype="uint8")
    with BrickFile.create(tmp_path / "a.bricks", SHAPE, np.uint8, 16) as file:
        write(file, "z", values)
        source = BrickPlanes(file, "x")
        planes = source.windowed(source.read(4, 20))
        np.testing.assert_array_equal(planes, seen_along(values, "x")[4:20])
