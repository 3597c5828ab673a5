"""The exponential moving average of a network's weights, which is steadier than the weights of any one step."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged(network: nn.Module, *, decay: float) -> AveragedModel:
    """A copy of `network` as `module`, which `update_parameters(network)` moves towards it by 1 - decay a step.

    In its first steps it moves faster, by 9 / (10 + steps): else a short training would keep its random start for long.
    The running statistics of batch norm are averaged as the weights are. They describe what the weights of the last
    dozen steps brought forth, which is not what the averaged weights do; their average over the same steps is near it.
    """

    def average(kept: Tensors, current: Tensors, steps: Tensor | int) -> None:
        if kept[0].is_floating_point():
            taken = int(steps)
            share = 1 - min(decay, (1 + taken) / (10 + taken))
            torch._foreach_lerp_(list(kept), list(current), share)
        else:
            torch._foreach_copy_(list(kept), list(current))

    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)
