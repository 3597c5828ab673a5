"""Charts of matplotlib as SVG that stands inside a page and takes its colours from there, for light and dark."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure

# How many colours the page has for curves.
COLOURS = 8

# Colours that stand for variables of the page, which is put in their place.
INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#050505"
STAND_INS = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--line)", PAPER: "var(--paper)"} | {
    f"#0400{index:02x}": f"var(--curve-{index})" for index in range(COLOURS)
}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "lines.linewidth": 1.6,
    "lines.markersize": 3.5,
}


def curve_colour(index: int) -> str:
    """What stands for the page's colour for curves with this index, 0 to COLOURS - 1."""
    return f"#0400{index:02x}"


@contextmanager
def page_style(key: str) -> Iterator[None]:
    """What is drawn and made to SVG within has the page's style. `key` differs between the charts of a page."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": key}):
        yield


def svg_from_figure(figure: Figure, *, alt: str) -> Markup:
    """The figure as an SVG element of a page; `alt` is the same in words, for those who do not see it."""
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(text.getvalue(), alt=alt)


def _inline(document: str, *, alt: str) -> Markup:
    element = document[document.index("<svg") :]
    head, body = element.split(">", 1)
    view_box = re.search(r'viewBox="[^"]*"', head)
    assert view_box is not None
    # Names of groups are the same in all charts; nothing refers to them.
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    # A style in an SVG element would hold for the whole page, whose own style says the same of charts alone.
    body = re.sub(r"<(metadata|style)\b.*?</\1>", "", body, flags=re.DOTALL)
    for stand_in, variable in STAND_INS.items():
        body = body.replace(stand_in, variable)
    return Markup(f'<svg {view_box[0]} role="img" aria-label="{escape(alt)}">{body}')
