"""The table of an export: every file with its size, its precision, what it cost and how equal it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from sennet_engine.card import ModelFile, Parity, Precision

COLUMNS = (
    "file", "MB", "precision", "seconds", "largest", "mean", "logits", "flipped", "surface Dice", "verdict",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One file. `seconds` is the time that it took to make; absent for files that were there before."""

    name: str
    bytes: int
    precision: Precision
    seconds: float | None
    parity: Parity | None
    verdict: str

    @classmethod
    def of(cls, name: str, entry: ModelFile, *, verdict: str, seconds: float | None = None) -> Self:
        """The row of a file of the card."""
        return cls(name, entry.bytes, entry.precision, seconds, entry.parity, verdict)

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text, in the order of COLUMNS. Differences are in grey levels, and of the logits."""
        return (
            self.name,
            f"{self.bytes / 1e6:.1f}",
            self.precision,
            _text(self.seconds, ".1f"),
            *(_measured(self.parity) if self.parity else [""] * 5),
            self.verdict,
        )


def markdown_table(rows: Sequence[Row]) -> str:
    """The rows as a table that is read as it is and that Markdown renders."""
    lines = [COLUMNS, *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in (COLUMNS, rule, *(row.cells for row in rows))
    )


def _measured(parity: Parity) -> list[str]:
    return [
        str(parity.largest_difference),
        f"{parity.mean_difference:.4f}",
        _text(parity.largest_logit_difference, ".2g"),
        f"{parity.flipped_share:.1e}",
        _text(parity.surface_dice, ".4f"),
    ]


def _text(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
