"""The audit: a random sample of what was left out is computed after all, and tells what was missed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sennet_engine.bundle import open_bundle
from sennet_engine.card import Tiling
from sennet_engine.errors import ConfigError
from sennet_engine.planning.cells import CELL, Occupancy, everywhere
from sennet_engine.planning.layout import Layout, Rectangle, Tile
from sennet_engine.planning.passes import AxisPlan, PassPlan, Plan, Slab
from sennet_engine.predictor import Predictor, Tiles
from sennet_engine.runtimes import open_predictor
from sennet_engine.survey.audit import Audit, Place, audit, audit_places, audited
from sennet_engine.volumes.volume import ArrayVolume
from sennet_engine.window import Window

WINDOW = Window(0, 255)
SHAPE = (40, 200, 150)
TILING = Tiling(stride=16, sides=[32, 64, 128], default_side=128, halo=0, exact=True)


def left_half(shape_zyx: tuple[int, int, int] = SHAPE) -> Occupancy:
    """Cells of which the left half holds the organ."""
    cells = everywhere(shape_zyx, reason="").cells.copy()
    cells[..., cells.shape[2] // 2 :] = False
    return Occupancy(shape_zyx, cells)


def pass_of(occupancy: Occupancy, *, scale: float = 1.0, batch: int = 1, computed: int = 128) -> PassPlan:
    """A pass that computes one tile of `computed` pixels a side on every plane."""
    rows, columns = (round(side * scale) for side in occupancy.shape_zyx[1:])
    tile = Tile((0, 0), (computed, computed), (Rectangle(0, 0, rows, columns),))
    layout = Layout((rows, columns), (rows, columns), (tile,))
    layers = -(-occupancy.shape_zyx[0] // CELL)
    return PassPlan("model", "model", (scale, scale), (layout,) * layers, "none", 1, batch)


def axis_of(occupancy: Occupancy, one: PassPlan) -> AxisPlan:
    return AxisPlan("z", occupancy.shape_zyx, (Slab(0, occupancy.shape_zyx[0]),), (one,), occupancy, 1)


def plan_of(occupancy: Occupancy, one: PassPlan, *, threshold_milli: int = 500) -> Plan:
    axis = axis_of(occupancy, one)
    return Plan(occupancy.shape_zyx, (axis,), occupancy, 1, threshold_milli, 0, 0, ())


def places_of(occupancy: Occupancy, *, share: float = 0.1, seed: int = 0, tiling: Tiling = TILING) -> tuple[Place, ...]:
    one = pass_of(occupancy)
    return audit_places(axis_of(occupancy, one), one, tiling=tiling, share=share, seed=seed)


@pytest.fixture
def identity(identity_bundle: Path) -> Iterator[Predictor]:
    """Its probability is the grey level."""
    bundle = open_bundle(identity_bundle)
    with open_predictor(bundle, runtime="onnxruntime", precision="fp32", threads=1, contexts=1) as predictor:
        yield predictor


def run(
    image: npt.NDArray[np.uint8], occupancy: Occupancy, predictor: Predictor, *,
    one: PassPlan | None = None, share: float = 0.5, seed: int = 0, tiling: Tiling = TILING,
) -> Audit | None:  # fmt: skip
    one = one or pass_of(occupancy)
    return audited(
        ArrayVolume(image), WINDOW, plan_of(occupancy, one), {"model": predictor},
        tilings={"model": tiling}, share=share, seed=seed,
    )  # fmt: skip


def test_a_vessel_in_what_was_left_out_is_found(identity: Predictor) -> None:
    """Voxels at or above the threshold are counted; those of the organ itself, however bright, are not."""
    occupancy = left_half()
    image = np.full(SHAPE, 20, np.uint8)
    image[:, :, : occupancy.cells.shape[2] // 2 * CELL] = 255
    image[:, :, 100:104] = 180
    found = run(image, occupancy, identity)
    assert found is not None
    assert found.highest_probability == pytest.approx(180 / 255)
    assert 0 < found.vessel_voxels < found.voxels / 4
    assert f"{found.vessel_voxels:,} would have been vessel" in found.sentence


def test_clean_background_is_told_as_such(identity: Predictor) -> None:
    """None of it reaches the threshold, even one grey level below it."""
    found = run(np.full(SHAPE, 127, np.uint8), left_half(), identity)
    assert found is not None
    assert found.vessel_voxels == 0
    assert "none would have been vessel, highest probability 0.50" in found.sentence
    at_threshold = run(np.full(SHAPE, 128, np.uint8), left_half(), identity)
    assert at_threshold is not None
    assert at_threshold.vessel_voxels == at_threshold.voxels


def test_nothing_is_audited_where_nothing_was_left_out(identity: Predictor) -> None:
    """Neither is it with a share of 0."""
    image = np.zeros(SHAPE, np.uint8)
    assert run(image, everywhere(SHAPE, reason="all"), identity) is None
    assert run(image, left_half(), identity, share=0) is None


def test_it_costs_what_it_may() -> None:
    """The tiles' pixels are at most the share of those computed; one tile there always is."""
    occupancy = left_half((320, 200, 150))
    computed = 320 * 128**2
    for share in (0.01, 0.05):
        places = places_of(occupancy, share=share)
        assert 0.8 * share * computed <= len(places) * 32**2 <= share * computed
    assert len(places_of(left_half((1, 200, 150)), share=0.001)) == 1


def test_places_spread_over_the_planes_and_over_what_was_left_out() -> None:
    """Each of them holds a cell that was left out, and every part of the volume has its share of them."""
    occupancy = left_half((320, 200, 150))
    places = places_of(occupancy, share=0.05)
    counts, _ = np.histogram([place.z for place in places], 4, (0, 320))
    assert counts.min() > len(places) / 6
    for place in places:
        assert all(origin % TILING.stride == 0 for origin in place.tile.origin)
        kept = place.tile.kept[0]
        assert not occupancy.voxels_of_plane("z", place.z)[kept.slices].all()
    assert {place.tile.origin[0] for place in places} >= {0, 96, 176}
    assert len({place.z for place in places}) > len(places) / 3


def test_the_seed_decides() -> None:
    """The same seed gives the same places, another one others."""
    occupancy = left_half()
    assert places_of(occupancy) == places_of(occupancy)
    assert places_of(occupancy) != places_of(occupancy, seed=1)


def test_the_halo_of_a_tile_is_not_looked_at() -> None:
    """A network that is wrong within its halo disturbs no audit of what lies amid a plane."""

    class WrongAtTheEdge:
        runtime, threads, contexts = "test", 1, 1

        def predict(self, tiles: Tiles, *, context: int = 0) -> Tiles:
            del context
            answer = np.full_like(tiles, 255)
            answer[..., 16:-16, 16:-16] = 10
            return answer

    tiling = Tiling(stride=16, sides=[64], default_side=64, halo=16, exact=True)
    cells = np.zeros((1, 30, 30), bool)
    cells[:, :4] = cells[:, -4:] = cells[:, :, :4] = cells[:, :, -4:] = True
    occupancy = Occupancy((5, 480, 480), cells)
    found = run(np.zeros(occupancy.shape_zyx, np.uint8), occupancy, WrongAtTheEdge(), tiling=tiling)  # type: ignore[arg-type]
    assert found is not None
    assert found.tiles > 5
    assert found.highest_probability == pytest.approx(10 / 255)


def test_the_tile_is_large_enough_for_its_halo() -> None:
    """The smallest side of four halos; a network that is not exact keeps the side of its pass."""
    sides = [80, 96, 128, 256]
    exact = Tiling(stride=16, sides=sides, default_side=256, halo=32, exact=True)
    never = Tiling(stride=16, sides=sides, default_side=256, halo=0, exact=False)
    assert {place.tile.shape for place in places_of(left_half(), tiling=exact)} == {(128, 128)}
    assert {place.tile.shape for place in places_of(left_half(), tiling=never)} == {(128, 128)}


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.26])
def test_resized_planes_are_looked_at_voxel_by_voxel(identity: Predictor, scale: float) -> None:
    """At any scale the count is of voxels, each of them once: a cell's own answers come back from its own place."""
    cells = np.ones((1, 13, 10), bool)
    cells[0, 5, 6] = False
    occupancy = Occupancy((3, 200, 150), cells)
    image = np.full(occupancy.shape_zyx, 255, np.uint8)
    image[:, 70:106, 86:122] = 60
    found = run(image, occupancy, identity, one=pass_of(occupancy, scale=scale))
    assert found == Audit(tiles=1, voxels=CELL**2, vessel_voxels=0, highest_probability=60 / 255)


def test_batches_change_nothing(identity: Predictor) -> None:
    """The last one is filled up, and what fills it is not counted."""
    image = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    one, seven = (run(image, left_half(), identity, one=pass_of(left_half(), batch=batch)) for batch in (1, 7))
    assert one == seven
    assert one is not None
    assert one.tiles % 7


def test_a_plane_is_read_once_for_all_its_places(identity: Predictor) -> None:
    """And those without places are not read."""
    read = []

    class Watched(ArrayVolume):
        def _read_plane(self, z: int) -> npt.NDArray[np.uint8]:
            read.append(z)
            return super()._read_plane(z)

    occupancy, volume = left_half((3, 400, 400)), Watched(np.zeros((3, 400, 400), np.uint8))
    one = pass_of(occupancy)
    places = places_of(occupancy, share=0.5)
    audit(volume, WINDOW, identity, places, occupancy=occupancy, one=one, threshold_milli=500)
    assert len(places) > 10
    assert read == sorted({place.z for place in places})


def test_planes_smaller_than_a_tile_are_mirrored(identity: Predictor) -> None:
    """What is looked at is the plane itself."""
    occupancy = Occupancy((1, 20, 30), np.array([[[True, False], [True, True]]]))
    image = np.full((1, 20, 30), 200, np.uint8)
    image[:, :16, 16:] = 77
    assert run(image, occupancy, identity) == Audit(1, 16 * 14, 0, 77 / 255)


def test_a_share_that_is_none_is_refused() -> None:
    """With the value and what was expected."""
    with pytest.raises(ConfigError, match=r"got 1.5, expected 0 to 1"):
        places_of(left_half(), share=1.5)
