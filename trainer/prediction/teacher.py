"""A teacher: a trained network that predicts volumes, be it a training run or an exported bundle."""

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sennet_engine.bundle import CARD_NAME, open_bundle
from sennet_engine.card import Threshold
from sennet_engine.errors import ModelError
from sennet_engine.predictor import Predictor
from sennet_engine.runtimes import open_predictor
from sennet_trainer.prediction.torch_predictor import TorchPredictor
from sennet_trainer.run_folder import NETWORK, RECORD, THRESHOLD, load_run
from sennet_trainer.whole_file import write_whole

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Teacher:
    """What is known of a trained network before it predicts.

    Attributes:
        path: a run folder or a model bundle.
        sha256: of the file with its weights: network.safetensors of a run, the fp32 ONNX file of a bundle.
        side, stride: of its tiles, and of the network; see `sennet_engine.card.Tiling`.
        halo: that it needs to be exact on tiles; None where it never is or nobody measured it, and tiles are blended.
        threshold: its own, as validated or as its card says.
        voxel_size_um: the magnification that it was trained for, micrometres a pixel.
    """

    name: str
    path: Path
    sha256: str
    side: int
    halo: int | None
    stride: int
    threshold: Threshold
    voxel_size_um: float


def teacher_from_path(path: Path) -> Teacher:
    """The teacher in the folder `path`: a run with a trained network, or a model bundle.

    Raises:
        ModelError: neither of them is there, or its files are missing, damaged or do not belong together.
    """
    return _kind_of(path).describe(path)


def open_teacher(teacher: Teacher, *, device: torch.device) -> AbstractContextManager[Predictor]:
    """Load the network of `teacher`: a run in torch on `device`, a bundle in the engine's runtime on the processor.

    Raises:
        ModelError: as `teacher_from_path`.
    """
    return _kind_of(teacher.path).load(teacher, device)


def keep_threshold(path: Path, threshold: Threshold, *, volume: str) -> Path:
    """Make `threshold` the own one of the network in the folder `path`; returns the file that says so.

    A run gets the file threshold.json, which names the `volume` that it was found on; a bundle gets it on its card.

    Raises:
        ModelError: as `teacher_from_path`.
        OSError: the file cannot be written; the former one stands.
    """
    return _kind_of(path).keep_threshold(path, threshold, volume)


@dataclass(frozen=True)
class _Kind:
    """One kind of folder that holds a network."""

    marker: str
    describe: Callable[[Path], Teacher]
    load: Callable[[Teacher, torch.device], AbstractContextManager[Predictor]]
    keep_threshold: Callable[[Path, Threshold, str], Path]


def _kind_of(path: Path) -> _Kind:
    for kind in (RUN, BUNDLE):
        if (path / kind.marker).exists():
            return kind
    raise ModelError(
        f"{path}: holds neither {RECORD} nor {CARD_NAME}; give the folder of a training run or a model bundle"
    )


def _described_run(path: Path) -> Teacher:
    trained = load_run(path)
    if not trained.complete:
        logger.warning("%s is not finished: predicting with the network of epoch %d", path, trained.epoch)
    stride = trained.segmenter.stride
    side = trained.settings.validation.tile or trained.settings.crops.side
    return Teacher(
        name=trained.name,
        path=path,
        sha256=hashlib.sha256((path / NETWORK).read_bytes()).hexdigest(),
        side=side,
        halo=None,
        stride=stride,
        threshold=trained.threshold,
        voxel_size_um=trained.voxel_size_um,
    )


def _described_bundle(path: Path) -> Teacher:
    bundle = open_bundle(path)
    card = bundle.card
    return Teacher(
        name=card.name,
        path=path,
        sha256=card.files[bundle.onnx_name()].sha256,
        side=card.tiling.default_side,
        halo=card.tiling.halo if card.tiling.exact else None,
        stride=card.tiling.stride,
        threshold=card.threshold,
        voxel_size_um=card.voxel_size_um,
    )


def _loaded_run(teacher: Teacher, device: torch.device) -> AbstractContextManager[Predictor]:
    return TorchPredictor(load_run(teacher.path).segmenter, device=device)


def _loaded_bundle(teacher: Teacher, _device: torch.device) -> AbstractContextManager[Predictor]:
    return open_predictor(open_bundle(teacher.path))


def _threshold_beside_run(path: Path, threshold: Threshold, volume: str) -> Path:
    return _written(path / THRESHOLD, threshold.model_dump() | {"volume": volume})


def _threshold_on_card(path: Path, threshold: Threshold, _volume: str) -> Path:
    card = open_bundle(path).card.model_copy(update={"threshold": threshold})
    return _written(path / CARD_NAME, card.model_dump(mode="json"))


def _written(path: Path, facts: dict[str, Any]) -> Path:
    write_whole(path, (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode())
    return path


RUN = _Kind(RECORD, _described_run, _loaded_run, _threshold_beside_run)
BUNDLE = _Kind(CARD_NAME, _described_bundle, _loaded_bundle, _threshold_on_card)
