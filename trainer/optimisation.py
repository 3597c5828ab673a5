"""All that changes from step to step: the network, its average, the optimizer, the learning rate, the loss scale."""

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from sennet_trainer.average import averaged
from sennet_trainer.device import precision_of
from sennet_trainer.network import Segmenter
from sennet_trainer.settings import FitSettings

AUTOCASTS = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}


@dataclass(frozen=True)
class TrainingState:
    """What changes from step to step.

    Attributes:
        segmenter: the network whose weights the optimizer moves.
        trained: calls the segmenter in the training's precision; its gradients are the mean over all processes.
        optimizer: skips a step whose gradients overflow in float16.
        scheduler: of the learning rate, one step a step.
        average: of the segmenter, where the settings ask for it.
        accelerator: knows the device, and scales the loss in float16.
    """

    segmenter: Segmenter
    trained: nn.Module
    optimizer: AcceleratedOptimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    average: AveragedModel | None
    accelerator: Accelerator

    @property
    def kept(self) -> Segmenter:
        """The network to be validated and kept: the average where there is one."""
        if self.average is None:
            return self.segmenter
        kept = self.average.module
        assert isinstance(kept, Segmenter)
        return kept


def initial_state(
    segmenter: Segmenter, settings: FitSettings, *, device: torch.device, total_steps: int
) -> TrainingState:
    """The state before the first of `total_steps` steps; the segmenter comes to lie on `device`.

    Where several processes train, all begin with the main one's weights.

    Raises:
        ConfigError: the device does not compute in the precision of the settings.
    """
    training = settings.training
    # accelerate keeps the precision of an earlier training in this process, and refuses another.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        cpu=device.type == "cpu", mixed_precision=AUTOCASTS[precision_of(device, training.precision)]
    )
    segmenter.to(device).to(memory_format=torch.channels_last)
    if accelerator.num_processes > 1 and _leaves_weights_untouched(segmenter, side=settings.crops.side):
        accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
    optimizer = torch.optim.AdamW(segmenter.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.learning_rate, total_steps=total_steps)
    # What accelerate prepares keeps the precision in its forward; the segmenter itself is to stay as it is.
    trained, prepared = accelerator.prepare(nn.Sequential(segmenter), optimizer)
    if isinstance(trained, DistributedDataParallel):
        trained.broadcast_buffers = False  # not from here on: `average_statistics` brings them together
    return TrainingState(
        segmenter=segmenter,
        trained=trained,
        optimizer=prepared,
        scheduler=scheduler,
        average=None if training.ema is None else averaged(segmenter, decay=training.ema),
        accelerator=accelerator,
    )


def _leaves_weights_untouched(segmenter: Segmenter, *, side: int) -> bool:
    """Whether some weights have no influence on the output: waiting for their gradients would be in vain."""
    grey = torch.zeros(1, segmenter.channels, side, side, device=next(segmenter.parameters()).device)
    segmenter.eval()(grey).sum().backward()
    untouched = any(one.grad is None for one in segmenter.parameters())
    segmenter.zero_grad(set_to_none=True)
    return untouched
