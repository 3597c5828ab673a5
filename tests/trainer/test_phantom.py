"""Phantoms are reproducible, their truth is true, and they come to disk whole."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from sennet_engine.errors import ConfigError, OutputError
from sennet_trainer.phantom import Phantom, PhantomSettings, make_phantom, write_phantom
from sennet_trainer.phantom.look import Kidney
from sennet_trainer.phantom.sparse_labels import kept_voxels
from sennet_trainer.phantom.tree import Tree, grow_tree

SMALL = PhantomSettings((8, 160, 160), 1, 0)


def grown_tree(seed: int = 0, ends: int = 200) -> Tree:
    rng = np.random.default_rng(seed)
    return grow_tree(
        rng.uniform(0, 300, (ends, 3)),
        flows=rng.uniform(1, 3, ends),
        root=np.array([-100.0, 150, 150]),
        entrance=np.array([0.0, 150, 150]),
        rng=rng,
    )


def test_same_settings_give_the_same_bytes(tmp_path: Path) -> None:
    """Two runs with the same settings agree in every voxel, and in every byte of their files."""
    settings = dataclasses.replace(SMALL, keep=0.85)
    one, other = make_phantom(settings), make_phantom(settings)
    for field in dataclasses.fields(Phantom):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
    files = [write_phantom(phantom, settings, tmp_path / name) for phantom, name in ((one, "one"), (other, "other"))]
    for path, its_twin in zip(*files, strict=True):
        assert path.read_bytes() == its_twin.read_bytes()


def test_seeds_differ() -> None:
    """Another seed is another kidney."""
    other = make_phantom(dataclasses.replace(SMALL, seed=1))
    assert (make_phantom(SMALL).labels != other.labels).any()


@pytest.mark.parametrize("shape", [(1, 96, 96), (3, 97, 61), (33, 40, 50), (1, 1, 1)])
def test_any_shape_works(shape: tuple[int, int, int]) -> None:
    """Arrays have the shape asked for and the promised types."""
    phantom = make_phantom(PhantomSettings(shape, 3, 0, keep=0.65))
    assert phantom.sparse_labels is not None
    assert phantom.image.dtype == np.uint16
    for mask in (phantom.labels, phantom.veins, phantom.sparse_labels):
        assert mask.shape == phantom.image.shape == shape
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 1}


@pytest.mark.parametrize("kidney", [1, 2, 3])
def test_few_voxels_are_artery(kidney: Kidney) -> None:
    """The lumen of arteries is 0.05 to 1.5 % of a plane, and between 0.1 and 1 % on average."""
    shares = [make_phantom(PhantomSettings((1, 512, 512), kidney, seed)).labels.mean() for seed in range(6)]
    assert min(shares) > 0.0005
    assert max(shares) < 0.015
    assert 0.001 < np.mean(shares) < 0.01


def test_8_bits_are_16_bits_rounded_down() -> None:
    """The 8-bit image is the 16-bit one shifted right by 8, with the same labels."""
    of_16, of_8 = make_phantom(SMALL), make_phantom(dataclasses.replace(SMALL, bits=8))
    assert of_8.image.dtype == np.uint8
    np.testing.assert_array_equal(of_8.image, of_16.image >> 8)
    np.testing.assert_array_equal(of_8.labels, of_16.labels)


def test_veins_and_labels_share_no_voxel() -> None:
    """What is labelled as artery is never listed as vein, and there are both."""
    phantom = make_phantom(PhantomSettings((8, 256, 256), 3, 2))
    assert phantom.labels.any()
    assert phantom.veins.any()
    assert not (phantom.labels & phantom.veins).any()


def test_murray_s_law_holds_at_every_branching() -> None:
    """The cube of a branch's radius is the sum of the cubes of its children's."""
    tree = grown_tree()
    of_children = np.bincount(tree.parents[1:], tree.radii[1:] ** 3, minlength=len(tree.radii))
    divided = np.isin(np.arange(len(tree.radii)), tree.parents)
    np.testing.assert_allclose(of_children[divided], tree.radii[divided] ** 3)


def test_tree_is_connected_and_reaches_every_terminal() -> None:
    """Each branch starts where its parent ends, parents come first, and all terminals are ends."""
    tree = grown_tree()
    assert tree.parents[0] == -1
    assert (tree.parents[1:] < np.arange(1, len(tree.parents))).all()
    np.testing.assert_array_equal(tree.starts[1:], tree.ends[tree.parents[1:]])
    assert len(tree.radii) == 2 * 200 - 1
    assert tree.radii.min() >= 1.0


@pytest.mark.parametrize("keep", [0.65, 0.85, 1.0])
@pytest.mark.parametrize("shape", [(1, 400, 400), (16, 200, 200)])
def test_sparse_labels_keep_their_share(shape: tuple[int, int, int], keep: float) -> None:
    """The share of kept voxels is the one asked for, and each kept voxel is a label."""
    phantom = make_phantom(PhantomSettings(shape, 2, 4, keep=keep))
    assert phantom.sparse_labels is not None
    assert not (phantom.sparse_labels & ~phantom.labels & 1).any()
    assert phantom.sparse_labels.sum() / phantom.labels.sum() == pytest.approx(keep, abs=0.02)


def test_whole_subtrees_go_and_thin_ones_first() -> None:
    """What lies beyond a branch without labels has none either, and the missing branches are the thinner ones."""
    tree = grown_tree()
    voxels = np.maximum(1, np.round(20 * tree.radii**2)).astype(int)
    branch = np.repeat(np.arange(len(voxels)), voxels).astype(np.int32)
    from_start = np.concatenate([np.arange(count) for count in voxels]).astype(np.float32)
    kept = kept_voxels(tree, branch, from_start, keep=0.65, rng=np.random.default_rng(0))
    with_labels = np.bincount(branch[kept], minlength=len(voxels)) > 0
    assert not (with_labels[1:] & ~with_labels[tree.parents[1:]]).any()
    assert np.median(tree.radii[~with_labels]) < np.median(tree.radii[with_labels])
    assert kept.mean() == pytest.approx(0.65, abs=0.001)


def test_larger_voxels_make_everything_smaller() -> None:
    """At 63.08 µm the same kidney has fewer voxels of vessel and of tissue, with the noise of a voxel unchanged."""
    at_50, at_63 = (make_phantom(PhantomSettings((16, 256, 256), 1, 5, voxel_size_um=size)) for size in (50.0, 63.08))
    assert at_63.labels.sum() < 0.85 * at_50.labels.sum()
    tissue_50, tissue_63 = ((phantom.image > 90 * 256).mean() for phantom in (at_50, at_63))
    assert tissue_63 == pytest.approx(tissue_50 * (50 / 63.08) ** 2, rel=0.2)


def test_gel_has_structure_but_no_labels() -> None:
    """A volume of gel has no artery and no vein, and varies by more than its noise."""
    phantom = make_phantom(PhantomSettings((2, 256, 256), 1, 0, content="gel", keep=0.65))
    assert phantom.sparse_labels is not None
    for mask in (phantom.labels, phantom.veins, phantom.sparse_labels):
        assert not mask.any()
    assert ndimage.gaussian_filter(phantom.image[0] / 256, 4).std() > 0.4


def test_files_read_back_with_their_voxel_size(tmp_path: Path) -> None:
    """Each TIFF holds its array, the voxel size in OME-XML and as resolution; phantom.json tells the settings."""
    settings = dataclasses.replace(SMALL, keep=0.65, voxel_size_um=63.08)
    phantom = make_phantom(settings)
    paths = write_phantom(phantom, settings, tmp_path / "made" / "p")
    names = ["image.tif", "labels.tif", "veins.tif", "labels_sparse.tif", "phantom.json"]
    assert [path.name for path in paths] == names
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["p"]
    np.testing.assert_array_equal(tifffile.imread(paths[0]), phantom.image)
    np.testing.assert_array_equal(tifffile.imread(paths[1]), phantom.labels)
    with tifffile.TiffFile(paths[0]) as file:
        assert 'PhysicalSizeZ="63.08"' in (file.ome_metadata or "")
        page = file.pages.first
        numerator, denominator = page.tags["XResolution"].value
        assert page.tags["ResolutionUnit"].value == 3  # centimetre
        assert 1e4 * denominator / numerator == pytest.approx(63.08)
    facts = json.loads(paths[-1].read_text())
    assert facts["settings"]["voxel_size_um"] == 63.08
    assert facts["voxels"]["labels"] == int(phantom.labels.sum())


def test_folder_that_exists_is_refused_or_replaced_whole(tmp_path: Path) -> None:
    """Without `overwrite` nothing is touched; with it nothing of the former phantom is left."""
    settings = PhantomSettings((1, 32, 32), 1, 0)
    folder = tmp_path / "p"
    write_phantom(make_phantom(dataclasses.replace(settings, keep=0.5)), settings, folder)
    assert (folder / "labels_sparse.tif").exists()
    with pytest.raises(OutputError, match="exists already"):
        write_phantom(make_phantom(settings), settings, folder)
    write_phantom(make_phantom(settings), settings, folder, overwrite=True)
    assert not (folder / "labels_sparse.tif").exists()
    assert (folder / "image.tif").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape_zyx": (0, 10, 10)}, "1 or more"),
        ({"kidney": 4}, "expected one of 1, 2, 3"),
        ({"seed": -1}, "0 or more"),
        ({"voxel_size_um": 0.0}, "5 to 500"),
        ({"voxel_size_um": float("nan")}, "5 to 500"),
        ({"keep": 0.0}, r"in \(0, 1\]"),
        ({"keep": 1.5}, r"in \(0, 1\]"),
        ({"content": "liver"}, "kidney, gel"),
        ({"bits": 12}, "expected 8 or 16"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    """The error names what was expected."""
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(SMALL, **change)  # type: ignore[arg-type]
