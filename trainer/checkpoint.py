"""All that a training needs to go on where it was, in one safetensors file. Pickles are neither written nor read."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sennet_engine.errors import ModelError
from sennet_trainer.history import EpochRow
from sennet_trainer.optimisation import TrainingState
from sennet_trainer.progress import Progress
from sennet_trainer.whole_file import write_whole

Tensors = dict[str, Tensor]

NETWORK, AVERAGE, OPTIMIZER = "network.", "average.", "optimizer."
# Under one key, since the order of several in a file changes from process to process.
FACTS = "facts"

logger = logging.getLogger(__name__)


def save_checkpoint(path: Path, state: TrainingState, progress: Progress) -> None:
    """Write everything that `load_checkpoint` reads; the file appears only when whole."""
    optimizer = state.optimizer.state_dict()
    tensors = {NETWORK + name: value for name, value in state.segmenter.state_dict().items()}
    if state.average is not None:
        tensors |= {AVERAGE + name: value for name, value in state.average.state_dict().items()}
    for index, moments in optimizer["state"].items():
        tensors |= {f"{OPTIMIZER}{index}.{name}": value for name, value in moments.items()}
    facts = {
        "progress": asdict(progress),
        "param_groups": optimizer["param_groups"],
        "scheduler": state.scheduler.state_dict(),
        "scaler": state.accelerator.scaler and state.accelerator.scaler.state_dict(),
        "processes": state.accelerator.num_processes,
    }
    save_tensors(path, tensors, facts)


def load_checkpoint(path: Path, state: TrainingState) -> Progress:
    """Bring `state` to that of the file `path`; returns how far it was.

    Raises:
        ModelError: the file is no safetensors file or not a checkpoint of this training.
    """
    tensors, facts = load_tensors(path)
    moments: dict[int, Tensors] = {}
    try:
        state.segmenter.load_state_dict(_under(NETWORK, tensors))
        if state.average is not None:
            state.average.load_state_dict(_under(AVERAGE, tensors))
        for name, value in _under(OPTIMIZER, tensors).items():
            index, _, moment = name.partition(".")
            moments.setdefault(int(index), {})[moment] = value
        state.optimizer.load_state_dict({"state": moments, "param_groups": facts["param_groups"]})
        state.scheduler.load_state_dict(facts["scheduler"])
        if state.accelerator.scaler is not None:
            state.accelerator.scaler.load_state_dict(facts["scaler"])
        progress = _progress_from(facts["progress"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: is not a checkpoint of this training ({error}); use --overwrite") from error
    before, now = facts.get("processes", 1), state.accelerator.num_processes
    if before != now:
        logger.warning("%s: %d processes then, %d now, so the bits may differ", path, before, now)
    return progress


def read_progress(path: Path) -> Progress:
    """How far the training is whose checkpoint is `path`: nothing but the metadata counts.

    Raises:
        ModelError: as `load_checkpoint`.
    """
    _, facts = load_tensors(path)
    try:
        return _progress_from(facts["progress"])
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path}: is not a checkpoint ({error!r}); start anew with --overwrite") from error


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors with JSON facts in the file's metadata; the file appears only when whole.

    Equal tensors and facts give equal bytes.
    """
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_whole(path, save(whole, metadata={FACTS: json.dumps(facts)}))


def load_tensors(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """What `save_tensors` wrote.

    Raises:
        ModelError: there is no such file, or it is not a safetensors file with JSON in its metadata.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return tensors, facts.get(FACTS, facts)  # files of earlier versions have a key for each fact
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file; train with `sennet-train fit` first") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"{path}: is not a safetensors file of this project ({error}); pickled files are never loaded"
        ) from error


def _under(prefix: str, tensors: Tensors) -> Tensors:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _progress_from(facts: dict[str, Any]) -> Progress:
    return Progress(tuple(EpochRow(**row) for row in facts["rows"]), facts["best_surface_dice"])
