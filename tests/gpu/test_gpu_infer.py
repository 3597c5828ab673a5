"""`sennet-infer` on a GPU, from the command to the mask."""

import json

import numpy as np
import pytest
import tifffile

from sennet_engine.gpu.present import census
from sennet_trainer.phantom import PhantomSettings, make_phantom, write_phantom

pytestmark = pytest.mark.gpu

PHANTOM = PhantomSettings(kidney=1, shape_zyx=(8, 640, 600), seed=11)
LEAST_VESSELS = 500  # voxels; fewer would prove nothing


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    """A kidney with arteries, uint8 [8, 640, 600]."""
    folder = tmp_path_factory.mktemp("phantom") / "phantom"
    write_phantom(make_phantom(PHANTOM), PHANTOM, folder)
    return folder / "image.tif"


@pytest.fixture
def masks(command, model, volume, tmp_path):
    """Run the command with options; its mask and its summary."""

    def run(name, *options):
        side = model.card.tiling.default_side
        ran = command(
            "sennet-infer", volume, "--out", tmp_path / name, "--model", model.path, "--tile", side,
            "--voxel-size", "50", "--quiet", *options,
        )  # fmt: skip
        assert ran.code == 0, ran.err
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        return tifffile.imread(tmp_path / name / "mask.tif") != 0, summary

    return run


def test_the_gpu_finds_what_the_processors_find(masks):
    """By default in fp16 on a GPU; auto takes it, and says so."""
    expected, _ = masks("cpu", "--device", "cpu", "--runtime", "onnxruntime", "--precision", "fp32")
    found, summary = masks("auto")
    assert "cuda:0" in summary["device"]
    assert summary["precision"] == "fp16"
    assert np.count_nonzero(expected) >= LEAST_VESSELS
    assert np.count_nonzero(found != expected) <= 0.02 * np.count_nonzero(expected)


@pytest.mark.parametrize("option", [("--cuda-graphs", "on"), ("--slab", "1"), ("--slab", "5")])
def test_a_mask_does_not_depend_on_how_it_is_computed(masks, option):
    """With the same batch, the same bits."""
    plain, _ = masks("plain", "--device", "cuda", "--batch", "2")
    other, _ = masks("other", "--device", "cuda", "--batch", "2", *option)
    assert np.count_nonzero(plain) >= LEAST_VESSELS
    assert np.array_equal(plain, other)


def test_two_gpus_compute_the_same_mask(masks):
    """Slabs are dealt out to both."""
    if len(census().gpus) < 2:
        pytest.skip("there is one GPU alone")
    if census().gpus[0].compute_capability != census().gpus[1].compute_capability:
        pytest.skip("the GPUs are of different kinds")
    one, _ = masks("one", "--device", "cuda:0", "--batch", "2", "--slab", "2")
    both, summary = masks("both", "--device", "cuda:0,cuda:1", "--batch", "2", "--slab", "2")
    assert np.count_nonzero(one) >= LEAST_VESSELS
    assert np.array_equal(one, both)
    assert "cuda:1" in summary["device"]


def test_a_gpu_that_is_not_there_is_refused(command, volume):
    """Exit code 2, with those that are there."""
    ran = command("sennet-infer", volume, "--device", f"cuda:{len(census().gpus)}")
    assert ran.code == 2
    assert "cuda:0" in ran.err
