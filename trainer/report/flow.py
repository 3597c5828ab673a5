"""The flow of the stages as a diagram: a box a stage, in rows, and a line wherever one uses what another made."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sennet_trainer.report.source import ReportedStage, State

BOX_HEIGHT, ROW_GAP, BOX_GAP, MARGIN = 62.0, 46.0, 22.0, 8.0
# The width of a character as browsers draw it at 13 and 11 px, with room for wide fonts.
CHARACTER, SMALL_CHARACTER, PADDING = 7.8, 6.2, 28.0
SMALLEST_BOX, LARGEST_BOX = 128.0, 240.0
# A line that passes a row takes this much of it.
LANE = 10.0
# Where lines arrive, right of the middle of a box: those of networks and those of labels apart.
PORTS = {"network": -9.0, "labels": 9.0}
# Stages of which nothing is known yet stand below the others, at most this many in a row.
UNKNOWN_IN_A_ROW = 4
SWEEPS = 8

# A place in a row: (stage, None) is its box, (stage, row) is where lines from that stage pass the row.
Place = tuple[str, int | None]


@dataclass(frozen=True)
class Box:
    """A stage in the diagram; `x` and `y` are its upper left corner, in pixels."""

    stage: ReportedStage
    detail: str
    source: str
    x: float
    y: float
    width: float
    height: float = BOX_HEIGHT


@dataclass(frozen=True)
class Line:
    """An SVG path from one stage to the next row; `what` is used; `arrives` where it ends at a box."""

    path: str
    what: str
    arrives: bool


@dataclass(frozen=True)
class Flow:
    """The whole diagram, in pixels."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]


def flow_from_stages(stages: Sequence[ReportedStage], details: Mapping[str, str]) -> Flow:
    """Lay out `stages`, which come after all that they use; `details` has a short line for each.

    Rows follow the longest way to a stage; lines that pass a row go between its boxes, and those from one stage share
    a lane. Within the rows, places are put in the order of the mean position of what they are joined to (Sugiyama,
    Tagawa and Toda 1981).
    """
    used = _used(stages)
    row_of = _rows(stages, used)
    rows, links = _places(stages, used, row_of)
    _untangle(rows, links)
    by_name = {stage.name: stage for stage in stages}
    texts = {name: (details.get(name, ""), _source_text(by_name[name], by_name)) for name in by_name}
    widths = {name: _box_width(name, texts[name]) for name in by_name}
    centres, width = _centres(rows, widths)
    boxes = [
        Box(
            by_name[name], *texts[name], x=centres[name, None] - widths[name] / 2, y=_top(row), width=widths[name]
        )
        for name, row in row_of.items()
    ]  # fmt: skip
    place_rows = {place: row for row, places in enumerate(rows) for place in places}
    lines = [_line(start, end, centres, place_rows, used) for start, end in links]
    lines += [_lane(place, centres, place_rows, used) for places in rows for place in places if place[1] is not None]
    return Flow(width, _top(len(rows)) - ROW_GAP + MARGIN, tuple(boxes), tuple(lines))


def _used(stages: Sequence[ReportedStage]) -> dict[str, dict[str, str]]:
    """For each stage the earlier stages that it uses, with what."""
    found: dict[str, dict[str, str]] = {}
    known: set[str] = set()
    for stage in stages:
        found[stage.name] = {use.name: use.what for use in stage.uses if use.name in known and use.what != "images"}
        known |= set() if stage.state is State.NOT_RUN else {stage.name}
    return found


def _rows(stages: Sequence[ReportedStage], used: Mapping[str, Mapping[str, str]]) -> dict[str, int]:
    row_of: dict[str, int] = {}
    row = 0
    for stage in (stage for stage in stages if stage.state is not State.NOT_RUN):
        if stage.record is not None:  # else it is damaged, and stands beside the one before it
            row = max((row_of[name] + 1 for name in used[stage.name]), default=0)
        row_of[stage.name] = row
    first = max(row_of.values(), default=-1) + 1
    unknown = [stage.name for stage in stages if stage.state is State.NOT_RUN]
    return row_of | {name: first + index // UNKNOWN_IN_A_ROW for index, name in enumerate(unknown)}


def _places(
    stages: Sequence[ReportedStage], used: Mapping[str, Mapping[str, str]], row_of: Mapping[str, int]
) -> tuple[list[list[Place]], list[tuple[Place, Place]]]:
    """The places of each row, and the pairs of places in neighbouring rows that a line joins."""
    rows: list[list[Place]] = [[] for _ in range(max(row_of.values(), default=-1) + 1)]
    for stage in stages:
        rows[row_of[stage.name]].append((stage.name, None))
    links: list[tuple[Place, Place]] = []
    for name, sources in used.items():
        for source in sources:
            last: Place = (source, None)
            for row in range(row_of[source] + 1, row_of[name]):
                lane: Place = (source, row)
                if lane not in rows[row]:
                    rows[row].append(lane)
                    links.append((last, lane))
                last = lane
            links.append((last, (name, None)))
    return rows, links


def _untangle(rows: list[list[Place]], links: Sequence[tuple[Place, Place]]) -> None:
    above, below = defaultdict(list), defaultdict(list)
    for start, end in links:
        above[end].append(start)
        below[start].append(end)
    for sweep in range(SWEEPS):
        joined = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            position = {
                place: (index + 0.5) / len(places) for places in rows for index, place in enumerate(places)
            }  # fmt: skip
            mean = {
                place: sum(position[other] for other in joined[place]) / len(joined[place])
                if joined[place]
                else position[place]
                for place in row
            }
            row.sort(key=mean.__getitem__)


def _centres(rows: Sequence[Sequence[Place]], widths: Mapping[str, float]) -> tuple[dict[Place, float], float]:
    """The middle of every place, each row being centred, and the width of all."""
    extents = [[LANE if lane is not None else widths[name] for name, lane in row] for row in rows]
    totals = [sum(row) + BOX_GAP * (len(row) - 1) for row in extents]
    width = max(totals, default=0.0) + 2 * MARGIN
    centres: dict[Place, float] = {}
    for row, extent, total in zip(rows, extents, totals, strict=True):
        x = (width - total) / 2
        for place, own in zip(row, extent, strict=True):
            centres[place] = x + own / 2
            x += own + BOX_GAP
    return centres, width


def _line(
    start: Place, end: Place, centres: Mapping[Place, float], rows: Mapping[Place, int],
    used: Mapping[str, Mapping[str, str]],
) -> Line:  # fmt: skip
    what, arrives = _what(start[0], used), end[1] is None
    x0, y0 = centres[start], _top(rows[start]) + BOX_HEIGHT
    x1, y1 = centres[end] + (PORTS.get(what, 0.0) if arrives else 0.0), _top(rows[end])
    middle = (y0 + y1) / 2
    path = f"M{x0:.1f} {y0:.1f}C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}"
    return Line(path, what, arrives)


def _lane(
    place: Place, centres: Mapping[Place, float], rows: Mapping[Place, int], used: Mapping[str, Mapping[str, str]]
) -> Line:
    top = _top(rows[place])
    path = f"M{centres[place]:.1f} {top:.1f}V{top + BOX_HEIGHT:.1f}"
    return Line(path, _what(place[0], used), arrives=False)


def _what(source: str, used: Mapping[str, Mapping[str, str]]) -> str:
    """What others use of the stage `source`: it makes one kind of thing."""
    return next(sources[source] for sources in used.values() if source in sources)


def _top(row: int) -> float:
    return MARGIN + row * (BOX_HEIGHT + ROW_GAP)


def _source_text(stage: ReportedStage, stages: Mapping[str, ReportedStage]) -> str:
    """The volumes that come from outside."""
    names = [use.name for use in stage.uses if use.what == "images" and use.role != "validation"]
    return ", ".join(dict.fromkeys(name for name in names if name not in stages))


def _box_width(name: str, texts: Sequence[str]) -> float:
    longest = max(len(name) * CHARACTER, *(len(text) * SMALL_CHARACTER for text in texts))
    return min(max(SMALLEST_BOX, longest + PADDING), LARGEST_BOX)
