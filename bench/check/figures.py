"""Whether one measurement is worse than an earlier one of the same: by more than the tolerance and than the noise."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from sennet_bench.check.machines import Machines
from sennet_bench.check.noise import (
    FEWEST_SAMPLES,
    SIGNIFICANT,
    accepted_by_holm,
    probability_of_chance,
    relative_range,
    smallest_probability,
    student_probability,
)
from sennet_bench.report.figure import Figure, Nature

# Scores and counts are the same everywhere but for the order of floating-point sums.
QUALITY_TOLERANCE = 0.001
# Samples over more than this share of their median hide changes that matter.
WIDE_RANGE = 0.3


class State(StrEnum):
    """What is known of a figure.

    Attributes:
        WORSE, BETTER: beyond the tolerance and the noise.
        UNDECIDED: beyond the tolerance, but chance does as much.
        SAME: within the tolerance.
        TOO_FEW: so few samples that the noise is not known.
        NOT_COMPARED: depends on the machine, which is another.
        GONE, ADDED: in one of the files alone.
    """

    WORSE = "worse"
    GONE = "gone"
    UNDECIDED = "undecided"
    TOO_FEW = "too few samples"
    BETTER = "better"
    ADDED = "added"
    SAME = "same"
    NOT_COMPARED = "not compared"


CONCLUDED = (State.WORSE, State.BETTER, State.UNDECIDED, State.SAME)


@dataclass(frozen=True)
class Row:
    """A figure of two files.

    Attributes:
        file: the name of the pair of files.
        old, new: the samples; empty where the file has no such figure.
        change: of the medians, as a share of the old one; of scores, and where a median is 0 or less, the difference.
        tolerance: what counts as no change, in the measure of `change`.
        worse_by: how far it is worse, in the same measure but as the factor of what takes longer, so that seconds and
            voxels in a second tell the same; negative where it is better.
        p_worse, p_better: that chance alone makes it rank as far to that side; None where that was not tested.
        by_ranks: whether the ranks of so many samples suffice for a correction for the number of figures.
    """

    file: str
    name: str
    unit: str
    nature: Nature
    more_is_better: bool
    old: tuple[float, ...]
    new: tuple[float, ...]
    state: State
    change: float | None = None
    tolerance: float | None = None
    worse_by: float = 0.0
    p_worse: float | None = None
    p_better: float | None = None
    by_ranks: bool = False

    @property
    def by_difference(self) -> bool:
        """Whether its change is a difference and no share."""
        return self.nature is Nature.QUALITY or min(map(statistics.median, (self.old, self.new))) <= 0

    def samples_of_change(self, *, worse: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Those that are lower, and those that are higher, where it became worse, or better."""
        return (self.old, self.new) if worse is not self.more_is_better else (self.new, self.old)

    @property
    def wide(self) -> bool:
        """Whether its samples lie so far apart that a change that matters would not be seen."""
        return self.p_worse is not None and max(map(relative_range, (self.old, self.new))) > WIDE_RANGE

    @property
    def beyond_tolerance(self) -> bool:
        """Whether it changed by more than the tolerance, be it by chance."""
        return self.tolerance is not None and not _within(self.worse_by, self.tolerance)


def rows_of_figures(
    file: str, old: Sequence[Figure], new: Sequence[Figure], machines: Machines, *, tolerance: float
) -> list[Row]:
    """A row for each figure of either, not yet decided where samples have to be tested: `decided` does that."""
    before, after = ({figure.name: figure for figure in figures} for figures in (old, new))
    return [_row(file, before.get(name), after.get(name), machines, tolerance) for name in {**before, **after}]


def decided(rows: Sequence[Row]) -> list[Row]:
    """The rows with what the samples say, all of them together: the more are tested, the more is asked of each."""
    tested = [index for index, row in enumerate(rows) if row.p_worse is not None]
    result = list(rows)
    found = [_significant([rows[index] for index in tested], worse=worse) for worse in (True, False)]
    for index, is_worse, is_better in zip(tested, *found, strict=True):
        row = rows[index]
        result[index] = replace(
            row, state=_state(row, is_worse, is_better), by_ranks=_ranks_suffice(row, figures=len(tested))
        )
    return result


def _significant(rows: Sequence[Row], *, worse: bool) -> list[bool]:
    """Which of them changed for the worse, or for the better, by more than chance."""
    ranks = [(row.p_worse if worse else row.p_better) or 0.0 for row in rows]
    students = [student_probability(*row.samples_of_change(worse=worse)) for row in rows]
    by_ranks, by_student = accepted_by_holm(ranks), accepted_by_holm(students)
    return [
        ranked if _ranks_suffice(row, figures=len(rows)) else p <= SIGNIFICANT and normal
        for row, p, ranked, normal in zip(rows, ranks, by_ranks, by_student, strict=True)
    ]


def _ranks_suffice(row: Row, *, figures: int) -> bool:
    return smallest_probability(len(row.old), len(row.new)) <= SIGNIFICANT / figures


def _state(row: Row, is_worse: bool, is_better: bool) -> State:
    if not row.beyond_tolerance:
        return State.SAME
    if row.worse_by > 0:
        return State.WORSE if is_worse else State.UNDECIDED
    return State.BETTER if is_better else State.UNDECIDED


def _row(file: str, old: Figure | None, new: Figure | None, machines: Machines, tolerance: float) -> Row:
    known = new or old
    assert known is not None
    samples, others = old.samples if old else (), new.samples if new else ()
    row = Row(file, known.name, known.unit, known.nature, known.more_is_better, samples, others, State.SAME)
    if not samples or not others:
        return replace(row, state=State.GONE if samples else State.ADDED)
    if machines.differences and row.nature is not Nature.QUALITY:
        return replace(row, state=State.NOT_COMPARED)
    if row.nature is Nature.SPEED:
        tolerance = max(tolerance, machines.speed_difference)
    if row.nature is Nature.QUALITY:
        tolerance = QUALITY_TOLERANCE
    change, worse_by = _change(row)
    row = replace(row, change=change, worse_by=worse_by, tolerance=tolerance)
    if row.nature is Nature.QUALITY:
        worse = State.WORSE if worse_by > 0 else State.BETTER
        return replace(row, state=worse if row.beyond_tolerance else State.SAME)
    if min(len(samples), len(others)) < FEWEST_SAMPLES:
        return replace(row, state=State.TOO_FEW)
    p_worse, p_better = (probability_of_chance(*row.samples_of_change(worse=worse)) for worse in (True, False))
    return replace(row, p_worse=p_worse, p_better=p_better)


def _change(row: Row) -> tuple[float, float]:
    old, new = statistics.median(row.old), statistics.median(row.new)
    if row.by_difference:
        return new - old, old - new if row.more_is_better else new - old
    factor = old / new if row.more_is_better else new / old
    return new / old - 1, factor - 1 if factor >= 1 else 1 - 1 / factor


def _within(difference: float, tolerance: float) -> bool:
    # A score that is 0.001 worse is so by a hair more in binary.
    return abs(difference) <= tolerance + 1e-9
