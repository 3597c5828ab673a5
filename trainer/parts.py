"""Cut an epoch's crops into steps, and the crops of a step into parts: some processes, each with some parts in turn.

Step after step takes the next `batch` crops, and the last step what is left. Its crops are shared out in order, to the
processes as evenly as can be. All parts are of one size, except for the last one of a process in the last step.
"""

from dataclasses import dataclass

from sennet_engine.errors import ConfigError
from sennet_trainer.settings import FitSettings


@dataclass(frozen=True)
class Part:
    """Crops that pass through the network together.

    Attributes:
        crops: their indices in the epoch.
        weight: of the mean loss over these crops. The sum over a process's parts, averaged over the processes, is the
            mean over all crops of the step.
        last: whether it is the process's last one in its step.
    """

    crops: range
    weight: float
    last: bool


Step = tuple[Part, ...]


def steps_of(settings: FitSettings, *, process: int = 0, processes: int = 1) -> list[Step]:
    """The parts that `process` of `processes` computes in every step of an epoch."""
    total, batch = settings.crops.per_epoch, settings.training.batch
    size = batch // processes // settings.training.accumulate
    steps = []
    for start in range(0, total, batch):
        step = range(start, min(start + batch, total))
        own = step[len(step) * process // processes : len(step) * (process + 1) // processes]
        parts = [own[first : first + size] for first in range(0, len(own), size)]
        steps.append(tuple(Part(part, len(part) * processes / len(step), last=part[-1] == own[-1]) for part in parts))
    return steps


def check_parts(settings: FitSettings, *, processes: int) -> None:
    """Whether every process gets crops in every step, and equal parts in a full one.

    Raises:
        ConfigError: it does not.
    """
    batch, accumulate = settings.training.batch, settings.training.accumulate
    parts = processes * accumulate
    if batch % parts:
        raise ConfigError(
            f"training.batch: got {batch}, expected a multiple of {parts}, for {processes} processes of accumulate = "
            f"{accumulate} parts each; try batch = {-(-batch // parts) * parts}"
        )
    left = settings.crops.per_epoch % batch
    if 0 < left < processes:
        raise ConfigError(
            f"crops.per_epoch: got {settings.crops.per_epoch}, which leaves {left} for the last step, expected one or "
            f"more for each of {processes} processes; try per_epoch = {settings.crops.per_epoch - left + batch}"
        )
