"""An export on the terminal: what is being done, and a bar while a builder works, on stderr."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class ExportProgress:
    """A context manager with a line for the step in hand, and one for the phase of a builder within it."""

    def __init__(self, *, quiet: bool) -> None:
        self._bar = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn(),
            console=Console(stderr=True), disable=quiet, transient=True,
        )  # fmt: skip
        self._step: TaskID | None = None
        self._phase: TaskID | None = None

    def step(self, text: str) -> None:
        """Show that `text` is being done."""
        for task in (self._step, self._phase):
            if task is not None:
                self._bar.remove_task(task)
        self._step, self._phase = self._bar.add_task(text, total=None), None

    def phase(self, name: str, done: int, total: int) -> None:
        """Show how far a builder's phase is."""
        if self._phase is None:
            self._phase = self._bar.add_task(name)
        self._bar.update(self._phase, description=f"  {name}", completed=done, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
