"""What leaving out the background saves, as a table, as figures and as charts."""

import statistics

from sennet_bench.promises.skipping import SkippingEntry, SkippingMeasurement
from sennet_bench.report.chart import Bars, Chart
from sennet_bench.report.figure import Figure, Nature
from sennet_bench.report.table import Table


def skipping_table(measured: SkippingMeasurement) -> Table:
    """A row for each network."""
    entries = measured.entries
    z, y, x = measured.shape_zyx
    return Table(
        heads=(
            "network", "Mpixel through it: all / skipping", "saved", "seconds: all / skipping", "saved (range)",
            "surface Dice: all / skipping", "of one against the other",
        ),
        rows=tuple(map(_row, entries)),
        notes=(
            f"{measured.volume}, {z} × {y} × {x}, {entries[0].skipped_share:.0%} of the voxels left out as background; "
            f"{measured.threads} threads, medians of {len(entries[0].pairs)} rounds in turns. Seconds are of the whole "
            f"run, with loading, survey, audit and preview, but without the trial of the runtimes.",
            str(measured.circumstances),
        ),
    )  # fmt: skip


def skipping_figures(measured: SkippingMeasurement) -> list[Figure]:
    """Of each network: seconds, what skipping saves of them and of the pixels, and what it does to the mask."""
    figures = []
    for entry in measured.entries:
        title = entry.title
        figures += [
            Figure(f"{title}: seconds, all of it", "s", _seconds(entry, skipping=False), Nature.SPEED),
            Figure(f"{title}: seconds, skipping", "s", _seconds(entry, skipping=True), Nature.SPEED),
            Figure(
                f"{title}: times as fast by skipping", "",
                tuple(one.everything.seconds / one.skipping.seconds for one in entry.pairs), Nature.RATIO,
                more_is_better=True,
            ),
            Figure(
                f"{title}: share of the pixels that is left", "", (entry.pixels_skipping / entry.pixels,),
                Nature.QUALITY,
            ),
        ]  # fmt: skip
        scores = {
            "surface Dice, skipping": entry.surface_dice_skipping,
            "surface Dice of the mask against that of all of it": entry.surface_dice_between,
        }
        figures += [
            Figure(f"{title}: {name}", "", (score,), Nature.QUALITY, more_is_better=True)
            for name, score in scores.items()
            if score is not None
        ]
    return figures


def skipping_charts(measured: SkippingMeasurement) -> list[Chart]:
    """Seconds and pixels of each network, with and without."""
    seconds, pixels = [], []
    for entry in measured.entries:
        for name, skipping in (("all of it", False), ("skipping", True)):
            seconds.append((f"{entry.title}, {name}", _seconds(entry, skipping=skipping)))
            through = entry.pixels_skipping if skipping else entry.pixels
            pixels.append((f"{entry.title}, {name}", (through / 1e6,)))
    ours = frozenset(name for name, _ in seconds if name.endswith(", skipping"))
    return [
        Bars("Seconds with and without background", "s", tuple(seconds), ours=ours),
        Bars("Mpixel through the network with and without background", "Mpixel", tuple(pixels), ours=ours),
    ]


def _seconds(entry: SkippingEntry, *, skipping: bool) -> tuple[float, ...]:
    return tuple((one.skipping if skipping else one.everything).seconds for one in entry.pairs)


def _row(entry: SkippingEntry) -> tuple[str, ...]:
    saved = entry.time_saved
    scores = (entry.surface_dice, entry.surface_dice_skipping)
    return (
        entry.title,
        f"{entry.pixels / 1e6:.1f} / {entry.pixels_skipping / 1e6:.1f}",
        f"{1 - entry.pixels_skipping / entry.pixels:.0%}",
        " / ".join(
            f"{statistics.median(seconds):.2f}"
            for seconds in zip(*((one.everything.seconds, one.skipping.seconds) for one in entry.pairs), strict=True)
        ),
        f"{statistics.median(saved):.0%} ({min(saved):.0%} to {max(saved):.0%})",
        " / ".join("–" if score is None else f"{score:.4f}" for score in scores),
        "–" if entry.surface_dice_between is None else f"{entry.surface_dice_between:.4f}",
    )  # fmt: skip
