"""Several processes may train one network: the main one writes and speaks, the others wait and learn the outcome.

They are started by `accelerate launch` or torchrun, on one machine or on several that share the folders of the run and
of the cache. A process that was started alone is the main one.
"""

import gc
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed.nn  # its functions would keep the group for good, were they imported after it was made
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, reduce
from torch import distributed, nn

from sennet_engine.errors import SennetError

Result = TypeVar("Result")

# The others wait while volumes are cached and planes are validated. A process that dies is the launcher's to notice.
LONGEST_WAIT = timedelta(days=365)


def join_processes(device: torch.device) -> torch.device:
    """Meet the other processes of this launch, if there are any; returns the device of `device`'s kind that is ours.

    To be called before anything else of this module. Later calls find the processes already met.
    """
    if not _together():
        # accelerate remembers the device and precision of this process's last training.
        AcceleratorState._reset_state(reset_partial_state=True)
    state = PartialState(cpu=device.type == "cpu", timeout=LONGEST_WAIT)
    own: torch.device = state.device
    return own


def leave_processes() -> None:
    """Part from the other processes, at the end of the command, when its networks are not needed any more.

    The threads of Gloo end with the last reference to the group, which networks hold. One that still ran while the
    interpreter ends would abort the process (https://github.com/pytorch/pytorch/pull/179291).
    """
    if _together():
        distributed.destroy_process_group()
        gc.collect()


def is_main() -> bool:
    """Whether this process is the one that writes and speaks."""
    return not _together() or distributed.get_rank() == 0


def process_count() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if _together() else 1


def process_index() -> int:
    """Which of them this one is, from 0, the main one."""
    return distributed.get_rank() if _together() else 0


def only_main(work: Callable[[], Result]) -> Result:
    """What `work` returns or raises, in every process, although only the main one does it; the others wait.

    The result travels as a copy, so let it be facts.
    """
    if not _together():
        return work()
    outcome: list[Any] = [None]
    if is_main():
        try:
            outcome = [(work(), None)]
        except (SennetError, OSError) as problem:
            outcome = [(None, problem)]
    broadcast_object_list(outcome)
    result, error = outcome[0]
    if error is not None:
        raise error
    return cast(Result, result)


def average_statistics(network: nn.Module) -> None:
    """Let the running statistics of batch norm be their mean over the processes, each of which saw its own crops."""
    if _together():
        for name, buffer in network.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.copy_(reduce(buffer, reduction="mean"))


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()
