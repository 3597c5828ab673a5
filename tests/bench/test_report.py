"""`sennet-bench report`: one page that stands by itself, and Markdown tables of the same cells."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from sennet_bench.circumstances import Circumstances
from sennet_bench.compare.measurement import Comparison, Entry, Sample
from sennet_bench.measurements import KINDS, write_measurement
from sennet_bench.outside.memory import MemoryMeasurement
from sennet_bench.outside.throughput import Throughput
from sennet_bench.report.sections import columns_of
from sennet_bench.report.table import Table

THERE = Circumstances(
    date="2026-01-02", commit="0000000", processor="A processor", processors=2, load=0.1,
    versions={"python": "3.11.7", "sennet": "0.1.0"}, matrix_gflops=[100.0, 90.0], others_share=0.0,
)  # fmt: skip
VOID = {"meta", "br", "link"}


def entry(name, *seconds, dice=0.9):
    """A contestant with these seconds."""
    samples = [Sample(number, one, 0.1, {}, {}, one, 100.0, "0") for number, one in enumerate(seconds)]
    return Entry(name, f"{name}, in full", None if samples else "it <failed>", samples, surface_dice_0=dice, dice=dice)


MEASURED = {
    "compare": Comparison(
        "v.tif", (4, 8, 8), "uint8", "builtin", 0.5, 2, 3,
        [entry("sennet", 1.0, 1.1, 1.2), entry("monai-0.5", 0.5, 0.6, 0.7, dice=0.95), entry("nnunet")], THERE,
    ),
    "throughput": Throughput((4, 1024, 8), 2, [1.0, 1.5, 1.25], {"read": 0.1}, {"plan": 0.1}, THERE),
    "memory": MemoryMeasurement(64, [4, 8], [100.0, 101.0], 1.01, 2, THERE),
}  # fmt: skip


class Page(HTMLParser):
    """What a browser would find; every element has to be closed."""

    def __init__(self, html):
        super().__init__()
        self.html, self.tags, self.links, self.ids, self.charts, self.regions = html, [], [], [], [], []
        self._open, self._pieces = [], []
        self.feed(html)
        assert self._open == []
        self.text = " ".join(" ".join(self._pieces).split())

    def handle_starttag(self, tag, attrs):
        facts = dict(attrs)
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href", "xlink:href", "srcset", "action")]
        self.ids += [facts["id"]] if "id" in facts else []
        self.charts += [facts["aria-label"]] if tag == "svg" and facts.get("role") == "img" else []
        self.regions += [facts["tabindex"]] if facts.get("role") == "region" else []
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self._pieces.append(data)


@pytest.fixture
def paged(command, tmp_path):
    """Write the measurements to files, report on them, and read the page."""

    def make(**measured):
        for name, one in measured.items():
            write_measurement(tmp_path / f"{name}.json", one)
        files = [tmp_path / f"{name}.json" for name in measured]
        ran = command("sennet-bench", "report", *files, "--out", tmp_path / "p.html", "--overwrite")
        assert ran.code == 0, ran.err
        return Page((tmp_path / "p.html").read_text(encoding="utf-8"))

    return make


def test_page_needs_nothing_else(paged):
    """No script, no other file and no address; all links lead to a place in the page, and every name is there once."""
    page = paged(**MEASURED)
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"https?://(?!www\.w3\.org/)|@import|url\((?!#)", page.html)
    assert {"1-compare", "2-throughput", "3-memory"} <= set(page.ids)


def test_sections_hold_tables_charts_notes_and_samples(paged):
    """All cells and notes of the table, a chart for each of the kind with words, and every sample."""
    page = paged(**MEASURED)
    for name, measured in MEASURED.items():
        kind = KINDS[name]
        table = kind.table(measured)
        told = [*table.heads, *(cell for row in table.rows for cell in row), *table.notes[:-1], kind.title]
        assert all(" ".join(one.split()) in page.text for one in told), name
        assert f"{name}.json" in page.text
        assert all(f"{sample:.6g}" in page.text for figure in kind.figures(measured) for sample in figure.samples)
    charts = sum(len(KINDS[name].charts(measured)) for name, measured in MEASURED.items())
    assert len(page.charts) == charts >= 3
    assert all(page.charts)
    assert page.text.count("A processor, 2 processors, 100 and 90 GFLOP/s") == len(MEASURED)
    assert set(page.regions) == {"0"}
    assert "shape zyx 4 × 1024 × 8" in page.text


def test_page_says_where_others_win(paged, monkeypatch):
    """A peer that is faster and better stands at the top, before the first section; so do losses of other kinds."""
    html = paged(**MEASURED).html
    top = html[html.index('id="others"') : html.index('id="1-compare"')]
    assert "monai-0.5, in full" in top
    assert "Faster than" in top
    assert "Dice" in top
    ahead = replace(MEASURED["compare"], entries=[entry("sennet", 1.0, 1.1), entry("monai-0.5", 9.0, 9.1, dice=0.8)])
    assert "In none of the comparisons on this page." in paged(one=ahead).text
    assert "No comparison with others is on this page." in paged(memory=MEASURED["memory"]).text
    monkeypatch.setitem(KINDS, "memory", replace(KINDS["memory"], losses=lambda _: ["A loop needs less."]))
    html = paged(memory=MEASURED["memory"]).html
    assert "A loop needs less." in html[html.index('id="others"') : html.index('id="1-memory"')]


def test_what_makes_files_hard_to_compare_is_told(paged):
    """Other machines, other commits, changed files and busy processors; nothing where there is none of it."""
    assert "Warning." not in paged(**MEASURED).text
    other = replace(THERE, processor="Another", commit="1111111+", others_share=0.4)
    page = paged(one=MEASURED["throughput"], two=replace(MEASURED["memory"], circumstances=other))
    assert "come from 2 different machines: A processor, 2 processors; Another, 2 processors." in page.text
    assert "come from 2 different commits: 0000000, 1111111+." in page.text
    assert "does not give these figures again: two.json." in page.text
    assert "meanwhile: two.json 40%." in page.text


def test_names_are_text_and_not_markup(paged):
    """What stands in a file cannot become a part of the page."""
    page = paged(one=replace(MEASURED["compare"], volume="<script>alert(1)</script>"))
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text
    assert "it <failed>" in page.text


def test_kinds_without_figures_and_charts_have_a_section(paged, monkeypatch):
    """The table alone is enough."""
    kind = KINDS["throughput"]
    monkeypatch.setitem(KINDS, "throughput", replace(kind, figures=lambda _: [], charts=lambda _: []))
    page = paged(one=MEASURED["throughput"])
    assert kind.title in page.text
    assert "All samples" not in page.text
    assert page.charts == []


def test_equal_measurements_give_equal_pages(paged):
    """The page depends on the files alone."""
    assert paged(**MEASURED).html == paged(**MEASURED).html


def test_warnings_of_a_measurement_are_marked(paged, monkeypatch):
    """A note that warns stands above the table as a warning, others below it as notes."""
    kind = KINDS["memory"]
    notes = ("All is well.", "Warning: the spread is wide.", str(THERE))
    monkeypatch.setitem(KINDS, "memory", replace(kind, table=lambda _: Table(("a",), (("1",),), notes)))
    html = paged(one=MEASURED["memory"]).html
    assert '<p class="warning">Warning: the spread is wide.</p>' in html
    assert "<p>All is well.</p>" in html
    assert str(THERE) not in html


def test_markdown_holds_all_tables(command, tmp_path):
    """With a heading each; a file is replaced on request only, and a file that is no measurement is an error."""
    for name, measured in MEASURED.items():
        write_measurement(tmp_path / f"{name}.json", measured)
    files = [tmp_path / f"{name}.json" for name in MEASURED]
    written = ["--out", tmp_path / "p.html", "--markdown", tmp_path / "t.md"]
    assert command("sennet-bench", "report", *files, *written).code == 0
    text = (tmp_path / "t.md").read_text()
    for name, measured in MEASURED.items():
        assert f"## {KINDS[name].title}: {name}.json\n\n{KINDS[name].table(measured).markdown()}" in text
    (tmp_path / "p.html").write_text("mine")
    again = command("sennet-bench", "report", *files, *written)
    assert again.code == 2
    assert "p.html: exists; --overwrite replaces it" in again.err
    assert (tmp_path / "p.html").read_text() == "mine"
    assert command("sennet-bench", "report", *files, *written, "--overwrite").code == 0
    assert (tmp_path / "p.html").read_text().startswith("<!DOCTYPE html>")
    (tmp_path / "bad.json").write_text('{"kind": "unknown"}')
    for wrong in (tmp_path / "bad.json", tmp_path / "gone.json"):
        ran = command("sennet-bench", "report", wrong, "--out", tmp_path / "other.html")
        assert ran.code == 2
        assert f"{wrong.name}: is no measurement" in ran.err
    same = command("sennet-bench", "report", *files, "--out", tmp_path / "x", "--markdown", tmp_path / "x")
    assert same.code == 2
    assert not (tmp_path / "other.html").exists()
    assert command("sennet-bench", "report", *files, "--out", tmp_path).code == 2


def test_columns_of_numbers_are_found():
    """Numbers with ranges, units and signs are numbers; names, hashes and the first column are none."""
    rows = (("1", "1.2 (1.1 to 1.3)", "5a1dd56c", "12%", "-0.01", "8 / 8", "yes"), ("2", "–", "60b1dd56", "", "failed"))
    columns = columns_of(Table(("a", "b", "c", "d", "e", "f", "g"), rows))
    assert [column.numeric for column in columns] == [False, True, False, True, False, True, False]


def test_cells_cannot_break_a_table():
    """A bar or a line's end within a cell does not end the cell or the row in Markdown."""
    table = Table(("a", "b"), (("x|y", "1\n2"),))
    assert table.markdown().splitlines()[-1] == "| x\\|y | 1 2 |"
