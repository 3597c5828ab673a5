"""Memory does not grow with the number of planes."""

import subprocess
import sys

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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_peak_memory_is_that_of_a_slab(tmp_path, identity_bundle, compression):
    """Eight times the planes, 60 MB of voxels more, take at most 5 % more at the peak."""
    peaks = []
    for planes in (64, 512):
        path = tmp_path / f"{planes}.tif"
        plane = np.random.default_rng(0).integers(0, 65536, (256, 256), dtype=np.uint16) // 8192
        tifffile.imwrite(path, np.broadcast_to(plane, (planes, 256, 256)), compression=compression)
        program = [sys.executable, "-c", PEAK_OF_CHILD, path, "--model", identity_bundle, "--quiet", "--tile", "128"]
        done = subprocess.run(program, capture_output=True, check=True, text=True)
        peaks.append(int(done.stdout.splitlines()[-1]))
    assert peaks[1] < 1.05 * peaks[0]
