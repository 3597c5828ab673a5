"""A table as data, so that a Markdown document and a page show the same cells."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Cells as text.

    Attributes:
        heads: of the columns; the first column names the rows.
        rows: of at most as many cells; those that lack are empty.
        notes: what stands below, a line each: what was measured, how, and under which circumstances.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """The table in Markdown, with its notes below."""
        width = len(self.heads)
        lines = [self.heads, ("---",) * width, *(row + ("",) * (width - len(row)) for row in self.rows)]
        separator = lines[1]
        text = ["|" + "".join(f"{cell}|" if line is separator else _cell(cell) for cell in line) for line in lines]
        return "\n".join([*text, "", *self.notes] if self.notes else text)


def _cell(text: str) -> str:
    # A bar would end the cell, and a line's end the row.
    plain = " ".join(text.split("\n")).replace("|", "\\|")
    return f" {plain} |" if plain else " |"
