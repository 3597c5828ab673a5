"""Charts of measurements: drawn with the page's colours, with every sample in them, and told in words."""

import re

import pytest

from sennet_bench.report.chart import Bars, Distribution, Lines, Parts
from sennet_bench.report.drawing import drawn_from_chart
from sennet_bench.report.drawing_bars import REST
from sennet_bench.report.words import measured, number, words_of_chart

BARS = Bars("Seconds", "s", (("ours", (1.0, 1.5, 1.25)), ("theirs", (12345.0, 12340.0))), frozenset({"ours"}))
PARTS = Parts("Stages", "s", (("run", {"read": 0.25, "compute": 1.5}), ("other", {"compute": 1.0, "write": 0.5})))
LINES = Lines("Memory", "planes", "MB", (("a", ((1.0, (5.0, 6.0, 9.0)), (10.0, (7.0,)))), ("b", ((1.0, (2.0,)),))))
CURVES = Distribution("Latency", "ms", (("a", tuple(float(one) for one in range(1, 11))), ("b", (3.0,))))
ALL = [BARS, PARTS, LINES, CURVES]


def drawn(chart, key="k"):
    """The chart as SVG."""
    return str(drawn_from_chart(chart, key=key).svg)


@pytest.mark.parametrize("chart", ALL, ids=lambda chart: type(chart).__name__)
def test_charts_take_the_colours_of_the_page(chart):
    """No colour but the page's is in them, and equal charts give equal bytes."""
    svg = drawn(chart)
    assert "var(--curve-" in svg
    assert not re.search(r"#[0-9a-f]{6}\b", re.sub(r'href="#[^"]*"|url\(#[^)]*\)', "", svg))
    assert svg == drawn(chart)


@pytest.mark.parametrize("chart", ALL, ids=lambda chart: type(chart).__name__)
def test_charts_say_in_words_what_they_show(chart):
    """The words stand in the element, and a chart beside another has names of its own."""
    assert f'aria-label="{words_of_chart(chart)}"' in drawn(chart)
    own, other = (set(re.findall(r'id="([^"]+)"', drawn(chart, key))) for key in ("one", "two"))
    assert not own & other


def test_words_hold_the_figures():
    """Medians, ranges, parts, and how samples are distributed."""
    assert words_of_chart(BARS) == (
        "Seconds. ours: median 1.25 s of 3 samples from 1 to 1.5. theirs: median 12\u202f342 s of 2 samples from "
        "12\u202f340 to 12\u202f345."
    )
    assert "run: read 0.25, compute 1.5, in s." in words_of_chart(PARTS)
    assert "a, over planes: 6 at 1, 7 at 10, in MB." in words_of_chart(LINES)
    assert "a: of 10 samples half are at most 5.5, nine of ten at most 9 and all at most 10, in ms." in words_of_chart(
        CURVES
    )
    assert [number(one) for one in (0.0, 0.00001234, 0.5, 12.34, 999.9, -1234.5)] == [
        "0", "0.000012", "0.5", "12.3", "1\u202f000", "-1\u202f234",
    ]  # fmt: skip
    assert [measured(one) for one in (1.0, 17.0, 631.0, 0.0123)] == ["1.00", "17.0", "631", "0.0123"]


def test_every_sample_is_a_point():
    """As many markers as samples, on bars and beside lines, few or many."""
    assert drawn(BARS).count("<use ") == 5
    many = Bars("Many", "s", (("one", tuple(1 + index / 100 for index in range(200))),))
    assert drawn(many).count("<use ") == 200
    assert drawn(LINES).count("<use ") == 5


def test_bars_are_as_long_as_their_medians():
    """The first bar is 1.25 of 2.5 wide: half as long as the second."""
    svg = drawn(Bars("Seconds", "s", (("one", (1.0, 1.25, 2.0)), ("two", (2.5,)))))
    widths = [
        max(xs) - min(xs)
        for path in re.findall(r'<path d="([^"]+z[^"]*)"[^>]*style="fill: var\(--curve-0\)', svg)
        if (xs := [float(x) for x in re.findall(r"[ML] ([\d.]+)", path)])
    ]
    assert len(widths) == 2
    assert widths[1] == pytest.approx(2 * widths[0], rel=1e-3)


def test_names_are_written_in_full():
    """However long a name is, all its words are in the chart, and the value is beside it."""
    name = (
        "MONAI SlidingWindowInferer, overlap 0.25, compiled in the mode max-autotune, in channels last, with a prefetch"
    )
    svg = drawn(Bars("Seconds", "s", ((name, (2.0,)), ("a <failed> one", ()))))
    text = re.sub(r"<[^>]+>", " ", svg)
    assert all(word in text.split() for word in name.split())
    assert "2.00" in text.split()
    assert "a &lt;failed&gt; one" in text


def test_parts_beyond_the_colours_stand_together():
    """The seven largest keep their colours, all else is one part; nothing is lost of the length."""
    parts = {f"part {index}": 1.0 + index for index in range(12)}
    chart = drawn_from_chart(Parts("Stages", "s", (("run", parts),)), key="k")
    assert [entry.label for entry in chart.legend] == [*(f"part {index}" for index in range(5, 12)), REST]
    assert len({entry.colour for entry in chart.legend}) == 8
    assert [entry.label for entry in drawn_from_chart(PARTS, key="k").legend] == ["read", "compute", "write"]


def test_lines_beyond_the_colours_are_dashed():
    """So that no two of sixteen look the same; logarithmic axes have plain numbers."""
    points = ((1.0, (2.0,)), (1000.0, (30.0,)), (1010.0, (31.0,)))
    chart = Lines("Cost", "planes", "s", tuple((f"line {index}", points) for index in range(10)), logarithmic=True)
    legend = drawn_from_chart(chart, key="k").legend
    assert len({(entry.colour, entry.dashed) for entry in legend}) == 10
    text = re.sub(r"<[^>]+>", " ", drawn(chart))
    assert "1\u202f000" in text
    assert "1\u202f010" not in text  # its label would lie on the one before


@pytest.mark.parametrize(
    "chart",
    [Bars("b", "s", (("x", ()),)), Bars("b", "s", ()), Bars("b", "s", (("x", (0.0,)),)),
     Bars("b", "", (("x", (-1.0,)),)), Parts("p", "s", (("x", {}),)),
     Lines("l", "x", "s", (("x", ()),), logarithmic=True),
     Lines("l", "x", "s", (("x", ((4.0, (4.0,)),)),), logarithmic=True), Distribution("d", "s", (("x", ()),)),
     Distribution("d", "s", (("x", (1.0, 900.0)),))],
)  # fmt: skip
def test_charts_of_little_are_drawn(chart):
    """Nothing, one sample, zeros and negative values make a chart and no warning."""
    assert drawn(chart).startswith("<svg")
