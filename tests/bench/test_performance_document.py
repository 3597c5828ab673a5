"""docs/performance.md shows what its JSON files hold, and its commands are those that there are."""

import re
from pathlib import Path

from sennet_bench.measurements import MARKED, table_from_file

DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")


def test_the_tables_are_those_of_the_measurements():
    """A marked table is what its file gives; where there is no such file yet, there is no table either."""
    marked = list(MARKED.finditer(TEXT))
    assert len(marked) >= 8
    for found in marked:
        path = DOCUMENT.parent / found[2]
        shown = found[0].removeprefix(found[1]).removesuffix(found[3]).strip()
        assert shown == (table_from_file(path).strip() if path.exists() else ""), found[2]


def test_no_measurement_is_left_out():
    """Every file in docs/performance/ has its table."""
    named = {Path(found[2]).name for found in MARKED.finditer(TEXT)}
    assert {path.name for path in (DOCUMENT.parent / "performance").glob("*.json")} <= named


def test_its_commands_take_their_options(command):
    """Commands and options in the indented lines are those of `sennet-bench`, and write the files that are shown."""
    lines = re.sub(r"\\\n\s*", "", TEXT).splitlines()
    used = [line.split() for line in lines if line.startswith("    sennet-bench ")]
    assert len(used) >= 8
    for _, name, *words in used:
        told = command("sennet-bench", name, "--help")
        assert told.code == 0, name
        for option in (word for word in words if word.startswith("--")):
            assert option in told.out, (name, option)
    written = {Path(words[words.index("--json") + 1]).name for words in used if "--json" in words}
    named = {Path(found[2]).name for found in MARKED.finditer(TEXT)}
    assert named == written
