"""The points of `sennet-bench scale`: a base, and what is varied from it, one thing at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from sennet_engine.card import Tiling
from sennet_engine.errors import ConfigError

Axis = Literal["planes", "side", "models", "threads", "overlap"]
AXES: tuple[Axis, ...] = get_args(Axis)

OVERLAPS = (0.0, 1 / 8, 1 / 4, 1 / 2)
QUICK_OVERLAPS = (0.0, 1 / 2)
MOST_MODELS = 4
# Tiles stand at their full distance only away from the edges: planes are so many tiles wide where overlap is varied.
TILES_A_SIDE, QUICK_TILES_A_SIDE = 8, 4


@dataclass(frozen=True)
class Point:
    """One setting of all that can be varied.

    Attributes:
        planes, side: of the volume; planes are square.
        models: networks that look at every plane.
        threads: of the run.
        overlap: of neighbouring tiles, as a share of their side, with the network as if never exact on tiles; None
            leaves tiles to the plan.
    """

    planes: int
    side: int
    models: int
    threads: int
    overlap: float | None = None


def usual_values(axis: Axis, base: Point, *, most_threads: int, quick: bool) -> tuple[float, ...]:
    """What `axis` goes through where nothing is said: geometric around the base where that can be; `quick` few."""
    factors = (0.5, 1, 2) if quick else (0.5, 1, 2, 4, 8)
    powers = [2**power for power in range(most_threads.bit_length())]
    table: Mapping[Axis, Sequence[float]] = {
        "planes": [round(base.planes * factor) for factor in factors],
        "side": [round(base.side * factor) for factor in factors[:4]],
        "models": [1, 2] if quick else range(1, MOST_MODELS + 1),
        "threads": [1, most_threads] if quick else [*powers, most_threads],
        "overlap": QUICK_OVERLAPS if quick else OVERLAPS,
    }
    return tuple(sorted({value for value in table[axis] if value >= 1 or axis == "overlap"}))


def points_along(axis: Axis, values: Sequence[float], base: Point) -> Iterator[Point]:
    """The base with each of `values` in place of its own."""
    for value in values:
        changed: dict[str, Any] = {axis: value if axis == "overlap" else int(value)}
        yield replace(base, **changed)


def overlap_base(base: Point, *, tile: int, quick: bool) -> Point:
    """Larger planes than the base's, and fewer of them."""
    tiles = QUICK_TILES_A_SIDE if quick else TILES_A_SIDE
    return replace(base, planes=max(1, base.planes // 4), side=tiles * tile, overlap=0.0)


def tile_for_overlaps(overlaps: Sequence[float], tiling: Tiling) -> int:
    """The smallest side that the network takes, of which every overlap leaves whole strides between tiles.

    Raises:
        ConfigError: there is none.
    """
    for side in sorted(tiling.sides):
        if all((side * (1 - overlap) / tiling.stride).is_integer() for overlap in overlaps):
            return side
    raise ConfigError(
        f"along overlap: got {', '.join(f'{one:g}' for one in overlaps)}, expected shares of one of the sides "
        f"{', '.join(map(str, tiling.sides))} in whole strides of {tiling.stride} pixels; try 0,0.25,0.5"
    )


def axis_from_text(text: str) -> tuple[Axis, tuple[float, ...]]:
    """An axis and its values, none where the usual ones are meant: from `planes`, or `planes=4,8,16`.

    Raises:
        ConfigError: no such axis; fewer than two different values; other than whole numbers of 1 or more, or for the
            overlap other than shares from 0 to less than 1.
    """
    name, equals, listed = text.partition("=")
    axis = next((one for one in AXES if one == name), None)
    if axis is None:
        raise ConfigError(f"--along: got {text!r}, expected one of {', '.join(AXES)}, or with values planes=4,8,16")
    if not equals:
        return axis, ()
    expected = "shares from 0 to less than 1, as overlap=0,0.25" if axis == "overlap" else "whole numbers of 1 or more"
    try:
        values = tuple(sorted({float(part) for part in listed.split(",")}))
    except ValueError:
        values = ()
    fit = all(0 <= one < 1 if axis == "overlap" else one >= 1 and one.is_integer() for one in values)
    if len(values) < 2 or not fit:
        raise ConfigError(f"--along: got {text!r}, expected two or more different {expected}")
    return axis, values
