"""Where others are faster or better than the engine, told from the samples alone."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from sennet_bench.compare.measurement import Comparison, Entry
from sennet_bench.compare.ratios import peaks_mb, ratios, spread
from sennet_bench.peers.table import ENGINE, ENGINE_INT8

# Scores nearer to each other are taken as equal.
SCORE_MARGIN = 0.0005
# With fewer rounds nothing is known of how they scatter.
CLEAR_ROUNDS = 2


@dataclass(frozen=True)
class _Lead:
    """Of one tool in one thing; clear where the rounds of the two do not overlap."""

    title: str
    figure: str
    clear: bool = True


def where_others_win(comparison: Comparison) -> list[str]:
    """Sentences, one for each thing in which other tools are ahead of the engine in float32, as theirs compute in it.

    A lead is clear where the rounds do not overlap: in time, which drifts with the machine, where the other was faster
    in each round; in memory and loading where its worst round is better than the engine's best. Else they are about
    equal. Empty where no other tool is ahead in anything.
    """
    engine = next((entry for entry in comparison.entries if entry.name == ENGINE and entry.samples), None)
    if not engine:
        return []
    others = other_tools(comparison)
    loading = {entry.name: [one.load_seconds for one in entry.samples] for entry in (engine, *others)}
    memory = {entry.name: peaks_mb(entry) for entry in (engine, *others)}
    surface = {entry.name: entry.surface_dice_0 for entry in (engine, *others)}
    dice = {entry.name: entry.dice for entry in (engine, *others)}
    own_loading = f"{engine.title} with {spread(loading[ENGINE], 2, unit=' s')}"
    own_memory = f"{engine.title} with {spread(memory[ENGINE], 0, unit=' MB')}"
    name = engine.title
    return [
        *_sentences(f"Faster than {name}", f"About as fast as {name}, or faster", _faster(comparison, others)),
        *_sentences(f"Less peak memory than {own_memory}", f"About as little peak memory as {own_memory}, or less",
                    _less(others, memory, digits=0, unit=" MB")),
        *_sentences(f"Loaded sooner than {own_loading}", f"Loaded about as soon as {own_loading}, or sooner",
                    _less(others, loading, digits=2, unit=" s")),
        *_sentences(f"Higher surface Dice than {name} with {surface[ENGINE] or 0:.4f}", "", _higher(others, surface)),
        *_sentences(f"Higher Dice than {name} with {dice[ENGINE] or 0:.4f}", "", _higher(others, dice)),
    ]  # fmt: skip


def other_tools(comparison: Comparison) -> list[Entry]:
    """Those that are not the engine and made a mask."""
    return [entry for entry in comparison.entries if entry.name not in (ENGINE, ENGINE_INT8) and entry.samples]


def _sentences(clear: str, unclear: str, leads: Sequence[_Lead]) -> list[str]:
    told = []
    for words, kind in ((clear, True), (unclear, False)):
        if named := [f"{lead.title} {lead.figure}" for lead in leads if lead.clear is kind]:
            told.append(f"{words}: {'; '.join(named)}.")
    return told


def _faster(comparison: Comparison, others: Sequence[Entry]) -> list[_Lead]:
    return [
        _Lead(other.title, f"{spread(found, 2)} times as long", clear=len(found) >= CLEAR_ROUNDS and max(found) < 1)
        for other in others
        if (found := ratios(comparison, other.name, ENGINE)) and statistics.median(found) < 1
    ]


def _less(others: Sequence[Entry], values: dict[str, list[float]], *, digits: int, unit: str) -> list[_Lead]:
    if not (own := values[ENGINE]):
        return []
    return [
        _Lead(other.title, spread(found, digits, unit=unit),
              clear=min(len(own), len(found)) >= CLEAR_ROUNDS and max(found) < min(own))
        for other in others
        if (found := values[other.name]) and statistics.median(found) < statistics.median(own)
    ]  # fmt: skip


def _higher(others: Sequence[Entry], values: dict[str, float | None]) -> list[_Lead]:
    if (own := values[ENGINE]) is None:
        return []
    return [
        _Lead(other.title, f"{found:.4f}")
        for other in others
        if (found := values[other.name]) is not None and found > own + SCORE_MARGIN
    ]
