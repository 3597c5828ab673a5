"""Activation ranges on real tiles."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from sennet_export.half.ranges import measured_activations

CHILD = """
import resource, sys
import numpy as np, onnx
from sennet_export.half.ranges import measured_activations
model = onnx.load(sys.argv[1])
tiles = np.zeros((1, 1, 512, 512), np.uint8)
measured_activations(model, tiles[..., :32, :32])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
measured_activations(model, tiles)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_maxima_are_those_of_every_tensor_over_all_tiles(network, weight, tiles):
    """The largest magnitude, be it negative and whichever tile has it; sizes are those of one tile; no weights."""
    tiles = tiles // np.array([3, 1, 2], np.uint8)[:, None, None, None]
    model = network("a = Neg (x) logits = Add (a, two)", {"two": 2.0})
    found = measured_activations(model, tiles)
    largest, smallest = tiles.max() / 255, tiles.min() / 255
    assert found.maxima["grey"] == tiles.max()
    assert found.maxima["a"] == pytest.approx(largest)
    assert found.maxima["logits"] == pytest.approx(2 - smallest)
    assert found.largest == ("grey", tiles.max())
    assert set(found.elements.values()) == {32 * 32}
    assert "two" not in found.maxima
    each = [measured_activations(model, tile[None]).maxima["a"] for tile in tiles]
    assert max(each) == found.maxima["a"] > min(each)


def test_what_is_not_a_number_counts_as_infinite(network, tiles):
    """The square root of a negative value and the inverse of zero are both reported, as are those that read them."""
    lines = """a = Sub (x, x)
        b = Reciprocal (a)
        c = Sub (a, one)
        d = Sqrt (c)
        logits = Add (c, d)"""
    found = measured_activations(network(lines, {"one": 1.0}), tiles[:1]).maxima
    assert found["a"] == 0
    assert [found[name] for name in ("b", "d", "logits")] == [np.inf] * 3
    assert found["c"] == 1


def test_memory_does_not_grow_with_the_number_of_tensors(network, tmp_path):
    """Sixty tensors of 8 MB each are measured in the space of a few."""
    names = [f"t{number}" for number in range(60)]
    lines = "t0 = Expand (x, wide) " + " ".join(
        f"{after} = Add ({before}, step)" for before, after in itertools.pairwise(names)
    )
    lines += " logits = ReduceMean <keepdims = 1> (t59, channels)"
    shapes = {"wide": np.array([1, 8, 1, 1], np.int64), "channels": np.array([1], np.int64), "step": 0.5}
    (tmp_path / "m.onnx").write_bytes(network(lines, shapes).SerializeToString())
    ran = subprocess.run(
        [sys.executable, "-c", CHILD, tmp_path / "m.onnx"], capture_output=True, text=True, check=True
    )  # fmt: skip
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(ran.stdout) * unit < 6 * 8 * 2**20
