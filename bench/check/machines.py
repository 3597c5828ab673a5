"""Whether two measurements were made where their figures can be compared: on one kind of machine, undisturbed."""

import statistics
from dataclasses import dataclass

from sennet_bench.circumstances import Circumstances

# Of the processors' time, what others may take before it is told.
OTHERS_SHARE = 0.05


@dataclass(frozen=True)
class Machines:
    """Of an old and a new measurement.

    Attributes:
        differences: what is another machine, in words; nothing but quality is compared then.
        speed_difference: how much faster one was than the other in numpy's matrix products, as a share.
        warnings: what else makes the comparison worth less.
    """

    differences: tuple[str, ...]
    speed_difference: float
    warnings: tuple[str, ...]


def compare_machines(old: Circumstances, new: Circumstances) -> Machines:
    """What is known of both."""
    pairs = {
        "processor": (old.processor, new.processor),
        "processors": (old.processors, new.processors),
        "GPUs": (", ".join(old.gpus) or "none", ", ".join(new.gpus) or "none"),
    }
    differences = tuple(f"{name}: got {b}, expected {a}" for name, (a, b) in pairs.items() if a != b)
    warnings = [
        f"others took {one.others_share:.0%} of the processors while {name} was measured"
        for name, one in (("OLD", old), ("NEW", new))
        if one.others_share is not None and one.others_share > OTHERS_SHARE
    ]
    changed = [
        f"{name} {old.versions.get(name, 'missing')} became {new.versions.get(name, 'missing')}"
        for name in {**old.versions, **new.versions}
        if old.versions.get(name) != new.versions.get(name)
    ]
    if changed:
        warnings.append(f"versions differ: {', '.join(changed)}")
    difference = 0.0
    if old.matrix_gflops and new.matrix_gflops:
        before, after = statistics.median(old.matrix_gflops), statistics.median(new.matrix_gflops)
        difference = max(before, after) / min(before, after) - 1 if min(before, after) > 0 else 0.0
    elif not differences:
        warnings.append(
            "not both files tell the speed of matrix products: a slower machine looks like a slower program"
        )
    return Machines(differences, difference, tuple(warnings))
