"""The scale of a pass follows from voxel sizes: what is resized, by how much, and what is said of it."""

import pytest

from sennet_engine.errors import ConfigError
from sennet_engine.planning.scale import MOST_PIXELS, network_shape, scale_of, scale_reason


def test_the_scale_is_voxel_size_over_that_of_the_training() -> None:
    """63.08 µm voxels are shown 1.2616 times as large to a network for 50 µm, and 25 µm voxels half as large."""
    assert scale_of((63.08,) * 3, 50.0, "z") == (63.08 / 50, 63.08 / 50)
    assert scale_of((25.0,) * 3, 50.0, "x") == (0.5, 0.5)


def test_rows_and_columns_have_their_own_scale() -> None:
    """Along z the sizes of y and x count, along y those of z and x, along x those of z and y."""
    size = (200.0, 100.0, 25.0)
    assert scale_of(size, 50.0, "z") == (2.0, 0.5)
    assert scale_of(size, 50.0, "y") == (4.0, 0.5)
    assert scale_of(size, 50.0, "x") == (4.0, 2.0)


@pytest.mark.parametrize("size", [47.5, 49.0, 50.0, 50.28, 52.5])
def test_within_five_per_cent_nothing_is_resized(size: float) -> None:
    """Exactly 1, so that planes are handed on as they are."""
    assert scale_of((100.0, size, 100.0), 50.0, "z") == (1.0, 2.0)


@pytest.mark.parametrize("size", [47.4, 52.6])
def test_beyond_five_per_cent_it_is_resized(size: float) -> None:
    """By the whole ratio, not by what is beyond."""
    assert scale_of((size,) * 3, 50.0, "z") == (size / 50, size / 50)


def test_an_unknown_voxel_size_is_taken_as_that_of_the_training() -> None:
    """Nothing is resized."""
    assert scale_of(None, 50.0, "z") == (1.0, 1.0)


def test_an_override_is_taken_as_it_is() -> None:
    """Whether the voxel size is known or not, and also where it is near 1."""
    assert scale_of((63.08,) * 3, 50.0, "z", override=1.02) == (1.02, 1.02)
    assert scale_of(None, 50.0, "y", override=0.5) == (0.5, 0.5)


@pytest.mark.parametrize(("size", "override"), [(1001.0, None), (2.4, None), (50.0, 20.1), (50.0, 0.049)])
def test_absurd_scales_are_refused(size: float, override: float | None) -> None:
    """A voxel size in the wrong unit is an error that says what was got and what to do, not a plane of a gigabyte."""
    with pytest.raises(ConfigError, match="expected planes to become at most 20 times") as refused:
        scale_of((size,) * 3, 50.0, "z", override=override)
    assert f"{override or size:g}" in str(refused.value)
    assert "--voxel-size" in str(refused.value)


def test_the_network_sees_rounded_sides() -> None:
    """1257 × 1028 at 1.2616 is 1586 × 1297; a side is 1 at least."""
    assert network_shape((1257, 1028), (1.2616, 1.2616)) == (1586, 1297)
    assert network_shape((3, 10), (0.05, 0.25)) == (1, 3)
    assert network_shape((70_000, 70_000), (1.0, 1.0)) == (70_000, 70_000)


def test_planes_too_large_for_a_computer_are_refused() -> None:
    """The limit is on what resizing makes; at the limit it still works."""
    assert network_shape((2**14, 2**14), (2.0, 2.0)) == (2**15, 2**15)
    assert MOST_PIXELS == 2**30
    with pytest.raises(ConfigError, match="would become 32770 × 32768"):
        network_shape((2**14 + 1, 2**14), (2.0, 2.0))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((63.08,) * 3, "planes are magnified 1.26 times: 63.08 µm voxels into a model of 50 µm"),
        ((25.0,) * 3, "planes are reduced to 0.5 of their size: 25 µm voxels into a model of 50 µm"),
        ((50.0,) * 3, "planes are not resized: 50 µm voxels into a model of 50 µm"),
        ((50.28,) * 3, "planes are not resized: 50.28 µm voxels into a model of 50 µm, within 5% of it"),
        (None, "planes are not resized: the voxel size is unknown, and taken as that of a model of 50 µm"),
        (
            (50.0, 100.0, 50.0),
            "planes are magnified 2 times in height and not resized in width: 100 × 50 µm voxels into a model of 50 µm",
        ),
    ],
)
def test_the_plan_says_why(size: tuple[float, float, float] | None, expected: str) -> None:
    """One line with both sizes."""
    assert scale_reason(scale_of(size, 50.0, "z"), size, 50.0, "z") == expected
