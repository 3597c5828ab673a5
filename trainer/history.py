"""What each epoch brought: a table as CSV and a curve as PNG."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from sennet_trainer.whole_file import write_whole


@dataclass(frozen=True)
class EpochRow:
    """One epoch. The scores are None where it was not validated.

    Attributes:
        epoch: counted from 1.
        learning_rate: after the epoch's last step.
        loss: the mean over the epoch's steps.
        seconds: the epoch's time with its validation.
        surface_dice: at tolerance 0 and the best threshold, 0 to 1.
        dice: at the same threshold.
        threshold: the best one; `low` and `high` bound its stable range.
    """

    epoch: int
    learning_rate: float
    loss: float
    seconds: float
    surface_dice: float | None = None
    dice: float | None = None
    threshold: float | None = None
    low: float | None = None
    high: float | None = None


def write_metrics(rows: Sequence[EpochRow], path: Path) -> None:
    """`rows` as a CSV table; a cell is empty where there is no value."""
    text = io.StringIO()
    table = csv.DictWriter(text, [field.name for field in fields(EpochRow)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) for row in rows)
    write_whole(path, text.getvalue().encode())


def write_curve(rows: Sequence[EpochRow], path: Path) -> None:
    """Loss and scores over the epochs, as PNG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4), layout="constrained")
    losses = figure.subplots()
    losses.plot([row.epoch for row in rows], [row.loss for row in rows], "o-", ms=3, color="tab:gray", label="loss")
    top = 1.05 * max([1.0, *(row.loss for row in rows)])
    losses.set(xlabel="epoch", ylabel="training loss", ylim=(0, top))
    losses.xaxis.set_major_locator(MaxNLocator(integer=True))
    validated = [row for row in rows if row.surface_dice is not None]
    if validated:
        scores = losses.twinx()
        epochs = [row.epoch for row in validated]
        for key, colour, label in (("surface_dice", "tab:red", "surface Dice"), ("dice", "tab:blue", "Dice")):
            scores.plot(epochs, [getattr(row, key) for row in validated], "o-", ms=3, color=colour, label=label)
        scores.set(ylabel="validation score", ylim=(0, 1.05))
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    write_whole(path, picture.getvalue())
