"""A progress bar on stderr with the time to go."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def planes_progress(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (planes done, planes in all) that moves the bar; it shows nothing if `quiet`."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("planes,"),
        TimeElapsedColumn(), TextColumn("elapsed,"), TimeRemainingColumn(), TextColumn("to go"),
    )  # fmt: skip
    progress = Progress(*columns, console=Console(stderr=True), disable=quiet)
    task = progress.add_task(title, total=None)

    def on_planes(done: int, total: int) -> None:
        # Shown from the first call on: a command that fails before any work prints its error alone.
        progress.start()
        progress.update(task, completed=done, total=total)

    try:
        yield on_planes
    finally:
        if progress.live.is_started:
            progress.stop()
