"""One pass over the crops of an epoch: forward, backward, clip, step."""

import math
import signal
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
from torch.utils.data import DataLoader

from sennet_engine.errors import SennetError
from sennet_trainer.crops import EpochCrops
from sennet_trainer.losses.table import loss_from
from sennet_trainer.optimisation import TrainingState
from sennet_trainer.parts import steps_of
from sennet_trainer.processes import average_statistics
from sennet_trainer.settings import FitSettings


def train_epoch(
    state: TrainingState, crops: EpochCrops, settings: FitSettings, *, epoch: int, told: Callable[[float], None]
) -> float:
    """Move `state` by one step a batch of `crops`; tells the loss of every step and returns their mean.

    `epoch` counts from 0. What is random in the network depends on the seed, the epoch and the process alone.

    Raises:
        SennetError: a loss or a gradient is not finite.
    """
    training, accelerator = settings.training, state.accelerator
    steps = steps_of(settings, process=accelerator.process_index, processes=accelerator.num_processes)
    entropy = (settings.seed, epoch, accelerator.process_index)
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
    loss_of = loss_from(training.loss)
    batches = iter(
        DataLoader(
            crops,
            batch_sampler=[list(part.crops) for step in steps for part in step],
            num_workers=training.workers,
            worker_init_fn=_ignore_interrupts,
            pin_memory=accelerator.device.type == "cuda",
            generator=torch.Generator(),
        )
    )
    total = 0.0
    state.trained.train()
    for index, parts in enumerate(steps, start=1):
        state.optimizer.zero_grad(set_to_none=True)
        own = torch.zeros((), device=accelerator.device)
        for part in parts:
            grey, labels = next(batches)  # both uint8 [B, 1, side, side]; labels 0/1
            grey = grey.to(accelerator.device, non_blocking=True).float().contiguous(memory_format=torch.channels_last)
            labels = labels.to(accelerator.device, non_blocking=True).float()
            # Gradients gather over the parts; the last one averages them over the processes.
            with nullcontext() if part.last else accelerator.no_sync(state.trained):
                loss = loss_of(state.trained(grey).float(), labels) * part.weight
                accelerator.backward(loss)
            own += loss.detach()
        value = accelerator.reduce(own, reduction="mean").item()
        _check_finite(value, "a loss", step=index, epoch=epoch)
        # Of the gradients themselves: where the loss was scaled, they are unscaled first.
        norm = accelerator.clip_grad_norm_(state.segmenter.parameters(), training.gradient_clip)
        if not _may_overflow(state):
            _check_finite(norm.item(), "a gradient", step=index, epoch=epoch)
        state.optimizer.step()
        if not state.optimizer.step_was_skipped:
            state.scheduler.step()
            if state.average is not None:
                state.average.update_parameters(state.segmenter)
        total += value
        told(value)
    for network in filter(None, (state.segmenter, state.average)):
        average_statistics(network)
    return total / len(steps)


def _may_overflow(state: TrainingState) -> bool:
    """Whether the optimizer skips a step and the loss is scaled less, where a gradient is not finite.

    Below a scale of 1 it is not the scaling that makes it so.
    """
    scaler = state.accelerator.scaler
    return scaler is not None and scaler.get_scale() >= 1


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
