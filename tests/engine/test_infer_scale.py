"""`sennet-infer` shows a network vessels of the size that it was trained on."""

import numpy as np
import pytest
import tifffile
from PIL import Image


@pytest.fixture
def grey(write_volume):
    """A smooth volume, and the grey levels as the networks see them: the window is 0 to 255."""
    y, x = np.ogrid[:90, :100]
    stack = np.stack([127 + 120 * np.sin(x / (9 + z)) * np.cos(y / 11) for z in range(6)]).astype(np.uint8)
    write_volume(stack)
    return stack


def resized_and_back(stack, shape):
    """What a network that answers with the grey levels gives at another scale: bicubic there, by areas back."""
    planes = (Image.fromarray(plane).resize(shape[::-1], Image.Resampling.BICUBIC) for plane in stack)
    return np.stack([plane.resize(stack.shape[:0:-1], Image.Resampling.BOX) for plane in planes])


@pytest.mark.parametrize(
    ("options", "shape", "said"),
    [
        (["--voxel-size", 63.08], (114, 126), "magnified 1.26 times: 63.08 µm voxels into a model of 50 µm"),
        (["--voxel-size", 25], (45, 50), "reduced to 0.5 of their size: 25 µm voxels into a model of 50 µm"),
        (["--voxel-size", "50,75,60"], (135, 120), "magnified 1.5 times in height and magnified 1.2 times in width"),
        (["--voxel-size", 63.08, "--scale", 2], (180, 200), "magnified 2 times"),
    ],
)
def test_planes_are_resized_as_voxel_size_or_scale_say(
    command, grey, identity_bundle, tmp_path, summary, options, shape, said
):
    """The plan tells it on the screen and in the summary, and it is no reason for a warning."""
    ran = command(
        "sennet-infer", tmp_path / "volume.tif", "--model", identity_bundle, "--window", "0,255", "--probability",
        *options,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "warning" not in ran.err
    told = summary(tmp_path / "volume.sennet")
    assert any(said in line for line in told["plan"])
    assert all(f"plan     {line}" in ran.out for line in told["plan"])
    assert told["warnings"] == []
    probability = tifffile.imread(tmp_path / "volume.sennet" / "probability.tif")
    assert (probability == resized_and_back(grey, shape)).all()
    assert (probability != grey).any()


@pytest.mark.parametrize("options", [["--voxel-size", 63.08, "--scale", 1], ["--voxel-size", 52], []])
def test_planes_are_not_resized_without_need(command, grey, identity_bundle, tmp_path, summary, options):
    """--scale 1 says so, voxels within 5 % of the model's are near enough: the answers are the grey levels."""
    ran = command(
        "sennet-infer", tmp_path / "volume.tif", "--model", identity_bundle, "--window", "0,255", "--probability",
        *options,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert any("planes are not resized" in line for line in summary(tmp_path / "volume.sennet")["plan"])
    assert (tifffile.imread(tmp_path / "volume.sennet" / "probability.tif") == grey).all()


def test_the_voxel_size_given_is_that_of_the_output(command, grey, identity_bundle, tmp_path, summary):
    """The mask and the summary keep it: a person's word stands above the file's."""
    ran = command("sennet-infer", tmp_path / "volume.tif", "--model", identity_bundle, "--voxel-size", 63.08)
    assert ran.code == 0, ran.err
    assert summary(tmp_path / "volume.sennet")["voxel_size_um"] == [63.08, 63.08, 63.08]
    with tifffile.TiffFile(tmp_path / "volume.sennet" / "mask.tif") as mask:
        assert 'PhysicalSizeX="63.08"' in mask.ome_metadata
        assert mask.asarray().shape == grey.shape


def test_an_unknown_voxel_size_is_a_warning(command, identity_bundle, tmp_path, summary):
    """It is taken as the model's, and that stays in the summary."""
    np.save(tmp_path / "volume.npy", np.random.default_rng(0).integers(0, 256, (2, 40, 50), dtype=np.uint8))
    ran = command("sennet-infer", tmp_path / "volume.npy", "--model", identity_bundle)
    assert ran.code == 0, ran.err
    assert ran.err.count("warning:") == 1
    (warning,) = summary(tmp_path / "volume.sennet")["warnings"]
    assert f"warning: {warning}" in ran.err
    assert "does not tell its voxel size: taken as the 50 µm" in warning
    assert "--voxel-size" in warning
