"""A training on the terminal: a bar with the time to go and a line an epoch, on stderr."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sennet_trainer.history import EpochRow


class FitProgress:
    """An `Observer` that draws; a context manager.

    Attributes:
        trained: whether there was anything left to do.
    """

    def __init__(self, name: str, *, quiet: bool) -> None:
        self._name = name
        self._console = Console(stderr=True, quiet=quiet)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"),
            TimeElapsedColumn(), TextColumn("to go"), TimeRemainingColumn(), console=self._console,
        )  # fmt: skip
        self._task: TaskID | None = None
        self.trained = False

    def starts(self, *, epochs_done: int, epochs: int, steps: int) -> None:
        self.trained = epochs_done < epochs
        if not self.trained:
            return
        if epochs_done:
            self._console.print(f"goes on after epoch {epochs_done} of {epochs}")
        self._task = self._bar.add_task(self._name, total=epochs * steps, completed=epochs_done * steps)

    def step(self, loss: float) -> None:
        assert self._task is not None
        self._bar.update(self._task, advance=1, description=f"{self._name}  loss {loss:.3f}")

    def epoch(self, row: EpochRow) -> None:
        score = ""
        if row.surface_dice is not None and row.dice is not None:
            score = f"  surface Dice {row.surface_dice:.4f}  Dice {row.dice:.4f}  threshold {row.threshold}"
        line = f"epoch {row.epoch:3d}  loss {row.loss:.4f}{score}  {row.seconds:.0f} s"
        self._console.print(line, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
