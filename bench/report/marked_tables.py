"""Tables within a Markdown document that names the files of measurements from which they are made."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sennet_bench.measurements import table_from_file
from sennet_engine.errors import ConfigError

OPENING = re.compile(r"<!-- table (?P<name>\S+?)(?: (?P<word>\S+))? -->")
# What begins like this is meant as a mark.
MARK = re.compile(r"<!--\s*/?\s*table\b")
CLOSING = "<!-- /table -->"
SHORT = "short"


@dataclass(frozen=True)
class Marked:
    """A place in a document for a table.

    Attributes:
        line: where it opens, from 1.
        name: of the file, relative to the document.
        short: whether the kind's short table is wanted.
        shown: what stands there.
    """

    line: int
    name: str
    short: bool
    shown: str


def document_with_tables(document: Path) -> str:
    """The text of a Markdown document with its marked tables made anew from the files that they name.

    A table stands between the lines `<!-- table NAME.json -->` and `<!-- /table -->`; with `<!-- table NAME.json short
    -->` it is one of few columns, where its kind has such a one.

    Raises:
        ConfigError: the document or one of the files cannot be read, or a mark is broken.
    """
    lines = _lines(document)
    # From the end, so that the places of those before stay as they are.
    for marked in reversed(list(_marked(document, lines))):
        end = lines.index(CLOSING, marked.line)
        lines[marked.line : end] = ["", *_table(document, marked).splitlines(), ""]
    return "\n".join(lines)


def marked_tables(document: Path) -> list[Marked]:
    """The places of a document, in order. Raises ConfigError as `document_with_tables` does, but reads no files."""
    return list(_marked(document, _lines(document)))


def _lines(document: Path) -> list[str]:
    try:
        return document.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{document}: cannot be read ({error})") from error


def _marked(document: Path, lines: list[str]) -> Iterator[Marked]:
    opened: re.Match[str] | None = None
    opened_line = 0
    for number, line in enumerate(lines, 1):
        if not MARK.match(line):
            continue
        opening = OPENING.fullmatch(line)
        if opening and opening["word"] in (None, SHORT) and not opened:
            opened, opened_line = opening, number
        elif opened and line == CLOSING:
            shown = "\n".join(lines[opened_line : number - 1]).strip()
            yield Marked(opened_line, opened["name"], opened["word"] == SHORT, shown)
            opened = None
        else:
            expected = f"{CLOSING} for line {opened_line}" if opened else "<!-- table NAME.json --> or with ` short`"
            raise ConfigError(f"{document}, line {number}: got {line}, expected {expected}; mend the mark")
    if opened:
        raise ConfigError(f"{document}, line {opened_line}: {opened[0]} is not closed; put a line {CLOSING} below it")


def _table(document: Path, marked: Marked) -> str:
    try:
        return table_from_file(document.parent / marked.name, short=marked.short)
    except ConfigError as error:
        raise ConfigError(f"{document}, line {marked.line}: {error}") from error
