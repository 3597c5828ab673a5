"""The report: one page that stands by itself and tells how far things are."""

import base64
import hashlib
import io
import itertools
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from sennet_engine.errors import ModelError, OutputError
from sennet_trainer.checkpoint import save_tensors
from sennet_trainer.commands.report import report
from sennet_trainer.curve import write_curve
from sennet_trainer.history import EpochRow, write_metrics
from sennet_trainer.prediction.evaluation import Evaluation
from sennet_trainer.prediction.label_merge import LabelFile
from sennet_trainer.prediction.pseudo_labels import PseudoLabels
from sennet_trainer.prediction.result_file import NetworkName, write_result
from sennet_trainer.prediction.sweep import SweepRow
from sennet_trainer.prediction.threshold_table import ThresholdRow
from sennet_trainer.recipe.record import StageRecord, write_stage
from sennet_trainer.report.flow import flow_from_stages
from sennet_trainer.report.page import write_report
from sennet_trainer.report.source import read_source

STAGES = ["dense", "labels", "resumed", "before", "after", "later"]
# Elements that have no end.
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """What a browser would find in a page: its text, links and ids; and whether every element is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.charts: list[str] = []
        self._open: list[str] = []
        self._pieces: list[str] = []
        self.feed(self.html)
        assert self._open == []

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._pieces).split())

    def section(self, stage: str) -> str:
        """The HTML of a stage's section."""
        return self.html.split(f'id="stage-{stage}"')[1].split("</section>")[0]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        self.tags.append(tag)
        self.links += [value or "" for key, value in attrs if key in ("src", "href", "xlink:href", "srcset", "action")]
        self.ids += [facts["id"] or ""] if "id" in facts else []
        self.pictures += [facts] if tag == "img" else []
        self.charts += [facts["aria-label"] or ""] if tag == "svg" and facts.get("role") == "img" else []
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self._pieces.append(data)


def write_fit(folder: Path, *, epochs: int = 4, planned: int = 4, validated: bool = True, base: float = 0.7) -> None:
    """The files of a training, as the trainer writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        EpochRow(epoch, 1e-3, 0.9 / epoch, 30.0, *((base + epoch / 100, 0.8, 0.4, 0.3, 0.6) if validated else ()))
        for epoch in range(1, epochs + 1)
    ]
    if rows:
        write_metrics(rows, folder / "metrics.csv")
        write_curve(rows, folder / "curve.png")
        best = rows[-1].surface_dice
        scores = {"held_out along z": {"surface_dice": best, "dice": 0.8}} if validated else {}
        threshold = {"value": 0.4, "low": 0.3, "high": 0.6} if validated else {"value": 0.5, "low": None, "high": None}
        facts = {"epoch": epochs, "scores": scores, "threshold": threshold}
        save_tensors(folder / "network.safetensors", {"weight": torch.full((2,), base)}, facts)
    settings = {"name": folder.name, "training": {"epochs": planned, "loss": {"dice": 1.0}}}
    record = {"settings": settings, "versions": {"torch": "2.9"}, "inputs": {}, "complete": epochs == planned}
    (folder / "run.json").write_text(json.dumps(record))


def write_pseudo_labels(folder: Path, *, met: bool = True, volume: str = "sparse") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        ThresholdRow(
            threshold=milli / 1000,
            true_positives=900 - milli // 2,
            false_positives=1000 - milli,
            false_negatives=100 + milli // 2,
            labelled_share=1000 / (2000 - milli),
        )
        for milli in range(20, 1000, 20)
    ]
    result = PseudoLabels(
        key="k", volume=volume, slices=(0, 8), label_fraction=0.65, chosen_threshold=0.46, labelled_share=0.6494,
        met=met, axes="zyx", teachers=[NetworkName(name="dense", sha256="0" * 64)], labelled_voxels=12345,
        rows=rows, files={"0.460": LabelFile(name="labels_0.460.tif", threshold=0.46, added_voxels=6543)},
    )  # fmt: skip
    write_result(folder / "pseudo_labels.json", result)
    write_picture(folder / "labels.png", width=300)


def write_evaluation(folder: Path, *, surface_dice: float = 0.8123, best: float = 0.4) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [SweepRow(threshold=t / 10, surface_dice=0.8 - abs(t / 10 - best), dice=0.9) for t in range(1, 10)]
    result = Evaluation(
        key="k", volume="test", networks=[NetworkName(name="dense", sha256="0" * 64)], axes="z", best_threshold=best,
        stable_low=0.3, stable_high=0.5, rows=rows, threshold_from="given",
        at={"threshold": 0.5, "surface_dice": surface_dice, "surface_dice_1": 0.95, "dice": 0.91, "recall": None},
    )  # fmt: skip
    write_result(folder / "evaluation.json", result)
    write_picture(folder / "slices.png", width=300)


def write_picture(path: Path, *, width: int, noise: bool = False) -> None:
    shape = (width // 4, width, 3)
    draw = np.random.default_rng(0)
    grey = draw.integers(0, 256, shape) if noise else np.full(shape, 128)
    Image.fromarray(grey.astype(np.uint8)).save(path)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A recipe's run with five stages done, and one that has not been run."""
    root = tmp_path / "run"
    root.mkdir()
    (root / "recipe.json").write_text(json.dumps({"name": "kidneys", "stages": STAGES}))
    folders = {name: root / "stages" / name for name in STAGES}
    volume = {"images dense_volume train": "a" * 64, "labels dense_volume train": "b" * 64}
    write_fit(folders["dense"])
    record(folders["dense"], "fit", volume | {"images held_out validation": "c" * 64}, {"training": {"epochs": 4}})
    write_pseudo_labels(folders["labels"])
    record(folders["labels"], "pseudo_label", {"images sparse": "d" * 64} | network(folders["dense"]))
    write_fit(folders["resumed"], base=0.8)
    added = {"images labels train": "d" * 64, "labels labels train": "e" * 64}
    record(folders["resumed"], "fit", volume | added | network(folders["dense"]), {"training": {"epochs": 4}})
    write_evaluation(folders["before"], surface_dice=0.7777)
    record(folders["before"], "evaluate", {"images test": "f" * 64} | network(folders["dense"]))
    write_evaluation(folders["after"])
    record(folders["after"], "evaluate", {"images test": "f" * 64} | network(folders["resumed"]))
    return root


def record(
    folder: Path, kind: str, inputs: dict[str, str], settings: dict[str, Any] | None = None, *, complete: bool = True
) -> None:
    write_stage(folder, StageRecord(folder.name, kind, settings or {}, inputs, complete=complete, seconds=100))


def network(folder: Path) -> dict[str, str]:
    content = (folder / "network.safetensors").read_bytes()
    return {f"network {folder.name}": hashlib.sha256(content).hexdigest()}


def page_of(run: Path) -> Page:
    return Page(write_report(run, overwrite=True))


def test_page_needs_nothing_but_itself(run: Path) -> None:
    """No script, and every link is a place in the page or carries its data."""
    page = page_of(run)
    assert page.links
    assert [link for link in page.links if not link.startswith(("#", "data:image/"))] == []
    places = [link[1:] for link in page.links if link.startswith("#")]
    assert set(places) <= set(page.ids)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert page.tags.count("style") == 1
    assert not re.search(r"@import|url\((?!#)", page.html)


def test_page_has_every_id_once(run: Path) -> None:
    """The charts of a page do not take each other's parts."""
    ids = page_of(run).ids
    assert len(ids) == len(set(ids))


def test_page_has_the_stages_in_their_order_with_their_scores(run: Path) -> None:
    """Title, state, and for each kind of stage its figures, rounded to four digits."""
    page = page_of(run)
    assert "<h1>kidneys</h1>" in page.html
    assert "5 of 6 stages done, 1 not run yet · 8 min 20 s in all" in page.text
    assert [place for place in page.ids if place.startswith("stage-")] == [f"stage-{name}" for name in STAGES]
    trainings, labels, evaluations = (
        [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in table.split("</table>")[0].split("<tr>")[2:]]
        for table in page.html.split("<caption>")[1:4]
    )
    assert trainings == [
        "dense 4 0.225 0.7400 0.400 0.300 to 0.600 1 min 40 s",
        "resumed 4 0.225 0.8400 0.400 0.300 to 0.600 1 min 40 s",
    ]
    assert labels == ["labels sparse 0.460 0.6494 0.65 6 543 at 0.460 1 min 40 s"]
    assert evaluations == [
        "before test 0.7777 0.500 0.9100 0.400 0.300 to 0.500 1 min 40 s",
        "after test 0.8123 0.500 0.9100 0.400 0.300 to 0.500 1 min 40 s",
    ]


def test_best_evaluation_of_a_volume_stands_out(run: Path) -> None:
    """Of two evaluations of one volume the better surface Dice is marked, and no other."""
    assert re.findall(r'class="number best">([^<]*)<', page_of(run).html) == ["0.8123"]


def test_stage_that_was_not_run_is_said(run: Path) -> None:
    """A stage without a folder has a section that says so."""
    assert "not run yet" in page_of(run).section("later")


def test_damage_is_said_and_does_not_stop_the_report(run: Path) -> None:
    """Broken files and pictures are named where they belong; all else is reported."""
    stages = run / "stages"
    (stages / "before" / "stage.json").write_text('{"name": "bef')
    (stages / "labels" / "pseudo_labels.json").write_text("[1, 2]")
    (stages / "after" / "evaluation.json").write_text('{"volume": "test"}')
    (stages / "after" / "slices.png").write_bytes(b"\x89PNG but not really")
    (stages / "resumed" / "network.safetensors").write_bytes(b"weights")
    page = page_of(run)
    assert "stage.json is damaged" in page.section("before")
    assert "pseudo_labels.json is damaged" in page.section("labels")
    assert "evaluation.json is damaged" in page.section("after")
    assert "slices.png is damaged, or no picture" in page.section("after")
    assert "run.json is damaged" not in page.section("resumed")
    assert "network.safetensors is damaged" in page.section("resumed")
    assert "0.8400" in page.section("resumed")
    assert "0.7400" in page.section("dense")
    assert "1 damaged" in page.text


def test_damaged_recipe_still_shows_the_stages(run: Path) -> None:
    """Without recipe.json's content the stages that were begun are shown."""
    (run / "recipe.json").write_text("{")
    page = page_of(run)
    assert "recipe.json is damaged" in page.text
    assert sorted(place for place in page.ids if place.startswith("stage-")) == sorted(
        f"stage-{name}" for name in STAGES[:-1]
    )


def test_stage_made_from_an_earlier_network_is_out_of_date(run: Path) -> None:
    """Where a network has changed, what was made from it is not counted as done, nor what was made from that."""
    write_fit(run / "stages" / "dense", base=0.71)
    page = page_of(run)
    assert "1 of 6 stages done, 4 out of date, 1 not run yet" in page.text
    assert "Made from an earlier result of dense." in page.section("labels")
    assert "Made from an earlier result of resumed." in page.section("after")


def test_unfinished_training_says_how_far_it_is(run: Path) -> None:
    """Epochs done of those planned, and unfinished."""
    folder = run / "stages" / "later"
    write_fit(folder, epochs=2, planned=4)
    record(folder, "fit", network(run / "stages" / "resumed"), {"training": {"epochs": 4}}, complete=False)
    section = page_of(run).section("later")
    assert "unfinished" in section
    assert "2 of 4" in section


def test_stage_of_an_earlier_recipe_is_named(run: Path) -> None:
    """A folder that the recipe does not know is not passed over in silence."""
    record(run / "stages" / "old_idea", "fit", {})
    assert "no such stage any more: old_idea" in page_of(run).text


def test_fraction_that_no_threshold_meets_is_a_warning(run: Path) -> None:
    """And one that is met is none."""
    sentence = "No threshold meets the stated fraction of 0.65"
    assert sentence not in page_of(run).text
    write_pseudo_labels(run / "stages" / "labels", met=False)
    assert sentence in page_of(run).section("labels")


def test_best_threshold_at_the_end_of_the_sweep_is_a_warning(run: Path) -> None:
    """Then a better one may lie outside of what was tried."""
    assert "may lie beyond" not in page_of(run).text
    write_evaluation(run / "stages" / "after", best=0.9)
    assert "may lie beyond" in page_of(run).section("after")


def test_single_training_has_a_report(tmp_path: Path) -> None:
    """The run folder of a fit is enough; its validation is told by volume, and it is not shown as a recipe."""
    write_fit(tmp_path / "alone")
    page = page_of(tmp_path / "alone")
    assert "<h1>alone</h1>" in page.html
    assert "done · 2 min 0 s in all" in page.text
    assert "held_out along z" in page.text
    assert "The stages" not in page.text


def test_training_without_validation_says_so(tmp_path: Path) -> None:
    """Its threshold was not chosen by anything."""
    write_fit(tmp_path / "alone", validated=False)
    page = page_of(tmp_path / "alone")
    assert "0.500 (not validated)" in page.text
    assert len(page.charts) == 1


@pytest.mark.parametrize(("write", "title"), [(write_pseudo_labels, "Choice of"), (write_evaluation, "Scores over")])
def test_single_prediction_has_a_report(tmp_path: Path, write: Any, title: str) -> None:
    """The folders of `pseudo-label` and `evaluate` are reported as they are, with the hash of their networks."""
    write(tmp_path / "alone")
    page = page_of(tmp_path / "alone")
    assert title in page.text
    assert "network dense " + "0" * 64 in page.text


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
