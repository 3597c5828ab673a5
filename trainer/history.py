"""What each epoch brought, as a table."""

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
