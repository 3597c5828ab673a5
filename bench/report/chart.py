"""Charts as data: a kind of measurement says what is to be seen, and one place draws it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bars:
    """A bar for each of several things, as long as the median of its samples, and every sample as a point.

    Attributes:
        bars: name and samples, from the top.
        ours: the names of those bars that are our own.
    """

    title: str
    unit: str
    bars: tuple[tuple[str, tuple[float, ...]], ...]
    ours: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Parts:
    """A bar for each of several things, made of parts that stand one after another.

    Attributes:
        bars: name, and the length of each part by its name; a part has the same colour in all bars.
    """

    title: str
    unit: str
    bars: tuple[tuple[str, dict[str, float]], ...]


@dataclass(frozen=True)
class Lines:
    """Samples over a common x, and a line through their medians for each of several things.

    Attributes:
        lines: name, and (x, samples) ascending by x.
        logarithmic: both axes.
    """

    title: str
    x_label: str
    unit: str
    lines: tuple[tuple[str, tuple[tuple[float, tuple[float, ...]], ...]], ...]
    logarithmic: bool = False


@dataclass(frozen=True)
class Distribution:
    """Of several things, the share of the samples that are at most x.

    Attributes:
        curves: name and samples, in any order.
    """

    title: str
    unit: str
    curves: tuple[tuple[str, tuple[float, ...]], ...]


Chart = Bars | Parts | Lines | Distribution
