"""The page tells how far the stages are, what they found, and what is damaged or out of date."""

import re
from pathlib import Path
from typing import Any

import pytest

from .conftest import (
    STAGES,
    network,
    page_of,
    record,
    write_evaluation,
    write_fit,
    write_pseudo_labels,
)


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
