"""`sennet-infer` refuses volumes and options that it cannot use: in one clear line, and nothing is left behind."""

import errno

import numpy as np
import pytest
import tifffile

from sennet_engine.results.stack_writer import StackWriter
from sennet_engine.storage import slab_file

STACK = np.random.default_rng(2).integers(0, 65536, (10, 90, 100), dtype=np.uint16)


def no_such_file(folder):
    """No file there."""
    return [folder / "nothing.tif"], "no such file"


def not_an_image(folder):
    """A text file with an image's suffix."""
    (folder / "text.tif").write_text("hello")
    return [folder / "text.tif"], "not a readable TIFF"


def truncated(folder):
    """The second half of the file is missing."""
    tifffile.imwrite(folder / "cut.tif", STACK, compression="zlib")
    content = (folder / "cut.tif").read_bytes()
    (folder / "cut.tif").write_bytes(content[: len(content) // 2])
    return [folder / "cut.tif"], "copy it again"


def damaged_in_the_middle(folder):
    """The file is complete, but some bytes of a plane's data are not what they were."""
    tifffile.imwrite(folder / "hit.tif", STACK, compression="zlib")
    content = bytearray((folder / "hit.tif").read_bytes())
    middle = len(content) * 9 // 20
    content[middle : middle + 400] = bytes(400)
    (folder / "hit.tif").write_bytes(content)
    return [folder / "hit.tif"], "cannot be decoded"


def slices_of_different_shapes(folder):
    """One slice of a folder is smaller."""
    (folder / "slices").mkdir()
    tifffile.imwrite(folder / "slices" / "0.tif", STACK[0])
    tifffile.imwrite(folder / "slices" / "1.tif", STACK[0, :50])
    return [folder / "slices"], "expected (90, 100)"


def colour(folder):
    """An RGB image."""
    tifffile.imwrite(folder / "rgb.tif", np.zeros((50, 60, 3), np.uint8), photometric="rgb")
    return [folder / "rgb.tif"], "colour"


def empty_folder(folder):
    """A folder without slices."""
    (folder / "empty").mkdir()
    return [folder / "empty"], "holds no slices"


def nan(folder):
    """A float volume with a NaN in a plane."""
    stack = STACK.astype(np.float32)
    stack[7, 3, 3] = np.nan
    tifffile.imwrite(folder / "nan.tif", stack)
    return [folder / "nan.tif"], "plane 7 holds 1 voxel"


VOLUMES = [
    no_such_file, not_an_image, truncated, damaged_in_the_middle, slices_of_different_shapes, colour, empty_folder, nan,
]  # fmt: skip


@pytest.mark.parametrize("mistake", VOLUMES)
def test_volumes_that_cannot_be_read_are_refused(refused, tmp_path, identity_bundle, mistake):
    """Wherever in the file the mistake is."""
    arguments, expected = mistake(tmp_path)
    refused([*arguments, "--model", identity_bundle], expected)


OPTIONS = [
    (["--tile", 100], "32, 64, 128"),
    (["--threshold", 1.5], "threshold: got 1.5"),
    (["--threshold", "nan"], "threshold: got nan"),
    (["--min-voxels", -1], "min-voxels: got -1"),
    (["--runtime", "caffe"], "onnxruntime, openvino"),
    (["--precision", "fp8"], "fp32, fp16, int8"),
    (["--precision", "int8"], "no int8"),
    (["--threads", 0], "threads: got 0"),
    (["--threads", 100000], "threads: got 100000"),
    (["--batch", 0], "batch: got 0"),
    (["--slab", 0], "slab: got 0"),
    (["--memory", "nonsense"], "memory: got 'nonsense', expected a size such as 8GB"),
    (["--memory", "1MB"], "memory: got 1 MB, expected at least "),
    (["--scale", 0], "scale: got a scale of 0"),
    (["--scale", "nan"], "scale: got a scale of nan"),
    (["--voxel-size", 50000], "give the true --voxel-size"),
    (["--voxel-size", "50,50"], "voxel size"),
    (["--window", "9"], "window"),
]


@pytest.mark.parametrize(("options", "expected"), OPTIONS, ids=lambda one: " ".join(map(str, one))[:24])
def test_options_out_of_their_range_are_refused(refused, volume, identity_bundle, options, expected):
    """The message names the option, what was got, and what is possible."""
    refused([volume, "--model", identity_bundle, *options], expected)


def test_an_output_below_a_file_is_refused(refused, volume, identity_bundle):
    """Before any work."""
    refused([volume, "--model", identity_bundle, "--out", volume / "out"], "cannot be written")


def no_space(*_):
    """A full disk."""
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_from_the_start_leaves_nothing(refused, volume, identity_bundle, monkeypatch):
    """No slab was finished, so nothing is worth keeping; the message says what is to be done."""
    monkeypatch.setattr(slab_file, "write_durably", no_space)
    refused([volume, "--model", identity_bundle], "No space left on device; free some space")


@pytest.mark.parametrize("where", ["the third slab", "the mask"])
def test_a_disk_that_gets_full_keeps_what_is_done(
    command, volume, identity_bundle, monkeypatch, tmp_path, files, summary, where
):
    """Nothing appears under the final name. With space again, --resume ends as a run that was not disturbed."""
    arguments = ["sennet-infer", volume, "--model", identity_bundle, "--slab", 3, "--runtime", "onnxruntime"]
    assert command(*arguments, "--out", tmp_path / "undisturbed").code == 0
    with monkeypatch.context() as disk:
        if where == "the mask":
            disk.setattr(StackWriter, "append_encoded", no_space)
        else:
            left = iter([slab_file.write_durably] * 2)
            disk.setattr(slab_file, "write_durably", lambda *slab: next(left, no_space)(*slab))
        ran = command(*arguments)
    assert ran.code == 2
    assert "No space left on device; free some space" in ran.err
    assert {one.name for one in tmp_path.glob("*volume.sennet*")} == {".volume.sennet.work"}
    assert "kept in" in ran.err
    assert command(*arguments, "--resume").code == 0
    assert files(volume.with_name("volume.sennet")) == files(tmp_path / "undisturbed")
    assert summary(volume.with_name("volume.sennet"))["planes_resumed"] == (10 if where == "the mask" else 6)
    assert not list(tmp_path.glob(".*"))
