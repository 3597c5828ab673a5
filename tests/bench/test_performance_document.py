"""README.md and docs/performance.md show what the JSON files hold, and their commands are those that there are."""

import re
from pathlib import Path

import pytest

from sennet_bench.measurements import table_from_file
from sennet_bench.report.marked_tables import document_with_tables, marked_tables

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "performance.md")
DOCUMENT = DOCUMENTS[1]
COMPARISON = ROOT / "docs" / "performance" / "phantom.json"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_tables_are_those_of_the_measurements(document):
    """A marked table is what its file gives; where there is no such file yet, there is no table either."""
    for marked in marked_tables(document):
        path = document.parent / marked.name
        expected = table_from_file(path, short=marked.short) if path.exists() else ""
        assert marked.shown == expected.strip(), marked


def test_no_measurement_is_left_out():
    """Every file in docs/performance/ has its table in docs/performance.md, which shows several."""
    named = {Path(marked.name).name for marked in marked_tables(DOCUMENT)}
    assert len(named) >= 8
    assert {path.name for path in (DOCUMENT.parent / "performance").glob("*.json")} <= named


def test_its_commands_take_their_options(command):
    """Commands and options in the indented lines are those of `sennet-bench`, and write the files that are shown."""
    lines = re.sub(r"\\\n\s*", "", DOCUMENT.read_text(encoding="utf-8")).splitlines()
    used = [line.split() for line in lines if line.startswith("    sennet-bench ")]
    assert len(used) >= 8
    for _, name, *words in used:
        told = command("sennet-bench", name, "--help")
        assert told.code == 0, name
        for option in (word for word in words if word.startswith("--")):
            assert option in told.out, (name, option)
    written = {
        Path(words[words.index("--json") + 1]).name for words in used if "--json" in words and "check" not in words
    }
    named = {Path(marked.name).name for marked in marked_tables(DOCUMENT)}
    assert named == written


def test_marked_tables_are_made_anew(command, tmp_path):
    """What stands between the marks is replaced, the rest stays byte for byte; a second time changes nothing."""
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "t.json").write_bytes(COMPARISON.read_bytes())
    document = tmp_path / "d.md"
    whole, short = (f"\n{table_from_file(COMPARISON, short=short)}\n\n" for short in (False, True))
    assert whole != short
    text = (
        "Before\n\n<!-- table figures/t.json -->\n{}<!-- /table -->\n  between  \n"
        "<!-- table figures/t.json short -->\n{}<!-- /table -->\n\nafter"
    )
    document.write_text(text.format("old\n", ""))
    ran = command("sennet-bench", "table", document)
    assert ran.code == 0, ran.err
    assert document.read_text() == text.format(whole, short) == document_with_tables(document)
    assert [(one.line, one.short) for one in marked_tables(document)] == [(3, False), (8 + whole.count("\n") - 2, True)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\n<!-- table t.json -->\nb\n", 2),
        ("a\n\n<!-- /table -->\n", 3),
        ("<!-- table t.json -->\n<!-- table t.json -->\n<!-- /table -->", 2),
        ("<!-- table t.json shrot -->\n<!-- /table -->", 1),
        ("<!-- table -->\n<!-- /table -->", 1),
        ("\n<!-- table gone.json -->\n<!-- /table -->", 2),
        ("\n\n\n<!-- table t.json -->\n<!-- /table ->", 5),
    ],
)
def test_broken_marks_are_refused(command, tmp_path, text, line):
    """An error names the line, and the document stays as it is."""
    (tmp_path / "t.json").write_bytes(COMPARISON.read_bytes())
    document = tmp_path / "d.md"
    document.write_text(text)
    ran = command("sennet-bench", "table", document)
    assert ran.code == 2
    assert f"d.md, line {line}:" in ran.err
    assert document.read_text() == text
