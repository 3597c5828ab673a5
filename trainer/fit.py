"""Train a network on crops of labelled volumes; a training that was interrupted goes on where it was."""

import logging
import math
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader

from sennet_engine.errors import SennetError
from sennet_trainer.checkpoint import Progress, TrainingState, load_checkpoint, read_progress, save_checkpoint
from sennet_trainer.crops import EpochCrops
from sennet_trainer.curve import write_curve
from sennet_trainer.device import mixed_precision, precision_of
from sennet_trainer.encoder_weights import load_encoder_weights
from sennet_trainer.history import EpochRow, write_metrics
from sennet_trainer.inputs import check_inputs, input_fingerprints
from sennet_trainer.labelled_volume import LabelledVolume, cached_volume
from sennet_trainer.losses.table import loss_from
from sennet_trainer.network import Segmenter, build_segmenter
from sennet_trainer.run_folder import (
    CACHE,
    CHECKPOINT,
    CURVE,
    METRICS,
    RECORD,
    RunRecord,
    abandon_run,
    begin_run,
    complete_run,
    keep_caches,
    new_record,
    run_to_go_on_with,
    save_network,
)
from sennet_trainer.settings import FitSettings, TrainingSettings
from sennet_trainer.trial import check_plane, check_sides
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


def fit(
    settings: FitSettings, run: Path, *, device: torch.device, observer: Observer, overwrite: bool = False
) -> Progress:
    """Train as `settings` say into the folder `run`, which `load_run` then reads. A complete run is left as it is.

    With `overwrite` another run in the folder is deleted, as soon as all inputs have been read without an error.

    On a CPU the result does not depend on interruptions or on the number of workers, to the bit.

    Raises:
        ConfigError: settings that do not fit together, or a network that cannot be built.
        VolumeError: a volume or its labels cannot be used.
        ModelError: the encoder's weights, or a checkpoint to go on from, cannot be used.
        OutputError: the folder cannot be written, or holds a run of other settings or inputs.
        SennetError: the loss or its gradient is not finite.
    """
    if settings.training.threads is not None:
        torch.set_num_threads(settings.training.threads)
    torch.manual_seed(settings.seed)
    segmenter = build_segmenter(settings.network)
    check_sides(segmenter, settings)
    steps = -(-settings.crops.per_epoch // settings.training.batch)

    new = new_record(settings, input_fingerprints(settings))
    record = run_to_go_on_with(run, new, overwrite=overwrite)
    if record is not None and record.complete:
        progress = read_progress(run / CHECKPOINT)
        observer.starts(epochs_done=progress.epochs, epochs=settings.training.epochs, steps=steps)
        return progress
    resumes = record is not None and (run / CHECKPOINT).exists()
    for shape_yx in check_inputs(settings):
        check_plane(segmenter, shape_yx, settings)
    if not resumes:
        load_encoder_weights(segmenter, settings.network)
    volumes = _cached_volumes(run, new, overwrite=overwrite)

    training = [volume for volume in volumes if volume.settings.role == "train"]
    validation = [volume for volume in volumes if volume.settings.role == "validation"]

    logger.info("trains on %s in %s", device, precision_of(device))
    segmenter.to(device).to(memory_format=torch.channels_last)
    state = _initial_state(segmenter, settings.training, total_steps=settings.training.epochs * steps)
    progress = load_checkpoint(run / CHECKPOINT, state) if resumes else Progress()

    observer.starts(epochs_done=progress.epochs, epochs=settings.training.epochs, steps=steps)
    for epoch in range(progress.epochs, settings.training.epochs):
        started = time.monotonic()
        crops = EpochCrops(training, settings, epoch=epoch)
        loss = _train_epoch(state, crops, settings, epoch=epoch, device=device, observer=observer)
        score = None
        if validation and _is_validated(epoch, settings):
            score = validation_score(segmenter, validation, settings.validation, device=device)
        if not validation or _is_better(score, progress):
            save_network(run, segmenter, epoch=epoch + 1, score=score)
        row = EpochRow(
            epoch=epoch + 1,
            learning_rate=float(state.scheduler.get_last_lr()[0]),
            loss=loss,
            seconds=time.monotonic() - started,
        )
        progress = progress.advanced(_scored(row, score))
        save_checkpoint(run / CHECKPOINT, state, progress)
        write_metrics(progress.rows, run / METRICS)
        write_curve(progress.rows, run / CURVE)
        observer.epoch(progress.rows[-1])
    # A kill between the last checkpoint and these two would have left them short of a row.
    write_metrics(progress.rows, run / METRICS)
    write_curve(progress.rows, run / CURVE)
    complete_run(run, record or new)
    return progress


def _cached_volumes(run: Path, new: RunRecord, *, overwrite: bool) -> list[LabelledVolume]:
    """All volumes, cached in `run`, which is begun if it was not. A run to be replaced stands until they all are."""
    begun, replaces = (run / RECORD).exists(), (run / RECORD).exists() and overwrite
    if not begun:
        begin_run(run, new)
    try:
        volumes = [cached_volume(volume, run / CACHE) for volume in new.settings.volumes]
    except (SennetError, OSError):
        if not (run / CHECKPOINT).exists() and not replaces:
            abandon_run(run)
        raise
    if replaces:
        begin_run(run, new)
    keep_caches(run, [volume.folder for volume in volumes])
    return volumes


def _initial_state(segmenter: Segmenter, settings: TrainingSettings, *, total_steps: int) -> TrainingState:
    optimizer = torch.optim.AdamW(segmenter.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=total_steps)
    return TrainingState(segmenter, optimizer, scheduler)


def _train_epoch(
    state: TrainingState,
    crops: EpochCrops,
    settings: FitSettings,
    *,
    epoch: int,
    device: torch.device,
    observer: Observer,
) -> float:
    """One pass over `crops`; returns the mean loss. What is random in the network depends on seed and epoch alone."""
    torch.manual_seed(int(np.random.SeedSequence((settings.seed, epoch)).generate_state(1)[0]))
    loss_of = loss_from(settings.training.loss)
    loader = DataLoader(
        crops,
        batch_size=settings.training.batch,
        num_workers=settings.training.workers,
        worker_init_fn=_ignore_interrupts,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),
    )
    total = 0.0
    state.network.train()
    for step, (grey, labels) in enumerate(loader, start=1):  # both uint8 [B, 1, side, side]; labels 0/1
        grey = grey.to(device, non_blocking=True).float().contiguous(memory_format=torch.channels_last)
        labels = labels.to(device, non_blocking=True).float()
        with mixed_precision(device):
            logits = state.network(grey)
        loss = loss_of(logits.float(), labels)
        _check_finite(loss.item(), "a loss", step=step, epoch=epoch)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch annotates it in part
        norm = torch.nn.utils.clip_grad_norm_(state.network.parameters(), settings.training.gradient_clip)
        _check_finite(norm.item(), "a gradient", step=step, epoch=epoch)
        state.optimizer.step()
        state.scheduler.step()
        total += loss.item()
        observer.step(loss.item())
    return total / len(loader)


def _check_finite(value: float, what: str, *, step: int, epoch: int) -> None:
    """Raises SennetError before the weights are spoiled: a checkpoint of them could never go on."""
    if not math.isfinite(value):
        stands = f"the checkpoint of epoch {epoch} stands" if epoch else "there is no checkpoint yet"
        raise SennetError(
            f"training: got {what} of {value} at step {step} of epoch {epoch + 1}, expected a finite one; lower "
            f"training.learning_rate ({stands})"
        )


def _ignore_interrupts(_worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; only the training itself shall answer it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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
