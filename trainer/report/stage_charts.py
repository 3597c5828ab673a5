"""The curves of each kind of stage, and those of all trainings side by side."""

from collections.abc import Mapping

from sennet_trainer.history import EpochRow
from sennet_trainer.report.charts import Chart, Curve
from sennet_trainer.report.results import EvaluationResult, FitResult, PseudoLabelResult


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


def fit_charts(name: str, result: FitResult) -> tuple[Chart, ...]:
    """The loss of the training `name`, which has an epoch, and its validation scores if there are any."""
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


def share_chart(name: str, result: PseudoLabelResult) -> Chart:
    """Over the threshold: the labelled share, and how much of the real labels is found."""
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
    chosen = result.chosen_threshold
    marks = [(chosen, f"chosen {chosen:.3f}")]
    marks += [(used, f"used {used:.3f}") for _, used, _ in result.files if abs(used - chosen) > 5e-4]
    levels = ((result.label_fraction, f"stated {result.label_fraction:g}"),)
    return Chart(
        "Choice of the threshold", alt, "share", curves, over_thresholds=True, marks=tuple(marks), levels=levels
    )


def sweep_chart(name: str, result: EvaluationResult) -> Chart:
    """The scores over the threshold, with the best one and its stable range."""
    thresholds = [threshold for threshold, _, _ in result.rows]
    curves = (
        Curve("surface Dice", thresholds, [surface_dice for _, surface_dice, _ in result.rows]),
        Curve("Dice", thresholds, [dice for _, _, dice in result.rows], 1),
    )
    at, best = result.at.get("threshold"), result.best_threshold
    marks = [(best, f"best {best:.3f}")]
    if at is not None and abs(at - best) > 5e-4:
        marks.append((at, f"scored {at:.3f}"))
    low, high = result.stable_low, result.stable_high
    alt = f"Surface Dice and Dice of {name} over the threshold: the best threshold is {best:.3f}"
    return Chart(
        "Scores over the threshold", alt, "score", curves, over_thresholds=True, marks=tuple(marks),
        band=None if low is None or high is None else (low, high),
    )  # fmt: skip


def _epochs(rows: tuple[EpochRow, ...]) -> list[float]:
    return [float(row.epoch) for row in rows]
