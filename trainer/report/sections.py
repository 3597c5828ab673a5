"""What the page says of each stage: its figures, what to beware of, its curves and its pictures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sennet_trainer.report import numbers
from sennet_trainer.report.charts import Chart
from sennet_trainer.report.pictures import data_uri_from_picture
from sennet_trainer.report.results import EvaluationResult, FitResult, PseudoLabelResult
from sennet_trainer.report.source import ReportedStage, State
from sennet_trainer.report.stage_charts import fit_charts, share_chart, sweep_chart
from sennet_trainer.report.tables import (
    Table,
    epochs_done,
    table_from_files,
    table_from_inputs,
    table_from_scores,
    table_from_settings,
)

KINDS = {"fit": "training", "pseudo_label": "pseudo-labels", "evaluate": "evaluation", "": ""}
SCORES = {
    "surface_dice": "surface Dice, tolerance 0",
    "surface_dice_1": "surface Dice, tolerance 1",
    "dice": "Dice",
    "precision": "precision",
    "recall": "recall",
    "cldice": "clDice",
}
THRESHOLDS_FROM = {"given": "given", "network": "the network’s own", "sweep": "the best here"}


@dataclass(frozen=True)
class Picture:
    """A picture in the page: `source` is a data URI."""

    source: str
    width: int
    height: int
    caption: str
    alt: str


@dataclass(frozen=True)
class Content:
    """What is peculiar to a stage's kind.

    Attributes:
        brief: the result in a few words.
        figures: (name, value).
        drawn: pictures that need not be shown, since the charts say the same.
    """

    brief: str
    figures: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()
    drawn: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """All that the page says of `stage`."""

    stage: ReportedStage
    kind: str
    time: str
    content: Content
    warnings: tuple[str, ...]
    pictures: tuple[Picture, ...] = ()
    folded: tuple[Table, ...] = ()

    @property
    def brief(self) -> str:
        """Kind and result in a few words, for the diagram."""
        return " · ".join(text for text in (self.kind, self.content.brief) if text)


def section_from_stage(stage: ReportedStage) -> Section:
    """Say what is known of `stage`; pictures that cannot be read are told among the warnings."""
    content = _CONTENTS[type(stage.result)](stage, stage.result)
    warnings = [*stage.problems, *content.warnings]
    pictures = []
    for name, (caption, alt) in PICTURES.get(stage.kind, {}).items():
        path = stage.folder / name
        if name in content.drawn or not path.exists():
            continue
        try:
            source, width, height = data_uri_from_picture(path)
        except (OSError, ValueError) as error:
            warnings.append(f"A picture cannot be shown: {error}.")
            continue
        pictures.append(Picture(source, width, height, caption, f"{alt} of stage {stage.name}"))
    settings = table_from_settings("Settings", stage.record.settings if stage.record else {})
    folded = [table for table in (table_from_inputs(stage), settings, *content.folded) if table.rows]
    kind = KINDS.get(stage.kind, stage.kind)
    time = numbers.duration(stage.record.seconds) if stage.record and stage.record.seconds else ""
    return Section(stage, kind, time, content, tuple(warnings), tuple(pictures), tuple(folded))


def _fit(stage: ReportedStage, result: FitResult) -> Content:
    rows, best = result.rows, result.best_surface_dice
    done = epochs_done(stage, result)
    kept = numbers.MISSING if result.kept_epoch is None else str(result.kept_epoch)
    threshold = numbers.threshold(result.threshold)
    if best is None:  # the last epoch is kept, and the threshold is the one of the settings
        threshold = f"{threshold} (not validated)"
    figures = [("epochs", done), ("epoch kept", kept), ("last loss", numbers.number(rows[-1].loss if rows else None))]
    figures += [("best surface Dice", numbers.score(best))] if best is not None else []
    figures += [("threshold", threshold)] if result.threshold is not None else []
    figures += [("stable range", numbers.threshold_range(result.low, result.high))] if result.low is not None else []
    warnings = ["No epoch is finished yet."] if not rows and not stage.problems else []
    scores, versions = table_from_scores(result), table_from_settings("Versions", result.versions)
    return Content(
        brief=numbers.score(best) if best is not None else f"{done} epochs",
        figures=tuple(figures),
        warnings=tuple(warnings),
        charts=fit_charts(stage.name, result) if rows else (),
        tables=(scores,) if scores.rows else (),
        folded=(versions,) if versions.rows else (),
        drawn=("curve.png",) if rows else (),
    )


def _pseudo_label(stage: ReportedStage, result: PseudoLabelResult) -> Content:
    warnings = []
    if not result.met:
        warnings.append(
            f"No threshold meets the stated fraction of {result.label_fraction:g}: the nearest is "
            f"{result.chosen_threshold:.3f} with a labelled share of {result.labelled_share:.4f}."
        )
    thresholds = [numbers.threshold(threshold) for _, threshold, _ in result.files]
    chosen = numbers.threshold(result.chosen_threshold)
    figures = [
        ("volume", result.volume),
        ("axes", result.axes),
        ("chosen threshold", chosen),
        ("labelled share", numbers.score(result.labelled_share)),
        ("stated fraction", numbers.number(result.label_fraction)),
        ("real labels", f"{numbers.count(result.labelled_voxels)} voxels"),
    ]
    figures += [("labels made at", ", ".join(thresholds))] if thresholds and thresholds != [chosen] else []
    return Content(
        brief=f"at {thresholds[0]}" if len(thresholds) == 1 else f"at {len(thresholds)} thresholds",
        figures=tuple(figures),
        warnings=tuple(warnings),
        charts=(share_chart(stage.name, result),) if result.rows else (),
        tables=(table_from_files(result),) if result.files else (),
        drawn=("thresholds.png",) if result.rows else (),
    )


def _evaluate(stage: ReportedStage, result: EvaluationResult) -> Content:
    warnings = []
    swept = [threshold for threshold, _, _ in result.rows]
    if len(swept) > 1 and result.best_threshold in (swept[0], swept[-1]):
        warnings.append(
            f"The best threshold, {result.best_threshold:.3f}, is at the end of those that were tried: a better one "
            f"may lie beyond."
        )
    at = result.at.get("threshold")
    origin = THRESHOLDS_FROM.get(result.threshold_from or "", "")
    figures = [
        ("volume", result.volume),
        ("axes", result.axes),
        ("threshold", numbers.threshold(at) + (f" ({origin})" if origin else "")),
        *((name, numbers.score(result.at[key])) for key, name in SCORES.items() if key in result.at),
        ("best threshold", numbers.threshold(result.best_threshold)),
        ("stable range", numbers.threshold_range(result.stable_low, result.stable_high)),
    ]
    return Content(
        brief=numbers.score(result.at.get("surface_dice")),
        figures=tuple(figures),
        warnings=tuple(warnings),
        charts=(sweep_chart(stage.name, result),) if result.rows else (),
        drawn=("thresholds.png",) if result.rows else (),
    )


def _nothing(stage: ReportedStage, _result: None) -> Content:
    return Content(brief=str(stage.state) if stage.state is not State.DONE else "no result", figures=())


_CONTENTS: dict[type, Callable[[ReportedStage, Any], Content]] = {
    FitResult: _fit,
    PseudoLabelResult: _pseudo_label,
    EvaluationResult: _evaluate,
    type(None): _nothing,
}
# By kind, the pictures that a stage writes: their caption, and what they show.
PICTURES = {
    "fit": {"curve.png": ("The course of the training.", "Training loss and validation scores over the epochs")},
    "pseudo_label": {
        "labels.png": (
            "The slice to which most is added: bare, with the real labels, with the added labels, and the mean "
            "probability.",
            "A slice four times: bare, with real labels, with added labels, mean probability;",
        ),
        "thresholds.png": ("The labelled share over the threshold.", "Labelled share over the threshold"),
    },
    "evaluate": {
        "slices.png": (
            "The slice with most vessels: bare, with the truth, and with the prediction, right and wrong.",
            "A slice three times: bare, with its true labels, with the prediction;",
        ),
        "thresholds.png": ("The scores over the threshold.", "Surface Dice and Dice over the threshold"),
    },
}
