"""Train a network on crops of labelled volumes; a training that was interrupted goes on where it was."""

import logging
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from sennet_trainer.beginning import Beginning, SharedInputs, begin
from sennet_trainer.checkpoint import load_checkpoint, save_checkpoint
from sennet_trainer.crops import EpochCrops
from sennet_trainer.curve import write_curve
from sennet_trainer.device import precision_of
from sennet_trainer.epoch import train_epoch
from sennet_trainer.folder_lock import alone_in
from sennet_trainer.history import EpochRow, write_metrics
from sennet_trainer.network import Segmenter, build_segmenter
from sennet_trainer.optimisation import TrainingState, initial_state
from sennet_trainer.parts import check_parts, steps_of
from sennet_trainer.processes import is_main, join_processes, only_main, process_count
from sennet_trainer.progress import Progress
from sennet_trainer.run_folder import CHECKPOINT, CURVE, METRICS, TENSORBOARD, complete_run, save_network
from sennet_trainer.settings import FitSettings
from sennet_trainer.tensorboard import check_tensorboard, no_curves, tensorboard_curves
from sennet_trainer.trial import check_sides
from sennet_trainer.validation import ValidationScore, validation_score

logger = logging.getLogger(__name__)


class Observer(Protocol):
    """Is told how a training goes."""

    def starts(self, *, epochs_done: int, epochs: int, steps: int) -> None:
        """Training begins after `epochs_done` of `epochs` epochs, each of `steps` steps."""

    def step(self, loss: float) -> None:
        """One step was taken."""

    def epoch(self, row: EpochRow) -> None:
        """One epoch is finished and its checkpoint is written."""


class Unobserved:
    """The observer of a process that is not the main one."""

    def starts(self, *, epochs_done: int, epochs: int, steps: int) -> None:
        pass

    def step(self, loss: float) -> None:
        pass

    def epoch(self, row: EpochRow) -> None:
        pass


def fit(
    settings: FitSettings,
    run: Path,
    *,
    device: torch.device,
    observer: Observer,
    overwrite: bool = False,
    shared: SharedInputs | None = None,
) -> Progress:
    """Train as `settings` say into the folder `run`, which `load_run` then reads. A complete run is left as it is.

    With `overwrite` another run in the folder is deleted, as soon as all inputs have been read without an error. The
    volumes are cached within the run, or where `shared` says.

    Where `accelerate launch` or torchrun started several processes, they train together, each on its share of every
    batch; all of them must see the same folders. Only the main one writes, and tells its observer.

    On a CPU the result does not depend on interruptions or on the number of workers, to the bit. It depends on the
    number of processes and of parts: batch norm and most losses look at the crops of one part at a time.

    Raises:
        ConfigError: settings that do not fit together, or a network that cannot be built.
        VolumeError: a volume or its labels cannot be used.
        ModelError: the weights to start from, or a checkpoint to go on from, cannot be used.
        OutputError: the folder cannot be written, or holds a run of other settings or inputs.
        MissingExtraError: a package that the settings ask for is not installed.
        SennetError: the loss or its gradient is not finite.
    """
    device = join_processes(device)
    told = observer if is_main() else Unobserved()
    if settings.training.threads is not None:
        torch.set_num_threads(settings.training.threads)
    precision_of(device, settings.training.precision)  # refused before any work, if at all
    if settings.training.tensorboard:
        check_tensorboard()
    torch.manual_seed(settings.seed)
    segmenter = build_segmenter(settings.network)
    check_parts(settings, processes=process_count())
    check_sides(segmenter, settings, processes=process_count())
    with ExitStack() as stack:
        only_main(lambda: stack.enter_context(alone_in(run)))
        beginning = only_main(partial(begin, segmenter, settings, run, overwrite=overwrite, shared=shared))
        return _trained(segmenter, settings, beginning, device=device, told=told)


def _trained(
    segmenter: Segmenter, settings: FitSettings, beginning: Beginning, *, device: torch.device, told: Observer
) -> Progress:
    """Take all steps that are still to be taken."""
    run, epochs, steps = beginning.run, settings.training.epochs, len(steps_of(settings))
    if beginning.record.complete:
        told.starts(epochs_done=beginning.progress.epochs, epochs=epochs, steps=steps)
        return beginning.progress

    logger.info("trains on %s in %s", device, precision_of(device, settings.training.precision))
    state = initial_state(segmenter, settings, device=device, total_steps=epochs * steps)
    progress = load_checkpoint(run / CHECKPOINT, state) if beginning.resumes else beginning.progress
    curves = tensorboard_curves if settings.training.tensorboard and is_main() else no_curves

    told.starts(epochs_done=progress.epochs, epochs=epochs, steps=steps)
    with curves(run / TENSORBOARD, progress.rows) as draw:
        for epoch in range(progress.epochs, epochs):
            started = time.monotonic()
            crops = EpochCrops(beginning.of_role("train"), settings, epoch=epoch)
            loss = train_epoch(state, crops, settings, epoch=epoch, told=told.step)
            progress = only_main(partial(_keep_epoch, state, progress, beginning, loss=loss, started=started))
            draw(progress.rows[-1])
            told.epoch(progress.rows[-1])
    only_main(partial(_complete, progress, beginning))
    return progress


def _keep_epoch(
    state: TrainingState, progress: Progress, beginning: Beginning, *, loss: float, started: float
) -> Progress:
    """Validate, and write all that the next epoch or a next start needs; returns how far the training is now."""
    run, settings, epoch = beginning.run, beginning.record.settings, progress.epochs
    validation = beginning.of_role("validation")
    score = None
    if validation and _is_validated(epoch, settings):
        score = validation_score(state.kept, validation, settings.validation, device=state.accelerator.device)
    if not validation or _is_better(score, progress):
        without = settings.validation.threshold_without
        save_network(run, state.kept, epoch=epoch + 1, score=score, threshold_without=without)
    row = EpochRow(
        epoch=epoch + 1,
        learning_rate=float(state.scheduler.get_last_lr()[0]),
        loss=loss,
        seconds=time.monotonic() - started,
    )
    progress = progress.advanced(_scored(row, score))
    save_checkpoint(run / CHECKPOINT, state, progress)
    _write_rows(progress, run)
    return progress


def _complete(progress: Progress, beginning: Beginning) -> None:
    # A kill right after the last checkpoint would have left these short of a row.
    _write_rows(progress, beginning.run)
    complete_run(beginning.run, beginning.record)


def _write_rows(progress: Progress, run: Path) -> None:
    write_metrics(progress.rows, run / METRICS)
    write_curve(progress.rows, run / CURVE)


def _scored(row: EpochRow, score: ValidationScore | None) -> EpochRow:
    if score is None:
        return row
    best = score.threshold
    return replace(
        row, surface_dice=score.surface_dice, dice=score.dice, threshold=best.value, low=best.low, high=best.high
    )


def _is_validated(epoch: int, settings: FitSettings) -> bool:
    return (epoch + 1) % settings.validation.every == 0 or epoch + 1 == settings.training.epochs


def _is_better(score: ValidationScore | None, progress: Progress) -> bool:
    if score is None:
        return False
    return progress.best_surface_dice is None or score.surface_dice > progress.best_surface_dice
