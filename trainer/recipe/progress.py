"""A recipe on the terminal: a line for each stage, and a bar for what is at work, on stderr."""

import time
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Self

from rich.console import Console

from sennet_engine.cli.progress import planes_progress
from sennet_trainer.fit_progress import FitProgress
from sennet_trainer.recipe.record import StageRecord


class RecipeProgress:
    """An `Observer` of a recipe that draws; a context manager."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True, quiet=quiet)
        self._bar = ExitStack()
        self._drawn = ""

    def stage(self, name: str, state: str) -> None:
        self._console.print(f"{time.strftime('%H:%M:%S')}  {name}: {state}", highlight=False)

    def fits(self, name: str) -> AbstractContextManager[FitProgress]:
        return FitProgress(name, quiet=self._quiet)

    def planes(self, what: str, done: int, total: int) -> None:
        if what != self._drawn:
            self._bar.close()
            self._show = self._bar.enter_context(planes_progress(what, quiet=self._quiet))
            self._drawn = what
        self._show(done, total)

    def result(self, record: StageRecord) -> None:
        self._bar.close()
        self._drawn = ""
        figures = ", ".join(
            f"{name.replace('_', ' ')} {value:.4g}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"
            for name, value in record.result.items()
        )
        self._console.print(f"          {record.name}: {figures} ({record.seconds:.0f} s)", highlight=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
