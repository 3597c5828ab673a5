"""The course of a training as a picture."""

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sennet_trainer.history import EpochRow
from sennet_trainer.whole_file import write_whole


def write_curve(rows: Sequence[EpochRow], path: Path) -> None:
    """Loss and scores over the epochs, as PNG."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    losses = figure.subplots()
    losses.plot([row.epoch for row in rows], [row.loss for row in rows], "o-", ms=3, color="tab:gray", label="loss")
    found = [row.loss for row in rows]  # a boundary loss is negative at its best
    losses.set(xlabel="epoch", ylabel="training loss", ylim=(1.05 * min([0.0, *found]), 1.05 * max([1.0, *found])))
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
