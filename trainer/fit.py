"""Train a network on crops of labelled volumes; a training that was interrupted goes on where it was."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader

from sennet_engine.errors import ConfigError, SennetError
from sennet_trainer.checkpoint import Progress, TrainingState, load_checkpoint, read_progress, save_checkpoint
from sennet_trainer.crops import EpochCrops
from sennet_trainer.device import mixed_precision
from sennet_trainer.encoder_weights import load_encoder_weights
from sennet_trainer.history import EpochRow, write_curve, write_metrics
from sennet_trainer.labelled_volume import cached_volume
from sennet_trainer.loss import LOSSES
from sennet_trainer.network import Segmenter, build_segmenter
from sennet_trainer.run_folder import (
    CACHE,
    CHECKPOINT,
    CURVE,
    METRICS,
    abandon_run,
    complete_run,
    save_network,
    start_run,
)
from sennet_trainer.settings import FitSettings, TrainingSettings
from sennet_trainer.validation import ValidationScore, validation_score


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

    On a CPU the result does not depend on interruptions or on the number of workers, to the bit.

    Raises:
        ConfigError: settings that do not fit together, or a network that cannot be built.
        VolumeError: a volume or its labels cannot be used.
        ModelError: the encoder's weights, or a checkpoint to go on from, cannot be used.
        OutputError: the folder cannot be written, or holds a run of other settings.
    """
    if settings.training.threads is not None:
        torch.set_num_threads(settings.training.threads)
    torch.manual_seed(settings.seed)
    segmenter = build_segmenter(settings.network)
    _check_sides(settings, segmenter)
    steps = -(-settings.crops.per_epoch // settings.training.batch)

    record = start_run(run, settings, overwrite=overwrite)
    if record.complete:
        progress = read_progress(run / CHECKPOINT)
        observer.starts(epochs_done=progress.epochs, epochs=settings.training.epochs, steps=steps)
        return progress
    resumes = (run / CHECKPOINT).exists()
    try:
        volumes = [cached_volume(volume, run / CACHE) for volume in settings.volumes]
        if not resumes:
            load_encoder_weights(segmenter, settings.network)
    except SennetError:
        if not resumes:
            abandon_run(run)
        raise
    training = [volume for volume in volumes if volume.settings.role == "train"]
    validation = [volume for volume in volumes if volume.settings.role == "validation"]

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
    complete_run(run, record)
    return progress


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
    loss_of = LOSSES[settings.training.loss]
    loader = DataLoader(
        crops,
        batch_size=settings.training.batch,
        num_workers=settings.training.workers,
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),
    )
    total = 0.0
    state.network.train()
    for grey, labels in loader:  # uint8 [B, 1, side, side], uint8 0/1 [B, 1, side, side]
        grey = grey.to(device, non_blocking=True).float().contiguous(memory_format=torch.channels_last)
        labels = labels.to(device, non_blocking=True).float()
        with mixed_precision(device):
            logits = state.network(grey)
        loss = loss_of(logits.float(), labels)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch annotates it in part
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), settings.training.gradient_clip)
        state.optimizer.step()
        state.scheduler.step()
        total += loss.item()
        observer.step(loss.item())
    return total / len(loader)


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


def _check_sides(settings: FitSettings, segmenter: Segmenter) -> None:
    """Show the network one tile of every size that it will meet: some take a single size, and say so only then."""
    tile = settings.validation.tile
    for name, side in (("crops.side", settings.crops.side), ("validation.tile", tile)):
        if side is not None and side % segmenter.stride:
            nearest = max(1, round(side / segmenter.stride)) * segmenter.stride
            raise ConfigError(f"{name}: got {side}, expected a multiple of {segmenter.stride}; try {nearest}")
    _check_side(segmenter, settings.crops.side, "crops.side: choose the side that the network is made for")
    if any(volume.role == "validation" for volume in settings.volumes):
        advice = f"validation.tile: give one, such as {settings.crops.side}, to validate in tiles"
        _check_side(segmenter, tile or settings.crops.side + segmenter.stride, advice)


def _check_side(segmenter: Segmenter, side: int, advice: str) -> None:
    grey = torch.zeros(1, segmenter.channels, side, side)
    try:
        with torch.inference_mode():
            logits = segmenter.eval()(grey)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(f"the network does not take tiles of {side} pixels ({error}); {advice}") from error
    if logits.shape[-2:] != grey.shape[-2:]:
        raise ConfigError(
            f"network: got logits of {tuple(logits.shape[-2:])} for tiles of {tuple(grey.shape[-2:])}, expected the "
            f"same size; set network.decoder_options, such as upsampling for PSPNet, to match encoder_depth"
        )
