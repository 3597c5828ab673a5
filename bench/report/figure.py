"""A figure that a measurement gives: what `sennet-bench check` compares between two files."""

from dataclasses import dataclass
from enum import StrEnum


class Nature(StrEnum):
    """What a figure depends on, and so what can be compared with what.

    Attributes:
        SPEED: seconds, or what is done in a second: another machine, or a busier one, gives another.
        RATIO: of two speeds of the same run: another kind of machine gives another.
        MEMORY: bytes.
        QUALITY: a score or a count: the same everywhere.
    """

    SPEED = "speed"
    RATIO = "ratio"
    MEMORY = "memory"
    QUALITY = "quality"


@dataclass(frozen=True)
class Figure:
    """One thing, measured once or several times.

    Attributes:
        name: the same in two files where it is the same thing.
        unit: "s", "ms", "MB", "Mvoxel/s", "" for a ratio or a score.
        samples: each from a measurement of its own.
        more_is_better: as with scores and voxels in a second; seconds and bytes are better the fewer they are.
    """

    name: str
    unit: str
    samples: tuple[float, ...]
    nature: Nature
    more_is_better: bool = False
