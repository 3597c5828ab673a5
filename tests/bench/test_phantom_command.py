"""The command `sennet-bench phantom`."""

import pytest
import tifffile


def test_it_writes_a_phantom_and_says_where(command, tmp_path):
    """The files named on stdout exist and have the shape and the voxel size asked for."""
    out = tmp_path / "p"
    options = ["--shape", "4,96,80", "--kidney", "3", "--seed", "7", "--keep", "0.85", "--voxel-size", "63.08"]
    ran = command("sennet-bench", "phantom", out, *options)
    assert ran.code == 0
    printed = ran.out
    for name in ("image.tif", "labels.tif", "veins.tif", "labels_sparse.tif", "phantom.json"):
        assert str(out / name) in printed
        assert (out / name).exists()
    assert "vessels: " in printed
    with tifffile.TiffFile(out / "image.tif") as file:
        assert file.series[0].shape == (4, 96, 80)
        assert 'PhysicalSizeX="63.08"' in (file.ome_metadata or "")


def test_8_bits_end_in_an_8_bit_file(command, tmp_path):
    """With --bits 8 the image is uint8, in the grey levels of the published slices."""
    assert command("sennet-bench", "phantom", tmp_path / "p", "--shape", "1,64,64", "--bits", "8").code == 0
    image = tifffile.imread(tmp_path / "p" / "image.tif")
    assert image.dtype == "uint8"
    assert 60 < image.mean() < 120


def test_an_existing_folder_is_refused_unless_overwritten(command, tmp_path):
    """Exit code 2 and one line; with --overwrite it works."""
    arguments = ["sennet-bench", "phantom", tmp_path, "--shape", "1,32,32"]
    ran = command(*arguments)
    assert ran.code == 2
    assert "--overwrite" in ran.err
    assert list(tmp_path.iterdir()) == []
    assert command(*arguments, "--overwrite", "--content", "gel").code == 0
    assert (tmp_path / "image.tif").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shape", "64,512"], "expected three whole numbers"),
        (["--shape", "64,512,x"], "expected three whole numbers"),
        (["--shape", "0,512,512"], "1 or more"),
        (["--kidney", "4"], "expected one of 1, 2, 3"),
        (["--keep", "1.2"], "expected a share"),
        (["--content", "liver"], "expected one of kidney, gel"),
        (["--bits", "12"], "expected 8 or 16"),
        (["--voxel-size", "-1"], "expected 5 to 500"),
    ],
)
def test_bad_values_end_in_one_clear_line(command, tmp_path, options, message):
    """Exit code 2, the expectation in the message, and nothing left behind."""
    ran = command("sennet-bench", "phantom", tmp_path / "p", *options)
    assert ran.code == 2
    assert message in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
