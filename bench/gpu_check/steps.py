"""What a check of a GPU found: steps with their outcomes, none of which stops the others."""

from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """How a step ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Step:
    """One thing that was to be shown.

    Attributes:
        key: names it in docs/gpu.md: `tensorrt-fp16`.
        title: for people.
        reason: of its outcome, in a sentence.
        seconds: that it took.
        error: all that was said where it failed; else empty.
        optional: a machine may lack what it needs, and the check passes without it.
        figures: measured by it, by name, with their units; for people.
    """

    key: str
    title: str
    outcome: Outcome
    reason: str
    seconds: float = 0.0
    error: str = ""
    optional: bool = False
    figures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MarkedTest:
    """A test that needs a GPU. Attributes: see Step; `error` is its traceback."""

    name: str
    outcome: Outcome
    reason: str
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class Segmentation:
    """A mask that one runtime computed, beside the reference.

    Attributes:
        key: of its step.
        title: for people: "TensorRT fp16".
        runtime: as its summary tells it.
        first_seconds: of the first run's process, with building and loading; `warm_seconds` of the second's.
        load_seconds: of the second, until the networks were ready.
        mvoxels_per_second: 10^6 voxels of the volume over the second run's time from its first plane to its last.
        stage_seconds: of the second run; stages run at the same time.
        differing_voxels: from the reference's mask; `differing_share` of the voxels that are vessel in that one.
        dice_with_reference, dice_with_truth: surface Dice at tolerance 0; None where there is no vessel.
        mask_sha256: of the second mask's voxels.
    """

    key: str
    title: str
    runtime: str
    first_seconds: float
    warm_seconds: float
    load_seconds: float
    mvoxels_per_second: float
    stage_seconds: dict[str, float]
    differing_voxels: int
    differing_share: float
    dice_with_reference: float | None
    dice_with_truth: float | None
    mask_sha256: str


def not_run(key: str, title: str, reason: str, *, optional: bool = False) -> Step:
    """A step that could not begin."""
    return Step(key, title, Outcome.NOT_RUN, reason, optional=optional)
