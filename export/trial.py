"""A graph that was judged by the gate: what was kept in float, and what was wrong with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx

from sennet_engine.card import Precision

MOST_NAMED = 3
# What is wrong with a graph, None where nothing is.
Judge = Callable[[onnx.ModelProto], str | None]


@dataclass(frozen=True)
class Trial:
    """The nodes kept in float beyond those that always are, and the graph's fault, None where it passed."""

    kept: tuple[str, ...]
    fault: str | None

    @property
    def kept_as_text(self) -> str:
        """The first of the nodes, and how many there are."""
        if not self.kept:
            return "nothing more"
        further = len(self.kept) - MOST_NAMED
        return ", ".join(self.kept[:MOST_NAMED]) + (f" and {further} more" if further > 0 else "")


def refusal(precision: Precision, trials: Sequence[Trial]) -> str:
    """What to say where no graph of `precision` passed."""
    lines = "\n".join(f"  {trial.kept_as_text} in float: {trial.fault}" for trial in trials)
    return (
        f"{precision}: no graph passed, {len(trials)} were tried; allow more loss by --gate, or leave out --{precision}"
        f"\n{lines}"
    )
