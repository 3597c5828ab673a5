"""Masks by every runtime, each in processes of its own, beside the one that the processors compute."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter

from sennet_bench.gpu_check.child import Ended
from sennet_bench.gpu_check.commands import OutOfTimeError, Place, infer, mask_of, summary_of
from sennet_bench.gpu_check.masks import beyond_limit, difference_of
from sennet_bench.gpu_check.steps import Outcome, Segmentation, Step, not_run
from sennet_bench.gpu_check.ways import REFERENCE_KEY, REFERENCE_OPTIONS, REFERENCE_TITLE, Way
from sennet_bench.mask_files import mask_sha256
from sennet_engine.errors import SennetError

OUT_OF_TIME = "the time of the whole check was over"


def segment_reference(place: Place, truth: Path, common: tuple[str, ...]) -> tuple[Step, Segmentation | None]:
    """Compute the mask that all others are compared with."""
    try:
        ended = infer(place, REFERENCE_KEY, *REFERENCE_OPTIONS, *common)
    except OutOfTimeError:
        return not_run(REFERENCE_KEY, REFERENCE_TITLE, OUT_OF_TIME), None
    if not ended.succeeded:
        return failed_step(REFERENCE_KEY, REFERENCE_TITLE, ended), None
    found = _segmentation(place, REFERENCE_KEY, REFERENCE_TITLE, ended.seconds, ended, truth)
    told = f"surface Dice with the truth {_dice(found.dice_with_truth)}"
    return Step(REFERENCE_KEY, REFERENCE_TITLE, Outcome.PASSED, told, ended.seconds), found


def segment_way(place: Place, truth: Path, way: Way, common: tuple[str, ...]) -> tuple[Step, Segmentation | None]:
    """Compute a mask twice, at first with building; passed where it is within its limit and twice the same bits."""
    if not installed(way.package):
        return not_run(way.key, way.title, f"{way.package} is not installed", optional=way.optional), None
    began = perf_counter()
    try:
        first = infer(place, way.key, *way.options, *common)
        if not first.succeeded:
            return failed_step(way.key, way.title, first, optional=way.optional), None
        digest = mask_sha256(mask_of(place, way.key))
        warm = infer(place, way.key, *way.options, *common)
        if not warm.succeeded:
            return failed_step(way.key, way.title, warm, optional=way.optional), None
    except OutOfTimeError:
        return not_run(way.key, way.title, OUT_OF_TIME), None
    try:
        found = _segmentation(place, way.key, way.title, first.seconds, warm, truth)
        beyond = beyond_limit(difference_of(mask_of(place, way.key), mask_of(place, REFERENCE_KEY), truth), way.limit)
    except (SennetError, OSError) as error:
        return Step(way.key, way.title, Outcome.FAILED, "its mask cannot be compared", error=str(error)), None
    if digest != found.mask_sha256:
        beyond.append(f"run twice, its mask is not the same: sha256 {digest[:16]} and {found.mask_sha256[:16]}")
    told = (
        f"{found.differing_voxels:,} voxels differ, {found.differing_share:.3%} of the vessels; surface Dice "
        f"{_dice(found.dice_with_reference)}; run twice, the same bits"
    )
    outcome = Outcome.FAILED if beyond else Outcome.PASSED
    return Step(way.key, way.title, outcome, "; ".join(beyond) or told, perf_counter() - began), found


def failed_step(key: str, title: str, ended: Ended, *, optional: bool = False) -> Step:
    """A process that did not succeed."""
    lines = [line for line in ended.words.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith("error:")), lines[-1] if lines else "")
    reason = f"{ended.how}{': ' if said else ''}{said}"
    return Step(key, title, Outcome.FAILED, reason, ended.seconds, ended.words, optional)


def _segmentation(place: Place, key: str, title: str, first: float, warm: Ended, truth: Path) -> Segmentation:
    told, mask = summary_of(place, key), mask_of(place, key)
    difference = difference_of(mask, mask_of(place, REFERENCE_KEY), truth)
    return Segmentation(
        key=key,
        title=title,
        runtime="; ".join(told["runtimes"].values()),
        first_seconds=first,
        warm_seconds=warm.seconds,
        load_seconds=told["seconds_by_part"]["load"],
        mvoxels_per_second=told["voxels"] / told["stage_seconds"]["wall"] / 1e6,
        stage_seconds=told["stage_seconds"],
        differing_voxels=difference.differing_voxels,
        differing_share=difference.differing_share,
        dice_with_reference=difference.dice_with_reference,
        dice_with_truth=difference.dice_with_truth,
        mask_sha256=mask_sha256(mask),
    )


def installed(package: str) -> bool:
    """Whether the distribution is there."""
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _dice(dice: float | None) -> str:
    return "undefined" if dice is None else f"{dice:.4f}"
