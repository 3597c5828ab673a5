"""Pictures of a prediction: slices with labels and masks in colour, and curves over the threshold."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sennet_trainer.prediction.sweep import SweepRow
from sennet_trainer.prediction.threshold_table import ThresholdRow
from sennet_trainer.whole_file import write_whole

Grey = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Rgb = tuple[int, int, int]

COUNT_COLOURS = {
    "true_positives": "tab:orange",
    "false_positives": "tab:cyan",
    "false_negatives": "tab:pink",
}
REAL, ADDED, MISSED = (255, 150, 0), (0, 190, 255), (255, 60, 160)
# How much of the colour and how much of the grey level shows.
OPACITY = 0.7
PANEL_INCHES = 4.0
# Panels are drawn with at least their own pixels up to this many inches.
LARGEST_PANEL_INCHES = 9.0
DPI = 120


def write_label_picture(
    path: Path, grey: Grey, *, real: Mask, added: Mask, probability: npt.NDArray[np.floating], caption: str
) -> None:
    """One plane four times: bare, with its real labels, with the added ones too, and the mean probability 0 to 1."""
    figure, (bare, labelled, merged, mean) = _panels(4, grey.shape, caption)
    _show(bare, _coloured(grey), "slice")
    _show(labelled, _coloured(grey, (real, REAL)), "real labels")
    _show(merged, _coloured(grey, (real, REAL), (added, ADDED)), "with pseudo-labels")
    _legend(merged, [("real", REAL), ("added", ADDED)])
    image = mean.imshow(probability, cmap="magma", vmin=0, vmax=1, interpolation="antialiased")
    mean.set_title("mean probability")
    figure.colorbar(image, ax=mean, fraction=0.046, pad=0.02)
    _save(figure, path)


def write_mask_picture(path: Path, grey: Grey, *, truth: Mask, prediction: Mask, caption: str) -> None:
    """One plane three times: bare, with the truth, with the prediction in the colours of right and wrong."""
    figure, (bare, true, predicted) = _panels(3, grey.shape, caption)
    _show(bare, _coloured(grey), "slice")
    _show(true, _coloured(grey, (truth, REAL)), "truth")
    _show(
        predicted,
        _coloured(grey, (truth & prediction, REAL), (prediction & ~truth, ADDED), (truth & ~prediction, MISSED)),
        "prediction",
    )
    _legend(predicted, [("right", REAL), ("not in the truth", ADDED), ("missed", MISSED)])
    _save(figure, path)


def write_share_curve(path: Path, rows: Sequence[ThresholdRow], *, label_fraction: float, chosen: float) -> None:
    """The labelled share over the threshold with the stated fraction, and below it the counts of voxels."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    share, counts = figure.subplots(2, sharex=True)
    thresholds = [row.threshold for row in rows]
    share.plot(thresholds, [row.labelled_share for row in rows], color="tab:red", label="labelled share")
    share.axhline(label_fraction, color="tab:gray", ls="--", label=f"stated {label_fraction:g}")
    share.set(ylabel="labelled share of the vessels", ylim=(0, 1.05))
    for key, colour in (
        ("true_positives", "tab:orange"),
        ("false_positives", "tab:cyan"),
        ("false_negatives", "tab:pink"),
    ):
        counts.plot(thresholds, [getattr(row, key) for row in rows], color=colour, label=key.replace("_", " "))
    counts.set(xlabel="threshold", ylabel="voxels", yscale="symlog", xlim=(0, 1))
    counts.set_ylim(bottom=0)
    for axes in (share, counts):
        axes.axvline(chosen, color="black", lw=1, ls=":", label=f"chosen {chosen:.3f}")
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    _save(figure, path)


def write_sweep_curve(path: Path, rows: Sequence[SweepRow], *, best: float, low: float, high: float) -> None:
    """Surface Dice and Dice over the threshold, with the best one and the stable range."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    thresholds = [row.threshold for row in rows]
    axes.axvspan(low, high, color="tab:red", alpha=0.12, lw=0, label=f"stable {low:g} to {high:g}")
    for key, colour, label in (("surface_dice", "tab:red", "surface Dice"), ("dice", "tab:blue", "Dice")):
        axes.plot(thresholds, [getattr(row, key) for row in rows], "o-", ms=3, color=colour, label=label)
    axes.axvline(best, color="black", lw=1, ls=":", label=f"best {best:g}")
    axes.set(xlabel="threshold", ylabel="score", xlim=(0, 1), ylim=(0, 1.05))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    _save(figure, path)


def _coloured(grey: Grey, *masks: tuple[Mask, Rgb]) -> Grey:
    """`grey` [Y, X] as RGB [Y, X, 3] with masks tinted."""
    picture = np.repeat(np.asarray(grey)[..., None], 3, axis=-1).astype(np.float32)
    for mask, colour in masks:
        picture[mask] = (1 - OPACITY) * picture[mask] + OPACITY * np.array(colour, np.float32)
    return picture.round().astype(np.uint8)


def _panels(count: int, shape_yx: tuple[int, ...], caption: str) -> tuple[Figure, list[Axes]]:
    rows, columns = shape_yx
    width = min(max(PANEL_INCHES, columns / DPI), LARGEST_PANEL_INCHES)
    height = min(max(width * rows / columns, 1.5), 2 * width)
    figure = Figure(figsize=(count * width, height + 0.8), layout="constrained")
    figure.suptitle(caption)
    panels = list(figure.subplots(1, count))
    for panel in panels:
        panel.set_axis_off()
    return figure, panels


def _show(panel: Axes, picture: Grey, title: str) -> None:
    # Small planes are magnified with their pixels, large ones averaged down.
    panel.imshow(picture, interpolation="antialiased")
    panel.set_title(title)


def _legend(panel: Axes, entries: Sequence[tuple[str, Rgb]]) -> None:
    patches = [Patch(color="#{:02x}{:02x}{:02x}".format(*colour), label=label) for label, colour in entries]
    panel.legend(handles=patches, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=len(patches), frameon=False)


def _save(figure: Figure, path: Path) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, dpi=DPI, format="png")
    write_whole(path, picture.getvalue())
