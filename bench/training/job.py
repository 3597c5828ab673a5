"""What a contestant of `sennet-bench train` is asked, and what it answers."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sennet_trainer.augmentation_settings import AugmentationSettings
from sennet_trainer.settings import FitSettings

Contestant = Literal["sennet", "plain", "tuned"]
OURS: Contestant = "sennet"
PLAIN: Contestant = "plain"
TUNED: Contestant = "tuned"
"""The plain loop with what guides to torch advise for speed: channels_last, and memory that stays in the process."""

Task = Literal["crops", "network", "training"]
TASKS: dict[Task, tuple[Contestant, ...]] = {
    "crops": (OURS, PLAIN),
    "network": (OURS, PLAIN, TUNED),
    "training": (OURS, PLAIN, TUNED),
}
"""The data path alone; the network alone, on crops that lie in memory; both. And who does it, in turns."""

WARM_UP_STEPS = 2
"""Taken before those that count: the first ones allocate, and choose their kernels."""
WARM_UP_CROPS = 8
HELD_BATCHES = 4
"""In memory for the network alone, shown again and again."""

AS_CUT = AugmentationSettings(
    flip=0, shift_scale_rotate=0, blur_or_noise=0, brightness_contrast=0, gamma=0, distortion=0, sharpen_or_clahe=0,
    noise=0,
)  # fmt: skip
"""No augmentation at all."""


@dataclass(frozen=True)
class Job:
    """One task of one contestant.

    Attributes:
        settings: what both do alike; its volumes are those to train on.
        cache: of the volumes, all of which are in it.
        crops: to be made in a pass of the data path.
        steps: that count, after WARM_UP_STEPS.
        workers: of the passes of the data path; the training has the last one's.
        threads: to compute on.
    """

    contestant: Contestant
    task: Task
    settings: FitSettings
    cache: Path
    crops: int
    steps: int
    workers: list[int]
    threads: int

    @property
    def steps_in_all(self) -> int:
        """With those of the warm-up."""
        return WARM_UP_STEPS + self.steps

    def settings_with(self, *, crops: int, workers: int, augmented: bool) -> FitSettings:
        """Those of a pass over so many crops."""
        settings = self.settings
        return settings.model_copy(
            update={
                "crops": settings.crops.model_copy(update={"per_epoch": crops}),
                "training": settings.training.model_copy(update={"workers": workers}),
                "augmentation": settings.augmentation if augmented else AS_CUT,
            }
        )


@dataclass(frozen=True)
class CropPass:
    """Crops through the data path, in batches, with nothing that takes them.

    Attributes:
        seconds: until the last batch came, starting and ending the workers counted.
        cpu_seconds: of all processes meanwhile.
    """

    workers: int
    augmented: bool
    crops: int
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class StepPass:
    """Steps of a training, those of the warm-up first.

    Attributes:
        step_seconds, losses: of each step.
        cpu_seconds: of all processes over all steps.
        parameters: of the network; `trained_parameters` of them had a gradient.
    """

    step_seconds: list[float]
    losses: list[float]
    cpu_seconds: float
    parameters: int
    trained_parameters: int

    @property
    def counted_seconds(self) -> list[float]:
        """Of the steps after the warm-up."""
        return self.step_seconds[WARM_UP_STEPS:]


@dataclass(frozen=True)
class Answer:
    """What a task gave.

    Attributes:
        peak_mb: the largest resident memory of the process, libraries included and workers not, in 10^6 bytes; None
            where the system does not tell (Linux does).
    """

    crops: list[CropPass] = field(default_factory=list)
    steps: StepPass | None = None
    peak_mb: float | None = None
