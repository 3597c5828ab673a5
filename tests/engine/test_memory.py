"""Memory does not grow with the number of planes, and stays below what it may be."""

import re
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import tifffile

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")

PEAK_OF_CHILD = """
import importlib, pathlib, re, sys
importlib.import_module(sys.argv[1]).app(sys.argv[2:], standalone_mode=False)
# Not ru_maxrss, which a child takes over from its parent.
print(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
"""
INFER = ["sennet_engine.cli.infer", "--quiet", "--runtime", "onnxruntime", "--threads", "1", "--voxel-size", "50"]
INFER += ["--overwrite"]  # a command may be repeated


def write_tiff(path, stack, **options):
    """A TIFF file at `path`."""
    tifffile.imwrite(path, stack, photometric="minisblack", **options)


def write_slices(path, stack):
    """A folder of TIFF files at `path`."""
    path.mkdir()
    for z, plane in enumerate(stack):
        tifffile.imwrite(path / f"{z:04d}.tif", plane)


def ended(*processes):
    """What each of them printed, with the peak of its resident memory in kB on the last line."""
    texts = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, texts, strict=True):
        assert process.returncode == 0, errors
    return [printed for printed, _ in texts]


def started(command, *arguments):
    """A process of its own that runs the command of the module `command`."""
    program = [sys.executable, "-c", PEAK_OF_CHILD, command, *map(str, arguments)]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def peaks_kb(*commands):
    """The largest resident memory of each of the commands, which run side by side."""
    return [int(printed.splitlines()[-1]) for printed in ended(*[started(*one) for one in commands])]


def growth(few, many):
    """How much larger the peak of the command `many` is than that of `few`, as a share.

    What else the machine does moves a peak by some percent: up to three times, the least growth counts. What really
    grows with the planes does so each time.
    """
    grown = []
    while not grown or (min(grown) >= 0.05 and len(grown) < 3):
        peaks = peaks_kb(few, many)
        grown.append(peaks[1] / peaks[0] - 1)
    return min(grown)


def plane_of_tubes(rows, columns):
    """[rows, columns] uint16: some round vessels, and a grain of noise."""
    y, x = np.ogrid[:rows, :columns]
    tubes = ((y % 64 - 32) ** 2 + (x % 48 - 24) ** 2 < 60) * np.uint16(9000)
    return tubes + np.random.default_rng(0).integers(0, 2000, (rows, columns), dtype=np.uint16)


CONTAINERS = {
    "uncompressed": (".tif", write_tiff),
    "zlib": (".tif", partial(write_tiff, compression="zlib")),
    "many_strips": (".tif", partial(write_tiff, compression="zlib", rowsperstrip=1)),
    "float32": (".tif", lambda path, stack: write_tiff(path, stack.astype(np.float32))),
    "npy": (".npy", np.save),
    "slices": ("", write_slices),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_peak_memory_is_that_of_a_slab(tmp_path, identity_bundle, container):
    """Four times the planes, 56 MB of uint16 voxels more, take at most 5 % more at the peak."""
    suffix, write = CONTAINERS[container]
    commands = []
    for planes in (64, 256):
        path = tmp_path / f"volume_{planes}{suffix}"
        write(path, np.broadcast_to(plane_of_tubes(384, 384), (planes, 384, 384)))
        commands.append([*INFER, path, "--model", identity_bundle])
    assert growth(*commands) < 0.05


@pytest.mark.parametrize("counts", [(100, 400), pytest.param((400, 1600), marks=pytest.mark.slow)])
def test_nor_do_the_network_the_components_and_the_submission_add_to_it(tmp_path, strided_bundle, counts):
    """A strided network, vessels through all planes, grains that are removed, probabilities and run lengths."""
    commands = []
    for count in counts:
        path = tmp_path / f"volume_{count}.npy"
        stack = np.lib.format.open_memmap(path, "w+", np.uint16, (count, 256, 256))
        stack[:] = plane_of_tubes(256, 256)
        stack[::7, ::20, ::20] = 9000
        del stack
        options = ["--min-voxels", 60, "--probability", "--rle", "--threshold", 0.6]
        commands.append([*INFER, path, "--model", strided_bundle, *options])
    assert growth(*commands) < 0.05


def test_with_planes_along_all_axes_no_array_of_the_volume_is_held(tmp_path, identity_bundle):
    """Slabs of planes along y and x grow with the planes along z, but by less than a byte for each voxel more."""
    model = identity_bundle.with_name("axes.toml")
    model.write_text('[[passes]]\nmodel = "identity.model"\naxes = "zyx"\n')
    commands = []
    for planes in (64, 256):
        path = tmp_path / f"volume_{planes}.npy"
        np.save(path, np.broadcast_to(plane_of_tubes(384, 384), (planes, 384, 384)))
        commands.append([*INFER, path, "--model", model, "--no-skip"])
    peaks = peaks_kb(*commands)
    assert 1024 * (peaks[1] - peaks[0]) < (256 - 64) * 384 * 384


@pytest.fixture
def large_planes(tmp_path):
    """Planes that make thick slabs costly: 16 of them take 60 MB."""
    path = tmp_path / "volume.npy"
    np.save(path, np.broadcast_to(plane_of_tubes(600, 800), (32, 600, 800)))
    return path


@pytest.mark.parametrize("model", ["identity_bundle", "strided_bundle"])
def test_a_limit_is_kept(request, tmp_path, large_planes, summary, files, model):
    """With less than it would take, slabs are thinner; tiles are smaller where that is not enough."""
    arguments = [*INFER, large_planes, "--model", request.getfixturevalue(model), "--no-skip"]
    free = started(*arguments, "--out", tmp_path / "free")
    of_free, of_estimate = ended(free, started(*arguments, "--dry-run"))
    expected = re.search(r"^memory +([\d.]+) MB$", of_estimate, re.MULTILINE)
    taken_kb = int(of_free.splitlines()[-1])
    assert 0.75 * taken_kb < 1024 * float(expected[1]) < 1.25 * taken_kb
    limit_mb = int(0.8 * taken_kb / 1024)
    (peak,) = peaks_kb([*arguments, "--memory", f"{limit_mb} MB", "--out", tmp_path / "limited"])
    assert peak <= 1.02 * 1024 * limit_mb
    assert summary(tmp_path / "free")["slab_planes"] == 16
    assert summary(tmp_path / "limited")["slab_planes"] < 16
    if model == "identity_bundle":  # it answers the same on all tiles
        assert files(tmp_path / "limited") == files(tmp_path / "free")


@pytest.mark.parametrize("options", [["--tolerance", "2"], ["--cldice"]], ids=["default", "cldice"])
def test_peak_memory_of_a_score_does_not_grow_with_the_planes(tmp_path, options):
    """Four times the planes, with 290,000 components more of either mask, take at most 5 % more at the peak."""
    commands = []
    for planes in (192, 768):
        path = tmp_path / f"mask_{planes}.npy"
        mask = np.lib.format.open_memmap(path, "w+", np.uint8, (planes, 256, 256))
        # Grains of one voxel, two apart along z: each a component of its own.
        mask[::2, ::8, ::8] = 1
        del mask
        commands.append(["sennet_engine.cli.score", path, path, *options])
    assert growth(*commands) < 0.05
