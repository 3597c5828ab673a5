"""Surface Dice at tolerance 0 side by side with the package `surface-distance`: how fast, and how equal."""

import importlib.metadata
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import sennet_engine
from sennet_bench.tube_masks import Mask, tube_masks
from sennet_engine.errors import ConfigError, MissingExtraError
from sennet_engine.metrics.surface_dice import surface_dice
from sennet_engine.runtimes import usable_processors

SHARE, SEED = 0.008, 0
OURS, THEIRS = "sennet", "surface-distance"


@dataclass(frozen=True)
class Contender:
    """One implementation's answer.

    Attributes:
        name, version: of the package.
        surface_dice_0: surface Dice at tolerance 0, 0 to 1.
        seconds: of each repeat, in the order in which they ran.
        median_seconds: their median.
    """

    name: str
    version: str
    surface_dice_0: float
    seconds: list[float]
    median_seconds: float


@dataclass(frozen=True)
class MetricsComparison:
    """Both implementations on the same pair of masks, in one process and taking turns.

    Attributes:
        shape_zyx: of the masks.
        predicted_share, true_share: of the voxels that are positive, 0 to 1.
        contenders: this project's first.
        times_faster: their median time over ours.
        score_difference: between the two scores, absolute.
        versions: of what the times also depend on.
        processors: that this process may use; both implementations use one.
    """

    shape_zyx: tuple[int, int, int]
    predicted_share: float
    true_share: float
    contenders: list[Contender]
    times_faster: float
    score_difference: float
    versions: dict[str, str]
    processors: int


def compare_metrics(shape_zyx: tuple[int, int, int], *, repeats: int) -> MetricsComparison:
    """Score a pair of tube masks `repeats` times with either implementation.

    Raises:
        ConfigError: an empty shape, no repeat, or so few voxels that a mask is empty.
        MissingExtraError: the package `surface-distance` is not installed.
    """
    if min(shape_zyx) < 1 or repeats < 1:
        raise ConfigError(f"got shape {shape_zyx} and {repeats} repeats, expected numbers of at least 1")
    functions = {OURS: surface_dice, THEIRS: _package_surface_dice()}
    prediction, truth = tube_masks(shape_zyx, share=SHARE, seed=SEED)
    if not (prediction.any() and truth.any()):
        raise ConfigError(f"shape {shape_zyx} is too small for a tube; use at least 16,64,64")
    scores: dict[str, float] = {}
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            scores[name] = float(function(prediction, truth))
            seconds[name].append(time.perf_counter() - start)
    versions = {OURS: sennet_engine.__version__, THEIRS: importlib.metadata.version(THEIRS)}
    contenders = [
        Contender(name, versions[name], scores[name], seconds[name], statistics.median(seconds[name]))
        for name in functions
    ]
    ours, theirs = contenders
    return MetricsComparison(
        shape_zyx=shape_zyx,
        predicted_share=float(prediction.mean()),
        true_share=float(truth.mean()),
        contenders=contenders,
        times_faster=theirs.median_seconds / ours.median_seconds,
        score_difference=abs(theirs.surface_dice_0 - ours.surface_dice_0),
        versions={
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": importlib.metadata.version("scipy"),
        },
        processors=usable_processors(),
    )


def markdown_report(comparison: MetricsComparison) -> str:
    """The comparison as a Markdown table, with its circumstances below."""
    shape = " × ".join(map(str, comparison.shape_zyx))
    versions = ", ".join(f"{name} {version}" for name, version in comparison.versions.items())
    repeats = len(comparison.contenders[0].seconds)
    lines = [
        "| implementation | surface Dice, 0 voxels | median seconds | fastest | slowest |",
        "|---|---|---|---|---|",
        *(_row(contender) for contender in comparison.contenders),
        "",
        f"{comparison.times_faster:.1f} times faster; the scores differ by {comparison.score_difference:.1e}.",
        f"{shape} voxels, {comparison.true_share:.2%} true and {comparison.predicted_share:.2%} predicted, "
        f"{repeats} repeats in turns, one thread each, {comparison.processors} processors, {versions}.",
    ]
    return "\n".join(lines)


def _row(contender: Contender) -> str:
    seconds = (contender.median_seconds, min(contender.seconds), max(contender.seconds))
    cells = [f"{contender.name} {contender.version}", f"{contender.surface_dice_0:.6f}", *(f"{s:.4f}" for s in seconds)]
    return f"| {' | '.join(cells)} |"


def _package_surface_dice() -> Callable[[Mask, Mask], float]:
    """The package's surface Dice at tolerance 0 of a prediction and its truth."""
    try:
        import surface_distance
    except ImportError as error:
        raise MissingExtraError("surface-distance is not installed; run: pip install 'sennet[dev]'") from error

    def score(prediction: Mask, truth: Mask) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it calls scipy by names of old
            distances = surface_distance.compute_surface_distances(truth, prediction, (1, 1, 1))
            return float(surface_distance.compute_surface_dice_at_tolerance(distances, 0))

    return score
