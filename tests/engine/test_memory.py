"""Memory does not grow with the number of planes."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import tifffile

PEAK_OF_CHILD = """
import importlib, pathlib, re, sys
importlib.import_module(sys.argv[1]).app(sys.argv[2:], standalone_mode=False)
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


def peak_kb(command, *arguments):
    """The largest resident memory of a process of its own that runs the command of the module `command`."""
    program = [sys.executable, "-c", PEAK_OF_CHILD, command, *map(str, arguments)]
    done = subprocess.run(program, capture_output=True, check=True, text=True)
    return int(done.stdout.splitlines()[-1])


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
        options = ["--model", identity_bundle, "--quiet", "--tile", "128"]
        peaks.append(peak_kb("sennet_engine.cli.infer", path, *options))
    assert peaks[1] < 1.05 * peaks[0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
@pytest.mark.parametrize("options", [["--tolerance", "2"], ["--cldice"]], ids=["default", "cldice"])
def test_peak_memory_of_a_score_does_not_grow_with_the_planes(tmp_path, options):
    """Four times the planes, with 390,000 components more of either mask, take at most 5 % more at the peak."""
    peaks = []
    for planes in (256, 1024):
        path = tmp_path / f"mask_{planes}.npy"
        mask = np.lib.format.open_memmap(path, "w+", np.uint8, (planes, 256, 256))
        # Grains of one voxel, two apart along z: each a component of its own.
        mask[::2, ::8, ::8] = 1
        del mask
        peaks.append(peak_kb("sennet_engine.cli.score", path, path, *options))
    assert peaks[1] < 1.05 * peaks[0]
