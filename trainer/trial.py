"""Show the network one tile of every size that it will meet: some take a single size, and say so only then."""

import copy

import torch

from sennet_engine.errors import ConfigError
from sennet_trainer.inputs import ShapeYX
from sennet_trainer.network import Segmenter
from sennet_trainer.parts import steps_of
from sennet_trainer.settings import FitSettings


def check_sides(segmenter: Segmenter, settings: FitSettings, *, processes: int = 1) -> None:
    """Show `segmenter` tiles of the sides that `settings` name, for a training by so many processes.

    Raises:
        ConfigError: a side is no multiple of the network's stride, or the network does not take it.
    """
    tile = settings.validation.tile
    for name, side in (("crops.side", settings.crops.side), ("validation.tile", tile)):
        if side is not None and side % segmenter.stride:
            nearest = max(1, round(side / segmenter.stride)) * segmenter.stride
            raise ConfigError(f"{name}: got {side}, expected a multiple of {segmenter.stride}; try {nearest}")
    side = settings.crops.side
    _check_tile(segmenter, (side, side), "crops.side: choose the side that the network is made for")
    _check_last_step(segmenter, settings, processes=processes)
    if any(volume.role == "validation" for volume in settings.volumes):
        shown = tile or side + segmenter.stride
        advice = f"validation.tile: give one, such as {side}, to validate in tiles"
        _check_tile(segmenter, (shown, shown), advice)


def check_plane(segmenter: Segmenter, shape_yx: ShapeYX, settings: FitSettings) -> None:
    """Show `segmenter` a validation plane of `shape_yx` where it is smaller than a crop: decoders need some pixels.

    Raises:
        ConfigError: the network does not take it.
    """
    if settings.validation.tile is None and min(shape_yx) < settings.crops.side:
        height, width = (-(-extent // segmenter.stride) * segmenter.stride for extent in shape_yx)
        advice = f"validation.tile: give one, such as {settings.crops.side}, to mirror small planes up to it"
        _check_tile(segmenter, (height, width), advice)


def _check_last_step(segmenter: Segmenter, settings: FitSettings, *, processes: int) -> None:
    """Batch norm after global pooling has nothing to normalise by where the network is shown one crop at a time."""
    parts = [
        part
        for process in range(processes)
        for step in steps_of(settings, process=process, processes=processes)
        for part in step
    ]
    if min(len(part.crops) for part in parts) > 1:
        return
    grey = torch.zeros(1, segmenter.channels, settings.crops.side, settings.crops.side)
    try:
        with torch.inference_mode():
            copy.deepcopy(segmenter).train()(grey)  # a copy, whose running statistics may move
    except ValueError as error:
        raise ConfigError(
            f"crops.per_epoch and training.batch: got {settings.crops.per_epoch} and {settings.training.batch}, which "
            f"leave a step of one crop for one of {processes} process(es) with accumulate = "
            f"{settings.training.accumulate}, and this network cannot train on one ({error}); make per_epoch a "
            f"multiple of a batch of 2 or more for each"
        ) from error


def _check_tile(segmenter: Segmenter, shape_yx: ShapeYX, advice: str) -> None:
    grey = torch.zeros(1, segmenter.channels, *shape_yx)
    try:
        with torch.inference_mode():
            logits = segmenter.eval()(grey)
    except (RuntimeError, AssertionError, ValueError) as error:
        size = " × ".join(map(str, shape_yx))
        raise ConfigError(f"the network does not take tiles of {size} pixels ({error}); {advice}") from error
    if logits.shape[-2:] != grey.shape[-2:]:
        raise ConfigError(
            f"network: got logits of {tuple(logits.shape[-2:])} for tiles of {tuple(grey.shape[-2:])}, expected the "
            f"same size; set network.decoder_options, such as upsampling for PSPNet, to match encoder_depth"
        )
