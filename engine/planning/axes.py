"""The three ways to look at a volume: as planes along z, y or x."""

from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

Axis = Literal["z", "y", "x"]
AXES: tuple[Axis, ...] = ("z", "y", "x")

T = TypeVar("T")


def axis_first(triple_zyx: tuple[T, T, T], axis: Axis) -> tuple[T, T, T]:
    """(planes, rows, columns) along `axis` of what is ordered (Z, Y, X): along y, rows are z and columns are x."""
    number = AXES.index(axis)
    rest = [one for index, one in enumerate(triple_zyx) if index != number]
    return triple_zyx[number], rest[0], rest[1]


def seen_along(array_zyx: npt.NDArray[Any], axis: Axis) -> npt.NDArray[Any]:
    """A view of a [Z, Y, X] array as [planes, rows, columns] along `axis`; `seen_from_z` undoes it."""
    return np.moveaxis(array_zyx, AXES.index(axis), 0)


def seen_from_z(array: npt.NDArray[Any], axis: Axis) -> npt.NDArray[Any]:
    """A view of [planes, rows, columns] along `axis` as [Z, Y, X]: undoes `seen_along`."""
    return np.moveaxis(array, 0, AXES.index(axis))
