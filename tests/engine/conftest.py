"""What tests of the whole command share: small volumes, and looks at what it wrote."""

import json

import numpy as np
import pytest
import tifffile

NOISE = np.random.default_rng(2).integers(0, 65536, (10, 90, 100), dtype=np.uint16)


@pytest.fixture
def write_volume(tmp_path):
    """Write [Z, Y, X] voxels as an OME-TIFF with a voxel size; its path."""

    def write(stack, name="volume.tif", *, voxel_size_um=50.0, **options):
        sizes = {f"PhysicalSize{axis}": voxel_size_um for axis in "XYZ"}
        tifffile.imwrite(tmp_path / name, stack, ome=True, metadata={"axes": "ZYX", **sizes}, **options)
        return tmp_path / name

    return write


@pytest.fixture
def volume(write_volume):
    """A small volume of noise, `NOISE`."""
    return write_volume(NOISE)


@pytest.fixture
def organ():
    """[24, 400, 416] uint8: bright vessels in an organ that fills an eighth of the planes, and gel around it."""
    depth, rows, columns = shape = 24, 400, 416
    z, y, x = np.ogrid[:depth, :rows, :columns]
    tissue = ((y - rows / 2) / 80) ** 2 + ((x - columns / 2) / 90) ** 2 < 1
    stack = np.where(np.broadcast_to(tissue, shape), 140, 60)
    stack = np.where((y - 170) ** 2 + (x - 190 - z) ** 2 < 20, 220, stack)
    stack = np.where(((y - 220) ** 2 + (z - 12) ** 2 < 12) & tissue, 210, stack)
    return (stack + np.random.default_rng(4).normal(0, 3, shape)).astype(np.uint8)


@pytest.fixture
def summary():
    """The summary in an output folder."""
    return lambda out: json.loads((out / "summary.json").read_text(encoding="utf-8"))


@pytest.fixture
def files():
    """The content of the files in an output folder by name, without the summary, which tells times."""
    return lambda out: {file.name: file.read_bytes() for file in out.iterdir() if file.name != "summary.json"}


@pytest.fixture
def refused(command, tmp_path):
    """Let `sennet-infer` refuse its arguments: one clear message, exit code 2, and nothing left behind."""

    def check(arguments, expected):
        before = sorted(tmp_path.rglob("*"))
        ran = command("sennet-infer", *arguments)
        assert ran.code == 2
        assert expected in ran.err
        assert ran.err.count("error:") == 1
        assert "Traceback" not in ran.err
        assert sorted(tmp_path.rglob("*")) == before

    return check
