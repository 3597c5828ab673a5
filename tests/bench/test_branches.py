"""`sennet-bench drop-branches`."""

import numpy as np
import pytest
import tifffile

from sennet_bench.branches import branches_of, dropped_branches


@pytest.fixture
def tree():
    """Along x a wide trunk, from whose wall twenty thin twigs of different lengths leave along y; bool [Z, Y, X]."""
    labels = np.zeros((14, 80, 220), bool)
    z, y = np.ogrid[:14, :80]
    labels |= (np.hypot(z - 7, y - 10) < 5)[:, :, None]
    for twig in range(20):
        labels[6:8, 10 : 20 + 3 * twig, 10 + 10 * twig : 12 + 10 * twig] = True
    return labels


def saved(folder, labels):
    path = folder / "labels.tif"
    tifffile.imwrite(path, labels.astype(np.uint8) * 255, photometric="minisblack")
    return path


def test_the_stated_share_is_kept(tree):
    """Within half a percent of the voxels, of labels that have small branches enough; the mask is a part of them."""
    sparse = dropped_branches(tree, keep=0.85, seed=1)
    assert sparse.mask.sum() / tree.sum() == pytest.approx(0.85, abs=0.005)
    assert sparse.kept_share == sparse.mask.sum() / tree.sum()
    assert sparse.meets(0.85)
    assert not (sparse.mask.astype(bool) & ~tree).any()


def test_thin_branches_go_and_the_trunk_stays(tree):
    """The trunk is whole, and so are the twigs that are left: branches go whole, and no trunk goes before a twig."""
    sparse = dropped_branches(tree, keep=0.93, seed=1).mask.astype(bool)
    trunk = np.zeros_like(tree)
    trunk[:, :15] = tree[:, :15]
    assert sparse[trunk].mean() > 0.99  # a twig's foot may lie in the trunk's outermost voxels
    shares = [sparse[6:8, 16 : 20 + 3 * t, 10 + 10 * t : 12 + 10 * t].mean() for t in range(20)]
    assert set(shares) == {0, 1}
    assert 5 <= shares.count(0) <= 15


def test_a_twig_begins_at_the_wall_of_the_trunk(tree):
    """Every voxel has a branch; a twig's does not reach into the trunk, nor the trunk's into the twig."""
    branches = branches_of(tree)
    assert ((branches.numbers > 0) == tree).all()
    trunk = np.unique(branches.numbers[7, 10])
    tips = np.array([branches.numbers[6, 19 + 3 * t, 10 + 10 * t] for t in range(20)])
    assert len(np.unique(tips)) == 20
    assert not np.isin(trunk, tips).any()
    assert branches.radii[tips - 1].max() < 2 < branches.radii[trunk - 1].min()
    assert not np.isin(branches.numbers[6:8, 18:], trunk).any()


def test_the_seed_decides_the_order(tree):
    """Equal seeds give equal labels, others do not."""
    one, same, other = (dropped_branches(tree, keep=0.93, seed=seed).mask for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_blobs_are_branches_too():
    """What has no centreline, such as a ball or a single voxel, can be dropped whole."""
    labels = np.zeros((9, 9, 60), bool)
    labels[4, 4, 2] = True
    labels[2:7, 2:7, 10:15] = True
    labels[1:8, 1:8, 20:58] = True
    sparse = dropped_branches(labels, keep=labels[1:8, 1:8, 20:58].sum() / labels.sum(), seed=0)
    assert not sparse.mask[..., :18].any()
    assert sparse.mask[..., 20:58].sum() == labels[..., 20:58].sum()


def test_the_command_writes_labels_and_says_what_remains(command, tmp_path, tree):
    """A TIFF of 0 and 1, of the shape of the labels."""
    out = tmp_path / "sparse.tif"
    ran = command("sennet-bench", "drop-branches", saved(tmp_path, tree), out, "--keep", 0.85, "--seed", 3)
    assert ran.code == 0, ran.err
    sparse = tifffile.imread(out)
    assert sparse.shape == tree.shape
    assert sparse.dtype == np.uint8
    assert set(np.unique(sparse)) == {0, 1}
    assert f"{sparse.sum() / tree.sum():.1%}" in ran.out
    assert "warning" not in ran.err


def test_a_share_that_whole_branches_cannot_meet_is_told(command, tmp_path):
    """One tube alone cannot be halved."""
    labels = np.zeros((7, 7, 40), bool)
    labels[2:5, 2:5, 2:38] = True
    ran = command("sennet-bench", "drop-branches", saved(tmp_path, labels), tmp_path / "sparse.tif", "--keep", 0.5)
    assert ran.code == 0
    assert "warning" in ran.err
    assert "100.0%" in ran.out


@pytest.mark.parametrize("keep", [0, 1.5])
def test_a_share_outside_of_0_to_1_is_refused(command, tmp_path, tree, keep):
    """The error names the value, and nothing is written."""
    out = tmp_path / "sparse.tif"
    ran = command("sennet-bench", "drop-branches", saved(tmp_path, tree), out, "--keep", keep)
    assert ran.code == 2
    assert str(keep) in ran.err
    assert not out.exists()


def test_labels_without_a_vessel_are_refused(command, tmp_path):
    """There is nothing to drop."""
    labels = saved(tmp_path, np.zeros((3, 8, 8), bool))
    ran = command("sennet-bench", "drop-branches", labels, tmp_path / "sparse.tif", "--keep", 0.5)
    assert ran.code == 2
    assert "no voxel is labelled" in ran.err


def test_a_file_is_not_replaced_unasked(command, tmp_path, tree):
    """--overwrite asks."""
    out = tmp_path / "sparse.tif"
    out.write_bytes(b"mine")
    labels = saved(tmp_path, tree)
    ran = command("sennet-bench", "drop-branches", labels, out, "--keep", 0.85)
    assert ran.code == 2
    assert out.read_bytes() == b"mine"
    ran = command("sennet-bench", "drop-branches", labels, out, "--keep", 0.85, "--overwrite")
    assert ran.code == 0
    assert tifffile.imread(out).shape == tree.shape


def test_the_dense_labels_are_never_replaced(command, tmp_path, tree):
    """Not even with --overwrite: they are what nobody could make again."""
    path = saved(tmp_path, tree)
    before = path.read_bytes()
    ran = command("sennet-bench", "drop-branches", path, path, "--keep", 0.5, "--overwrite")
    assert ran.code == 2
    assert "the dense labels themselves" in ran.err
    assert path.read_bytes() == before


def test_labels_that_are_no_mask_are_refused(command, tmp_path, tree):
    """A label of its own kind would become a vessel like the others."""
    labels = tree.astype(np.uint8)
    labels[0, 0, 0] = 7
    tifffile.imwrite(tmp_path / "labels.tif", labels, photometric="minisblack")
    ran = command("sennet-bench", "drop-branches", tmp_path / "labels.tif", tmp_path / "out.tif", "--keep", 0.5)
    assert ran.code == 2
    assert "got the values 0, 1, 7, expected a mask" in ran.err
