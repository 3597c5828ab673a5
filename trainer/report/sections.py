"""What the page says of each stage: its figures, what to beware of, its curves and its pictures."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sennet_trainer.history import EpochRow
from sennet_trainer.report import numbers
from sennet_trainer.report.charts import Chart, Curve
from sennet_trainer.report.pictures import data_uri_from_picture
from sennet_trainer.report.results import EvaluationResult, FitResult, PseudoLabelResult
from sennet_trainer.report.source import ReportedStage, State
from sennet_trainer.report.tables import (
    Table, planned_epochs, table_from_files, table_from_inputs, table_from_scores, table_from_settings,
)  # fmt: skip

KINDS = {"fit": "training", "pseudo_label": "pseudo-labels", "evaluate": "evaluation", "": "stage"}
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
        brief: the result in a few words, for the diagram.
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
    folded: tuple[Table, ...] = field(default=())


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
        except OSError as error:
            warnings.append(f"The picture {name} cannot be shown: {error.strerror or error}.")
            continue
        pictures.append(Picture(source, width, height, caption, f"{alt} of stage {stage.name}"))
    settings = table_from_settings("Settings", stage.record.settings if stage.record else {})
    folded = [table for table in (table_from_inputs(stage), settings, *content.folded) if table.rows]
    kind = KINDS.get(stage.kind, stage.kind)
    time = numbers.duration(stage.record.seconds) if stage.record and stage.record.seconds else ""
    return Section(stage, kind, time, content, tuple(warnings), tuple(pictures), tuple(folded))


def comparison_charts(stages: Mapping[str, FitResult]) -> list[Chart]:
    """The trainings side by side: losses, and validation scores where there are any."""
    names = ", ".join(stages)
    losses = tuple(
        Curve(name, _epochs(result.rows), [row.loss for row in result.rows], index)
        for index, (name, result) in enumerate(stages.items())
    )
    scores = tuple(
        Curve(name, _epochs(result.rows), [row.surface_dice for row in result.rows], index)
        for index, (name, result) in enumerate(stages.items())
        if result.best_surface_dice is not None
    )
    charts = [Chart("Training loss", f"Training loss over the epochs of {names}", "loss", losses, is_score=False)]
    if scores:
        alt = f"Validation surface Dice over the epochs of {', '.join(curve.label for curve in scores)}"
        charts.append(Chart("Validation", alt, "surface Dice", scores))
    return charts


def _fit(stage: ReportedStage, result: FitResult) -> Content:
    rows, best = result.rows, result.best_surface_dice
    planned = planned_epochs(stage)
    done = f"{len(rows)} of {planned}" if planned is not None else str(len(rows))
    kept = numbers.MISSING if result.kept_epoch is None else str(result.kept_epoch)
    figures = [("epochs", done), ("epoch kept", kept), ("last loss", numbers.number(rows[-1].loss if rows else None))]
    figures += [("best surface Dice", numbers.score(best))] if best is not None else []
    figures += [("threshold", numbers.threshold(result.threshold))] if result.threshold is not None else []
    figures += [("stable range", numbers.threshold_range(result.low, result.high))] if result.low is not None else []
    warnings = ["No epoch is finished yet."] if not rows else []
    if rows and best is None and stage.state is State.DONE:
        warnings = ["Nothing was validated: the weights are those of the last epoch, and the threshold was not chosen."]
    scores, versions = table_from_scores(result), table_from_settings("Versions", result.versions)
    return Content(
        brief=numbers.score(best) if best is not None else f"{done} epochs",
        figures=tuple(figures),
        warnings=tuple(warnings),
        charts=_fit_charts(stage.name, result) if rows else (),
        tables=(scores,) if scores.rows else (),
        folded=(versions,) if versions.rows else (),
        drawn=("curve.png",) if rows else (),
    )


def _fit_charts(name: str, result: FitResult) -> tuple[Chart, ...]:
    rows, epochs = result.rows, _epochs(result.rows)
    losses = Curve("loss", epochs, [row.loss for row in rows])
    alt = f"Training loss of {name}: {rows[0].loss:.4g} in the first epoch, {rows[-1].loss:.4g} in epoch {len(rows)}"
    charts = [Chart("Training loss", alt, "loss", (losses,), is_score=False)]
    if result.best_surface_dice is not None:
        scores = (
            Curve("surface Dice", epochs, [row.surface_dice for row in rows]),
            Curve("Dice", epochs, [row.dice for row in rows], 1),
        )
        alt = f"Validation scores of {name} over the epochs: the best surface Dice is {result.best_surface_dice:.4f}"
        kept = ((float(result.kept_epoch), "kept"),) if result.kept_epoch is not None else ()
        charts.append(Chart("Validation", alt, "score", scores, marks=kept))
    return tuple(charts)


def _pseudo_label(stage: ReportedStage, result: PseudoLabelResult) -> Content:
    warnings = []
    if not result.met:
        warnings.append(
            f"No threshold meets the stated fraction of {result.label_fraction:g}: the nearest is "
            f"{result.chosen_threshold:.3f} with a labelled share of {result.labelled_share:.4f}."
        )
    thresholds = [threshold for _, threshold, _ in result.files]
    if thresholds and all(abs(threshold - result.chosen_threshold) > 5e-4 for threshold in thresholds):
        given = ", ".join(f"{threshold:.3f}" for threshold in thresholds)
        warnings.append(
            f"The labels were made at {given}, as the recipe says, and not at {result.chosen_threshold:.3f}, which comes "
            f"nearest to the stated fraction."
        )
    shown = f"{thresholds[0]:.3f}" if thresholds else numbers.MISSING
    figures = (
        ("volume", result.volume),
        ("axes", result.axes),
        ("chosen threshold", numbers.threshold(result.chosen_threshold)),
        ("labelled share", numbers.score(result.labelled_share)),
        ("stated fraction", numbers.number(result.label_fraction)),
        ("real labels", f"{numbers.count(result.labelled_voxels)} voxels"),
    )
    return Content(
        brief=f"at {shown}" if len(thresholds) == 1 else f"at {len(thresholds)} thresholds",
        figures=figures,
        warnings=tuple(warnings),
        charts=_share_charts(stage.name, result) if result.rows else (),
        tables=(table_from_files(result),) if result.files else (),
        drawn=("thresholds.png",) if result.rows else (),
    )


def _share_charts(name: str, result: PseudoLabelResult) -> tuple[Chart, ...]:
    thresholds = [row.threshold for row in result.rows]
    labelled = [row.true_positives + row.false_negatives for row in result.rows]
    found = [row.true_positives / all_ if all_ else None for row, all_ in zip(result.rows, labelled, strict=True)]
    curves = (
        Curve("labelled share of the merged labels", thresholds, [row.labelled_share for row in result.rows], 0),
        Curve("share of the real labels that is found", thresholds, found, 1),
    )
    alt = (
        f"Labelled share over the threshold of {name}: {result.labelled_share:.4f} at the chosen threshold "
        f"{result.chosen_threshold:.3f}, where {result.label_fraction:g} is stated"
    )
    marks = ((result.chosen_threshold, f"chosen {result.chosen_threshold:.3f}"),)
    levels = ((result.label_fraction, f"stated {result.label_fraction:g}"),)
    return (Chart("Choice of the threshold", alt, "share", curves, over_thresholds=True, marks=marks, levels=levels),)


def _evaluate(stage: ReportedStage, result: EvaluationResult) -> Content:
    warnings = []
    swept = [threshold for threshold, _, _ in result.rows]
    if len(swept) > 1 and result.best_threshold in (swept[0], swept[-1]):
        warnings.append(
            f"The best threshold, {result.best_threshold:.3f}, is at the end of those that were tried: a better one may "
            f"lie beyond."
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
        charts=(_sweep_chart(stage.name, result),) if result.rows else (),
        drawn=("thresholds.png",) if result.rows else (),
    )


def _sweep_chart(name: str, result: EvaluationResult) -> Chart:
    thresholds = [threshold for threshold, _, _ in result.rows]
    curves = (
        Curve("surface Dice", thresholds, [surface_dice for _, surface_dice, _ in result.rows]),
        Curve("Dice", thresholds, [dice for _, _, dice in result.rows], 1),
    )
    at, best = result.at.get("threshold"), result.best_threshold
    marks = [(best, f"best {best:.3f}")]
    if at is not None and abs(at - best) > 5e-4:
        marks.append((at, f"scored {at:.3f}"))
    stable = result.stable_low is not None and result.stable_high is not None
    alt = f"Surface Dice and Dice of {name} over the threshold: the best threshold is {best:.3f}"
    return Chart(
        "Scores over the threshold", alt, "score", curves, over_thresholds=True, marks=tuple(marks),
        band=(result.stable_low, result.stable_high) if stable else None,
    )  # fmt: skip


def _nothing(stage: ReportedStage, _result: None) -> Content:
    return Content(brief=str(stage.state) if stage.state is not State.DONE else "no result", figures=())


def _epochs(rows: tuple[EpochRow, ...]) -> list[float]:
    return [float(row.epoch) for row in rows]


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
