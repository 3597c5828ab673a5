"""The course of a training for TensorBoard: the scores of the epochs as curves."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from sennet_engine.errors import MissingExtraError
from sennet_trainer.history import EpochRow

ADVICE = "training.tensorboard: the package tensorboard is not installed; run: pip install 'sennet[tensorboard]'"


def check_tensorboard() -> None:
    """Whether TensorBoard's files can be written here.

    Raises:
        MissingExtraError: its package is not installed.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401 - importing it is the check
    except ImportError as error:
        raise MissingExtraError(ADVICE) from error


@contextmanager
def tensorboard_curves(folder: Path, rows: Sequence[EpochRow]) -> Iterator[Callable[[EpochRow], None]]:
    """Begin `folder` anew with `rows`; gives the function that adds a row.

    The files in it only grow, and after a kill they may have an epoch too many or too few: the rows are the truth.
    """
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(folder, ignore_errors=True)
    with SummaryWriter(str(folder)) as writer:

        def add(row: EpochRow) -> None:
            for name, value in asdict(row).items():
                if name != "epoch" and value is not None:
                    writer.add_scalar(name, value, row.epoch)
            writer.flush()

        for row in rows:
            add(row)
        yield add


@contextmanager
def no_curves(_folder: Path, _rows: Sequence[EpochRow]) -> Iterator[Callable[[EpochRow], None]]:
    """In the place of `tensorboard_curves` where there shall be none."""
    yield lambda _row: None
