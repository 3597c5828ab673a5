"""What is read from the samples of a comparison: ratios within a round, and medians with their range."""

import statistics
from collections.abc import Sequence

from sennet_bench.compare.measurement import Comparison, Entry, Sample


def ratios(comparison: Comparison, name: str, base: str, *, with_load: bool = False) -> list[float]:
    """How many times as long `name` took as `base`, in each round that both ended.

    Loading the network counts for both with `with_load`, else for neither.
    """
    samples = {entry.name: {one.round: one for one in entry.samples} for entry in comparison.entries}
    own, other = samples.get(name, {}), samples.get(base, {})

    def seconds(one: Sample) -> float:
        return one.seconds + one.load_seconds * with_load

    return [seconds(one) / seconds(other[number]) for number, one in own.items() if number in other]


def peaks_mb(entry: Entry) -> list[float]:
    """Of its rounds, as far as the system told."""
    return [one.peak_mb for one in entry.samples if one.peak_mb is not None]


def spread(values: Sequence[float], digits: int, *, unit: str = "") -> str:
    """The median, and from two values on the range; a dash without any."""
    if not values:
        return "–"
    text = f"{statistics.median(values):.{digits}f}{unit}"
    return text if len(values) < 2 else f"{text} ({min(values):.{digits}f} to {max(values):.{digits}f})"
