"""Tables of the page: plain cells, and which of them are numbers, stand out, or lead to a stage."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sennet_trainer.report import numbers
from sennet_trainer.report.results import EvaluationResult, FitResult, PseudoLabelResult
from sennet_trainer.report.source import ReportedStage, State


@dataclass(frozen=True)
class Row:
    """The cells of a row. `leads_to` is a stage; `best` are the columns that stand out."""

    cells: tuple[str, ...]
    leads_to: str = ""
    best: tuple[int, ...] = ()


@dataclass(frozen=True)
class Table:
    """`numeric` are the columns that are aligned to the right; the first column names its row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    numeric: tuple[int, ...] = ()


def score_tables(stages: Sequence[ReportedStage]) -> list[Table]:
    """The scores of all stages, a table for each kind that there is."""
    return [table for table in (_fits(stages), _pseudo_labels(stages), _evaluations(stages)) if table.rows]


def epochs_done(stage: ReportedStage, result: FitResult) -> str:
    """The epochs of a training, such as `2 of 6` or, when it is complete, `6`."""
    if not result.rows and stage.problems:  # that is not none: it is not known
        return numbers.MISSING
    done, planned = len(result.rows), _planned_epochs(stage)
    return f"{done} of {planned}" if planned is not None and done != planned else str(done)


def table_from_settings(title: str, settings: Mapping[str, Any]) -> Table:
    """Settings with dotted keys; lists of plain values stay together."""
    rows = tuple(Row((key, value)) for key, value in _settings(settings))
    return Table(title, ("setting", "value"), rows)


def table_from_inputs(stage: ReportedStage) -> Table:
    """What went into the stage, with its hash."""
    inputs = stage.record.inputs if stage.record else {}
    return Table("Inputs", ("input", "sha256"), tuple(Row((name, sha256)) for name, sha256 in inputs.items()))


def table_from_scores(result: FitResult) -> Table:
    """The scores of a kept network by validation volume and axis."""
    rows = tuple(
        Row((name, numbers.score(scores.get("surface_dice")), numbers.score(scores.get("dice"))))
        for name, scores in result.scores.items()
    )
    return Table("Validation of the kept network", ("planes of", "surface Dice", "Dice"), rows, (1, 2))


def table_from_files(result: PseudoLabelResult) -> Table:
    """The label files of a pseudo-label stage."""
    rows = tuple(
        Row((name, numbers.threshold(threshold), numbers.count(added), _share(added, result.labelled_voxels)))
        for name, threshold, added in result.files
    )
    return Table("Label files", ("file", "threshold", "added voxels", "of the real ones"), rows, (1, 2, 3))


def _fits(stages: Sequence[ReportedStage]) -> Table:
    rows = []
    for stage in stages:
        if isinstance(stage.result, FitResult):
            result = stage.result
            cells = (
                _title(stage),
                epochs_done(stage, result),
                numbers.number(result.rows[-1].loss if result.rows else None),
                numbers.score(result.best_surface_dice),
                numbers.threshold(result.threshold),
                numbers.threshold_range(result.low, result.high),
                _time(stage),
            )
            rows.append(Row(cells, stage.name))
    columns = ("stage", "epochs", "last loss", "best surface Dice", "threshold", "stable range", "time")
    return Table("Trainings", columns, tuple(rows), (1, 2, 3, 4, 5, 6))


def _pseudo_labels(stages: Sequence[ReportedStage]) -> Table:
    rows = []
    for stage in stages:
        if isinstance(stage.result, PseudoLabelResult):
            result = stage.result
            added = "; ".join(f"{numbers.count(voxels)} at {value:.3f}" for _, value, voxels in result.files)
            cells = (
                _title(stage),
                result.volume,
                numbers.threshold(result.chosen_threshold),
                numbers.score(result.labelled_share),
                numbers.number(result.label_fraction),
                added or numbers.MISSING,
                _time(stage),
            )
            rows.append(Row(cells, stage.name))
    columns = ("stage", "volume", "chosen threshold", "labelled share", "stated fraction", "added voxels", "time")
    return Table("Pseudo-labels", columns, tuple(rows), (2, 3, 4, 5, 6))


def _evaluations(stages: Sequence[ReportedStage]) -> Table:
    found = [(stage, stage.result) for stage in stages if isinstance(stage.result, EvaluationResult)]
    best: dict[str, float] = {}
    for _, result in found:
        best[result.volume] = max(result.at.get("surface_dice") or 0.0, best.get(result.volume, 0.0))
    rivals = [result.volume for _, result in found]
    rows = []
    for stage, result in found:
        cells = (
            _title(stage),
            result.volume,
            numbers.score(result.at.get("surface_dice")),
            numbers.threshold(result.at.get("threshold")),
            numbers.score(result.at.get("dice")),
            numbers.threshold(result.best_threshold),
            numbers.threshold_range(result.stable_low, result.stable_high),
            _time(stage),
        )
        wins = rivals.count(result.volume) > 1 and result.at.get("surface_dice") == best[result.volume]
        rows.append(Row(cells, stage.name, (2,) if wins else ()))
    columns = ("stage", "volume", "surface Dice", "at threshold", "Dice", "best threshold", "stable range", "time")
    return Table("Evaluations", columns, tuple(rows), (2, 3, 4, 5, 6, 7))


def _title(stage: ReportedStage) -> str:
    return stage.name if stage.state is State.DONE else f"{stage.name} ({stage.state})"


def _planned_epochs(stage: ReportedStage) -> int | None:
    """How many epochs the settings of a training ask for, where they say so."""
    training = stage.record.settings.get("training") if stage.record else None
    epochs = training.get("epochs") if isinstance(training, dict) else None
    return epochs if isinstance(epochs, int) else None


def _time(stage: ReportedStage) -> str:
    return numbers.duration(stage.record.seconds) if stage.record and stage.record.seconds else numbers.MISSING


def _share(part: int, whole: int) -> str:
    return f"{part / whole:+.1%}" if whole else numbers.MISSING


def _settings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        yield key, ", ".join(_setting(item) for item in value) or numbers.MISSING
    elif isinstance(value, Mapping | list):
        for name, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _settings(item, f"{key}.{name}" if key else str(name))
    else:
        yield key, _setting(value)


def _setting(value: Any) -> str:
    if value is None:
        return numbers.MISSING
    return f"{value:.6g}" if isinstance(value, float) else str(value)
