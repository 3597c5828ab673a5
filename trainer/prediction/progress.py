"""A prediction on the terminal: a bar of planes for each thing that is done, on stderr."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from sennet_engine.cli.progress import planes_progress
from sennet_trainer.prediction.passes import Observer


@contextmanager
def prediction_progress(*, quiet: bool) -> Iterator[Observer]:
    """Yield an `Observer` that draws; it shows nothing if `quiet`."""
    with ExitStack() as bar:
        drawn = ""
        show = bar.enter_context(planes_progress(drawn, quiet=True))

        def on_planes(what: str, done: int, total: int) -> None:
            nonlocal drawn, show
            if what != drawn:
                bar.close()
                show = bar.enter_context(planes_progress(what, quiet=quiet))
                drawn = what
            show(done, total)

        yield on_planes
