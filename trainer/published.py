"""Networks that others have trained and published: their weights into a run folder, as if it had been trained here."""

import hashlib
import logging
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sennet_engine.errors import ModelError, OutputError
from sennet_engine.volumes.open import open_volume
from sennet_trainer.folder_lock import alone_in
from sennet_trainer.network import FULL_DEPTH, Segmenter, build_segmenter
from sennet_trainer.network_settings import NetworkSettings
from sennet_trainer.run_folder import begin_run, complete_run, new_record, run_to_go_on_with, save_network
from sennet_trainer.settings import FitSettings
from sennet_trainer.trial import check_sides

Tensors = dict[str, Tensor]

# Under which keys checkpoints keep the weights, the likeliest first.
NESTED = ("state_dict", "model_state_dict", "model", "network", "net", "weights")
# What the names of a network of segmentation_models_pytorch begin with, after the prefix that wrappers put before them.
PART = re.compile(r"(.*?)(?:encoder|decoder|segmentation_head)\.")
# What the safe loader says of an object that it would have to run code for.
UNSAFE = re.compile(r"(?:GLOBAL|class|function) ([\w.]+)")
# Tried in turn to tell which network weights are of that do not fit: those of the third-place solution, and usual ones.
KNOWN_ENCODERS = (
    "tu-maxvit_large_tf_512", "tu-seresnext101d_32x8d", "tu-tf_efficientnetv2_s", "tu-tf_efficientnetv2_l", "resnet18",
    "resnet34", "resnet50",
)  # fmt: skip
MOST_NAMED = 3

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Imported:
    """What was imported.

    Attributes:
        parameters: numbers that training had found.
        prefix: what the names in the file had before those of the network; "" where nothing.
        sha256: of the file.
    """

    parameters: int
    prefix: str
    sha256: str


def import_network(weights: Path, settings: FitSettings, run: Path, *, overwrite: bool = False) -> Imported:
    """Write the run folder `run` with the network of `settings` and the weights of the file `weights`.

    The run is complete at epoch 0, without scores; its threshold is `settings.validation.threshold_without`. Nothing in
    the file is executed.

    Raises:
        ModelError: the file cannot be read safely, or its weights are of another network (says how they differ).
        ConfigError: no such network, or one that does not take the tile of `settings`.
        VolumeError: the volume of `settings` cannot be opened.
        OutputError: the folder exists or cannot be written.
    """
    segmenter = build_segmenter(settings.network)
    tensors, prefix = published_tensors(weights)
    _fill(segmenter, tensors, settings.network, source=weights)
    check_sides(segmenter, settings)
    for volume in settings.volumes:
        with open_volume(volume.images):
            pass
    with weights.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    record = new_record(settings, {f"weights {weights.name}": sha256})
    with alone_in(run):
        there = run_to_go_on_with(run, record, overwrite=overwrite)
        if there is not None and there.complete:
            raise OutputError(f"{run}: exists already; choose another --out or replace it with --overwrite")
        begin_run(run, record)
        save_network(run, segmenter, epoch=0, score=None, threshold_without=settings.validation.threshold_without)
        complete_run(run, record)
    return Imported(sum(parameter.numel() for parameter in segmenter.parameters()), prefix, sha256)


def published_tensors(path: Path) -> tuple[Tensors, str]:
    """The weights in `path` by the names that segmentation_models_pytorch gives them, and the prefix they had.

    A state dict saved by torch.save, plain or within a checkpoint's dictionary, or a .safetensors file. Tensors without
    the prefix that most have keep their name.

    Raises:
        ModelError: it cannot be read, would run code, or holds no such network.
    """
    found = _state_dict(_loaded(path))
    prefixes = [match[1] for name in found if (match := PART.match(name))]
    if not prefixes:
        first = ", ".join(list(found)[:MOST_NAMED]) or "no tensor at all"
        raise ModelError(
            f"{path}: holds no network of segmentation_models_pytorch, whose tensors are named encoder..., decoder... "
            f"and segmentation_head...: got {first}"
        )
    prefix = max(sorted(set(prefixes)), key=prefixes.count)
    return {name.removeprefix(prefix): tensor for name, tensor in found.items()}, prefix


def _loaded(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error}); give a file of weights") from error
    except pickle.UnpicklingError as error:
        if unsafe := UNSAFE.search(str(error)):
            raise ModelError(
                f"{path}: holds a Python object ({unsafe[1]}) beside its tensors, and loading one can run any code; "
                f"where you trust the file, save its tensors alone: torch.save(model.state_dict(), PATH)"
            ) from error
        raise _not_weights(path) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        raise _not_weights(path) from error


def _not_weights(path: Path) -> ModelError:
    return ModelError(f"{path}: is not a file of PyTorch weights, or is damaged; expected what torch.save wrote")


def _state_dict(found: Any) -> Tensors:
    """The tensors of a state dict, which may lie within other things that a training kept."""
    if not isinstance(found, Mapping):
        return {}
    for key in NESTED:
        if isinstance(found.get(key), Mapping):
            return _state_dict(found[key])
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def _fill(segmenter: Segmenter, tensors: Tensors, settings: NetworkSettings, *, source: Path) -> None:
    """Load `tensors` into the network of `segmenter`. Raises ModelError unless they fit, to the last one."""
    wanted = segmenter.network.state_dict()
    missing = [name for name in wanted if name not in tensors]
    further = [name for name in tensors if name not in wanted]
    other = [
        f"{name} {_shape(tensors[name])} where {_shape(tensor)} belongs"
        for name, tensor in wanted.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if settings.encoder_depth < FULL_DEPTH and not missing:
        # Stages below the depth are built by others and dropped here: nothing reads their answers.
        left_out = [name for name in further if name.startswith("encoder.")]
        logger.info("%s: %d tensors of unused encoder stages are left out", source, len(left_out))
        further = [name for name in further if name not in left_out]
    if missing or further or other:
        network = f"{settings.decoder} with the encoder {settings.encoder!r} at depth {settings.encoder_depth}"
        lines = [_listed("missing", missing), _listed("unknown", further), _listed("of another shape", other)]
        advice = _advice(tensors, settings)
        raise ModelError("\n  ".join([f"{source}: is not of {network}", *filter(None, lines), advice]))
    if broken := [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]:
        raise ModelError(f"{source}: {_listed('not finite', broken)}; the file is damaged, or its training diverged")
    segmenter.network.load_state_dict({name: tensors[name] for name in wanted})
    segmenter.eval()


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    rest = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{len(names)} {what}: {', '.join(names[:MOST_NAMED])}{rest}"


def _shape(tensor: Tensor) -> str:
    return f"[{', '.join(map(str, tensor.shape))}]"


def _advice(tensors: Tensors, settings: NetworkSettings) -> str:
    """What to do about weights that do not fit: the network that they are of, where one of the known ones is."""
    head = tensors.get("segmentation_head.0.weight")
    stem = next((tensor for name, tensor in tensors.items() if name.startswith("encoder.") and tensor.ndim == 4), None)
    if head is not None and head.shape[0] != 1:
        return f"it answers with {head.shape[0]} classes; this project's networks tell one from the background"
    if stem is not None and stem.shape[1] == 3:
        return "its stem takes three channels; this project's networks take one"
    of_plus = any(name.startswith("decoder.blocks.x_0_0.") for name in tensors)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    decoder = "UnetPlusPlus" if of_plus else "Unet"
    for encoder in dict.fromkeys([settings.encoder, *KNOWN_ENCODERS]):
        with torch.device("meta"):
            candidate = build_segmenter(NetworkSettings(decoder=decoder, encoder=encoder)).network.state_dict()
        if {name: tensor.shape for name, tensor in candidate.items()} == shapes:
            return f"it is of: --decoder {decoder} --encoder {encoder}"
    return "give the --decoder, --encoder, --encoder-depth and --decoder-channels that it was trained with"
