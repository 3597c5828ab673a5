"""The page stands by itself: pictures, charts and the diagram in it; it is written whole or not at all."""

import base64
import io
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from sennet_engine.errors import ModelError, OutputError
from sennet_trainer.commands.report import report
from sennet_trainer.report.flow import flow_from_stages
from sennet_trainer.report.page import write_report
from sennet_trainer.report.source import read_source

from .conftest import (
    STAGES,
    Page,
    page_of,
    write_fit,
    write_picture,
    write_pseudo_labels,
)


def test_pictures_are_in_the_page_with_words(run: Path) -> None:
    """A small picture is there byte for byte, and says in words what it shows."""
    pictures = {picture["alt"]: picture["src"] for picture in page_of(run).pictures}
    (source,) = (source for alt, source in pictures.items() if alt and "of stage labels" in alt)
    assert source is not None
    assert base64.b64decode(source.split(",")[1]) == (run / "stages" / "labels" / "labels.png").read_bytes()


def test_huge_picture_becomes_small(run: Path) -> None:
    """At most 1600 px wide with its proportions, so that the page stays small."""
    path = run / "stages" / "labels" / "labels.png"
    write_picture(path, width=4000, noise=True)
    page = page_of(run)
    (source,) = (one["src"] for one in page.pictures if "of stage labels" in (one["alt"] or ""))
    assert source is not None
    with Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) as picture:
        assert picture.size == (1600, 400)
    assert len(page.html) < path.stat().st_size / 4


def test_picture_stands_in_where_the_numbers_are_missing(tmp_path: Path) -> None:
    """The curve that the training drew is shown where metrics.csv cannot be read, and only there."""
    folder = tmp_path / "alone"
    write_fit(folder)
    assert page_of(folder).pictures == []
    (folder / "metrics.csv").write_text("epoch,loss\n1,nonsense\n")
    page = page_of(folder)
    assert [picture["alt"] for picture in page.pictures] == [
        "Training loss and validation scores over the epochs of stage alone"
    ]
    assert page.charts == []
    assert "metrics.csv is damaged" in page.text
    assert "No epoch is finished" not in page.text


def test_charts_take_the_colours_of_the_page(run: Path) -> None:
    """No colour that stands for one of the page is left, so charts are readable in light and in dark."""
    page = page_of(run)
    # Two that compare the trainings, two for each of two trainings, one for each of the three others.
    assert len(page.charts) == 9
    assert all(page.charts)
    assert "var(--curve-1)" in page.html
    assert not re.search(r"#0400|#0[123]0[123]0[123]", page.html)


def test_names_are_text_and_not_markup(run: Path) -> None:
    """What stands in a file cannot become a part of the page."""
    write_pseudo_labels(run / "stages" / "labels", volume="<script>alert(1)</script>")
    page = page_of(run)
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text


def test_equal_runs_give_equal_pages(run: Path, tmp_path: Path) -> None:
    """The page depends on the run alone."""
    one, other = (write_report(run, tmp_path / name).read_bytes() for name in ("one.html", "other.html"))
    assert one == other


def test_diagram_leads_from_what_is_made_to_what_uses_it(run: Path) -> None:
    """A line for each use, every stage below what it uses, and no two boxes on each other."""
    flow = flow_from_stages(read_source(run).stages, {})
    box = {one.stage.name: one for one in flow.boxes}
    assert list(box) == STAGES
    assert box["dense"].y < box["labels"].y < box["resumed"].y < box["after"].y < box["later"].y
    assert box["before"].y == box["labels"].y
    assert (box["dense"].source, box["resumed"].source, box["labels"].source) == (
        "dense_volume", "dense_volume", "sparse",
    )  # fmt: skip
    arrivals = sorted(line.what for line in flow.lines if line.arrives)
    assert arrivals == ["labels", *["network"] * 4]
    assert all(
        one.x >= 0 and one.x + one.width <= flow.width and one.y + one.height <= flow.height for one in flow.boxes
    )
    neighbours = sorted((one.y, one.x, one.width) for one in flow.boxes)
    assert all(
        x + width <= next_x for (y, x, width), (next_y, next_x, _) in itertools.pairwise(neighbours) if y == next_y
    )


def test_diagram_stands_a_damaged_stage(run: Path) -> None:
    """What a stage uses is above it even where nothing is known of what that was made from."""
    (run / "stages" / "resumed" / "stage.json").write_text("{")
    box = {one.stage.name: one for one in flow_from_stages(read_source(run).stages, {}).boxes}
    assert box["resumed"].y < box["after"].y


def test_page_that_is_there_is_replaced_on_request_only(run: Path) -> None:
    """Without --overwrite the page stays as it is, and the error says what to do."""
    path = run / "report.html"
    path.write_text("mine")
    with pytest.raises(OutputError, match="--overwrite"):
        write_report(run)
    assert path.read_text() == "mine"
    write_report(run, overwrite=True)
    assert path.read_text().startswith("<!DOCTYPE html>")


def test_folder_is_not_taken_for_a_page(run: Path, tmp_path: Path) -> None:
    """--out names a file, with and without --overwrite."""
    with pytest.raises(OutputError, match="is a folder"):
        write_report(run, tmp_path, overwrite=True)


def test_page_that_cannot_be_written_is_a_clear_error(run: Path) -> None:
    """A place below a file is no place."""
    with pytest.raises(OutputError, match="choose another --out"):
        write_report(run, run / "recipe.json" / "report.html")


@pytest.mark.parametrize("there", [True, False])
def test_unknown_folder_is_a_clear_error(tmp_path: Path, there: bool) -> None:
    """A folder that no command has written, or none at all, is refused, and nothing is left in it."""
    folder = tmp_path / "folder"
    if there:
        folder.mkdir()
        (folder / "notes.txt").write_text("notes")
    with pytest.raises(ModelError, match=r"holds none of recipe\.json, run\.json"):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_command_says_where_the_page_is(run: Path, tmp_path: Path) -> None:
    """--out takes the place of RUN/report.html."""
    app = typer.Typer()
    app.command()(report)
    result = CliRunner().invoke(app, [str(run), "--out", str(tmp_path / "shown" / "page.html")])
    assert result.exit_code == 0, result.output
    assert "page.html" in result.output
    assert Page(tmp_path / "shown" / "page.html").charts
    assert not (run / "report.html").exists()


def test_report_is_made_without_torch() -> None:
    """A page of numbers and pictures does not wait for a library of networks."""
    code = "import sys, sennet_trainer.report.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
