"""What a check found, for people: a table of what changed, what it is worth, and a verdict in a line."""

import statistics

from sennet_bench.check.figures import QUALITY_TOLERANCE, WIDE_RANGE, Row, State
from sennet_bench.check.files import Check
from sennet_bench.check.noise import SIGNIFICANT
from sennet_bench.report.figure import Nature
from sennet_bench.report.table import Table

# Of the other states only figures that changed are shown.
ALWAYS_SHOWN = (State.WORSE, State.BETTER, State.UNDECIDED, State.GONE, State.ADDED)
# So many figures a verdict names.
NAMED = 5


def table_of_check(check: Check) -> Table:
    """A row for each figure that changed beyond the tolerance, came or went; the worst first."""
    several = len({row.file for row in check.rows}) > 1
    order = list(State)
    shown = [row for row in check.rows if row.state in ALWAYS_SHOWN or row.beyond_tolerance]
    shown.sort(key=lambda row: (order.index(row.state), -abs(row.worse_by)))
    return Table(
        heads=(*(["file"] if several else []), "figure", "old (samples)", "new (samples)", "change", "p", "verdict"),
        rows=tuple((*([row.file] if several else []), *_cells(row)) for row in shown),
    )


def notes_of_check(check: Check) -> list[str]:
    """What the comparison is worth, a line each; the warnings first."""
    notes = [f"Warning: {one}." for one in check.warnings]
    tested = [row for row in check.rows if row.p_worse is not None]
    by_student = [row for row in tested if not row.by_ranks]
    if wide := [row for row in tested if row.wide]:
        notes.append(
            f"Warning: the samples of {len(wide)} of {len(tested)} figures range over more than {WIDE_RANGE:.0%} of "
            f"their median, so that a smaller change may go unseen: {_names(wide)}."
        )
    if few := check.of(State.TOO_FEW):
        notes.append(
            f"Warning: {len(few)} figures have too few samples, so that nothing can be concluded of them; measure with "
            f"--repeats 3 or more: {_names(few)}."
        )
    if tested:
        notes.append(
            f"{len(tested)} figures were tested by the rank test of Mann and Whitney, one-sided, p <= {SIGNIFICANT:g}, "
            f"and against a tolerance of {check.tolerance:.1%}."
        )
    if len(tested) > 1:
        notes.append(
            f"Of so many figures about {SIGNIFICANT * len(tested):.1f} rank as worse by chance alone. Corrected for "
            f"their number (Holm), the chance of any false alarm is at most {SIGNIFICANT:.0%}."
        )
    if by_student:
        notes.append(
            f"Warning: {len(by_student)} figures have too few samples for ranks to be corrected; for them Student's t "
            "test of the logarithms has to agree, which takes the noise as normal. Measure with more --repeats before "
            "believing one of them."
        )
    if any(row.nature is Nature.QUALITY and row.change is not None for row in check.rows):
        notes.append(f"Scores and counts are compared exactly: worse by more than {QUALITY_TOLERANCE:g} is worse.")
    return notes


def verdict_of_check(check: Check) -> str:
    """The whole in a line."""
    others = ", ".join(
        f"{len(rows)} {state}"
        for state in (State.BETTER, State.SAME, State.UNDECIDED, State.TOO_FEW, State.GONE, State.ADDED,
                      State.NOT_COMPARED)
        if (rows := check.of(state))
    )  # fmt: skip
    if worse := check.of(State.WORSE):
        names = _names(sorted(worse, key=lambda row: -row.worse_by))
        return f"Regression: {len(worse)} of {len(check.rows)} figures are worse: {names}" + (
            f" ({others})" * bool(others)
        )
    if check.exit_code == 2:
        return f"Nothing can be concluded: {others or 'the files hold no figures'}"
    return f"No regression shown among {len(check.rows)} figures: {others}"


def _cells(row: Row) -> tuple[str, ...]:
    change = "–" if row.change is None else f"{row.change:{'+.4f' if row.by_difference else '+.1%'}}"
    tested = row.p_worse if row.worse_by > 0 else row.p_better
    return (
        row.name, _told(row.old, row.unit), _told(row.new, row.unit), change,
        "–" if tested is None else f"{tested:.2g}", row.state,
    )  # fmt: skip


def _told(samples: tuple[float, ...], unit: str) -> str:
    return f"{statistics.median(samples):.4g} {unit}".strip() + f" ({len(samples)})" if samples else "–"


def _names(rows: list[Row]) -> str:
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return "; ".join(row.name for row in rows[:NAMED]) + more
