"""What a trainer and plain loops all do, row by row, with the samples of every round."""

from collections.abc import Callable
from dataclasses import dataclass

from sennet_bench.report.figure import Nature
from sennet_bench.training.job import OURS, TASKS, Answer, Contestant, CropPass, StepPass, Task
from sennet_bench.training.measurement import TrainingMeasurement

MEMORY_OF: dict[Task, str] = {"crops": "the data path", "network": "the network alone", "training": "with its data"}

ByRound = dict[int, float]


@dataclass(frozen=True)
class Row:
    """One thing that all contestants of a task do, in each round.

    Attributes:
        unit: of `values`.
        cpu: the processors' time for one crop or step, in `cpu_unit`.
    """

    name: str
    unit: str
    nature: Nature
    values: dict[Contestant, ByRound]
    cpu: dict[Contestant, ByRound] | None = None
    cpu_unit: str = ""

    @property
    def others(self) -> list[Contestant]:
        """Whom ours is compared with."""
        return [one for one in self.values if one != OURS]

    def ratios(self, other: Contestant) -> list[float]:
        """Ours through the other's, of the same round."""
        ours, theirs = self.values[OURS], self.values.get(other, {})
        return [ours[number] / theirs[number] for number in sorted(ours.keys() & theirs.keys())]

    def gains(self, other: Contestant) -> list[float]:
        """Above 1 where ours does better."""
        ratios = self.ratios(other)
        return [1 / one for one in ratios] if self.nature is Nature.MEMORY else ratios


def training_rows(measured: TrainingMeasurement) -> list[Row]:
    """The data path, the steps, the memory."""
    crops = [
        _crop_row(measured, index, workers=workers, augmented=augmented)
        for augmented in (True, False)
        for index, workers in enumerate(measured.workers)
    ]
    steps = [
        _step_row(measured, "network", "steps, the network alone"),
        _step_row(measured, "training", f"steps with their data, {workers_text(measured.workers[-1])}"),
    ]
    memory = [
        Row(f"peak memory, {MEMORY_OF[task]}", "MB", Nature.MEMORY, _values(measured, task, lambda one: one.peak_mb))
        for task in TASKS
    ]
    return [*crops, *steps, *(row for row in memory if row.values)]


def _crop_row(measured: TrainingMeasurement, index: int, *, workers: int, augmented: bool) -> Row:
    def passed(answer: Answer) -> CropPass:
        return _pass(answer, index, augmented=augmented)

    name = f"crops, {'augmented' if augmented else 'as cut'}, {workers_text(workers)}"
    rates = _values(measured, "crops", lambda one: passed(one).crops / passed(one).seconds)
    cpu = _values(measured, "crops", lambda one: passed(one).cpu_seconds / passed(one).crops * 1000)
    return Row(name, "crops/s", Nature.SPEED, rates, cpu, "ms")


def _step_row(measured: TrainingMeasurement, task: Task, name: str) -> Row:
    def rate(answer: Answer) -> float:
        counted = _steps(answer).counted_seconds
        return len(counted) / sum(counted)

    def cpu(answer: Answer) -> float:
        steps = _steps(answer)
        return steps.cpu_seconds / len(steps.step_seconds)

    return Row(name, "steps/s", Nature.SPEED, _values(measured, task, rate), _values(measured, task, cpu), "s")


def _values(
    measured: TrainingMeasurement, task: Task, value: Callable[[Answer], float | None]
) -> dict[Contestant, ByRound]:
    found: dict[Contestant, ByRound] = {}
    for run in measured.runs:
        if run.task == task and (one := value(run.answer)) is not None:
            found.setdefault(run.contestant, {})[run.round] = one
    return found


def crop_passes(
    measured: TrainingMeasurement, contestant: Contestant, index: int, *, augmented: bool
) -> list[CropPass]:
    """Of each round, with the worker count of this index."""
    answers = [run.answer for run in measured.runs if run.task == "crops" and run.contestant == contestant]
    return [_pass(answer, index, augmented=augmented) for answer in answers]


def _pass(answer: Answer, index: int, *, augmented: bool) -> CropPass:
    return [one for one in answer.crops if one.augmented == augmented][index]


def _steps(answer: Answer) -> StepPass:
    assert answer.steps is not None
    return answer.steps


def step_passes(measured: TrainingMeasurement, task: str, contestant: Contestant) -> list[StepPass]:
    """Of each round."""
    return [_steps(run.answer) for run in measured.runs if run.task == task and run.contestant == contestant]


def workers_text(count: int) -> str:
    """For people."""
    return {0: "no workers", 1: "1 worker"}.get(count, f"{count} workers")
