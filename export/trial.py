"""A graph that was judged by the gate: what was kept in float, and what was wrong with it."""

from dataclasses import dataclass

MOST_NAMED = 3


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
