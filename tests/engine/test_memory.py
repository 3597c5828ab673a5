"""Memory does not grow with the number of planes."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import tifffile

PEAK_OF_CHILD = """
import pathlib, re, sys
from sennet_engine.cli.infer import app
app(sys.argv[1:], standalone_mode=False)
# Not ru_maxrss, which a child takes over from its parent.
print(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
"""


def write_tiff(path, stack, **options):
    """A TIFF file at `path`."""
    tifffile.imwrite(path, stack, photometric="minisblack", **options)


def write_slices(path, stack):
    """A folder of TIFF files at `path`."""
    path.mkdir()
    for z, plane in enumerate(stack):
        tifffile.imwrite(path / f"{z:04d}.tif", plane)


CONTAINERS = {
    "uncompressed": (".tif", write_tiff),
    "zlib": (".tif", partial(write_tiff, compression="zlib")),
    "many_strips": (".tif", partial(write_tiff, compression="zlib", rowsperstrip=1)),
    "float32": (".tif", lambda path, stack: write_tiff(path, stack.astype(np.float32), compression="zlib")),
    "npy": (".npy", np.save),
    "slices": ("", write_slices),
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
@pytest.mark.parametrize("container", CONTAINERS)
def test_peak_memory_is_that_of_a_slab(tmp_path, identity_bundle, container):
    """Eight times the planes, 60 MB of uint16 voxels more, take at most 5 % more at the peak."""
    suffix, write = CONTAINERS[container]
    peaks = []
    for planes in (64, 512):
        path = tmp_path / f"volume_{planes}{suffix}"
        plane = np.random.default_rng(0).integers(0, 65536, (256, 256), dtype=np.uint16) // 8192
        write(path, np.broadcast_to(plane, (planes, 256, 256)))
        program = [sys.executable, "-c", PEAK_OF_CHILD, path, "--model", identity_bundle, "--quiet", "--tile", "128"]
        done = subprocess.run(program, capture_output=True, check=True, text=True)
        peaks.append(int(done.stdout.splitlines()[-1]))
    assert peaks[1] < 1.05 * peaks[0]
