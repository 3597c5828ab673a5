"""From a trained run to a model bundle whose every file has passed its gate."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import onnxruntime
import torch
from safetensors.torch import save

import sennet_engine
from sennet_engine.bundle import CARD_NAME, open_bundle
from sennet_engine.card import ModelCard, ModelFile, Parity
from sennet_engine.errors import ConfigError, ModelError, OutputError
from sennet_engine.output_folder import FolderKind, output_folder, refuse_existing
from sennet_export.calibration import Calibration, read_calibration
from sennet_export.graph import accepted_sides, onnx_from_segmenter
from sennet_export.halo import measured_tiling
from sennet_export.parity import measured_parity, refuse_unequal
from sennet_trainer.run_folder import TrainedRun, load_run

logger = logging.getLogger(__name__)

ONNX_NAME, WEIGHTS_NAME = "model.onnx", "weights.safetensors"
BUNDLE = FolderKind(marker=CARD_NAME, others=(ONNX_NAME, WEIGHTS_NAME))
SUFFIX = ".model"


@dataclass(frozen=True)
class ExportSettings:
    """What a person asks for.

    Attributes:
        out: the bundle's folder, NAME.model.
        calibration: a volume whose planes the model is measured on; by default the first validation volume of the
            run, else its first training volume.
        halo_tolerance: grey levels by which a tile may differ from the whole plane at the halo's inner edge.
        description: one sentence for the card.
    """

    out: Path
    overwrite: bool = False
    calibration: Path | None = None
    halo_tolerance: int = 1
    description: str = ""


def export_run(run: Path, settings: ExportSettings, *, on_step: Callable[[str], None]) -> ModelCard:
    """Write the bundle `settings.out` from the run folder `run`, and return its card.

    Raises:
        ModelError: the run cannot be loaded, or saw inverted volumes alone.
        VolumeError: the calibration volume cannot be read.
        GateError: the exported file does not answer as the network does. No file is left then.
        OutputError: the folder exists or cannot be written.
    """
    out = settings.out
    if out.suffix != SUFFIX:
        raise OutputError(f"--out: got {out.name!r}, expected a name that ends in {SUFFIX} ({out.stem}{SUFFIX})")
    if not 0 <= settings.halo_tolerance <= 255:
        raise ConfigError(f"halo tolerance: got {settings.halo_tolerance}, expected grey levels from 0 to 255")
    refuse_existing(out, BUNDLE, overwrite=settings.overwrite)
    on_step("loading the run")
    trained = load_run(run)
    if all(volume.invert for volume in trained.settings.volumes if volume.role == "train"):
        raise ModelError(
            f"{run}: was trained on inverted volumes alone, and a bundle cannot say that its input is to be inverted; "
            f"invert the volumes themselves, train on them and segment inverted volumes"
        )
    if not trained.complete:
        logger.warning(
            "%s is not finished: exporting what it has, the network of epoch %d; `sennet-train fit` goes on with it",
            run, trained.epoch,
        )  # fmt: skip
    calibration = read_calibration(settings.calibration or _own_volume(trained))
    with output_folder(out, BUNDLE, overwrite=settings.overwrite) as folder:
        _write_bundle(folder, trained, calibration, settings, on_step)
    return open_bundle(out).card


def _write_bundle(
    folder: Path,
    trained: TrainedRun,
    calibration: Calibration,
    settings: ExportSettings,
    on_step: Callable[[str], None],
) -> None:
    segmenter, trained_side = trained.segmenter, trained.settings.crops.side
    onnx_path = folder / ONNX_NAME
    on_step("writing the ONNX graph")
    sides = accepted_sides(segmenter, trained_side=trained_side)
    onnx_from_segmenter(segmenter, onnx_path, sides=sides)
    on_step("measuring the halo")
    tiling = measured_tiling(
        onnx_path, calibration, sides=sides, stride=segmenter.stride, trained_side=trained_side,
        tolerance=settings.halo_tolerance,
    )  # fmt: skip
    on_step("comparing it with the network")
    parity = measured_parity(
        segmenter, onnx_path, calibration, sides=tiling.sides, trained_side=trained_side,
        threshold=trained.threshold.value,
    )  # fmt: skip
    refuse_unequal(parity, ONNX_NAME)
    (folder / WEIGHTS_NAME).write_bytes(save(segmenter.state_dict()))
    network = trained.settings.network
    card = ModelCard(
        name=settings.out.stem,
        description=settings.description,
        decoder=network.decoder,
        encoder=network.encoder,
        normalisation=network.normalisation,
        voxel_size_um=trained.voxel_size_um,
        shown_voxel_sizes_um=trained.settings.shown_voxel_sizes_um,
        tiling=tiling,
        threshold=trained.threshold,
        files={
            ONNX_NAME: _model_file(onnx_path, "onnx", parity),
            WEIGHTS_NAME: _model_file(folder / WEIGHTS_NAME, "weights", None),
        },
        epoch=trained.epoch,
        trained_on=[_named(volume.images) for volume in trained.settings.volumes if volume.role == "train"],
        scores=trained.scores,
        versions=trained.versions
        | {
            "sennet": sennet_engine.__version__,
            "torch at export": torch.__version__,
            "onnx": version("onnx"),
            "onnxruntime at export": onnxruntime.__version__,
        },
    )
    text = json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False)
    (folder / CARD_NAME).write_text(text + "\n", encoding="utf-8")


def _model_file(path: Path, kind: Literal["weights", "onnx"], parity: Parity | None) -> ModelFile:
    content = path.read_bytes()
    return ModelFile(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content), kind=kind, parity=parity)


def _own_volume(trained: TrainedRun) -> Path:
    volumes = sorted(trained.settings.volumes, key=lambda volume: volume.role != "validation")
    return volumes[0].images


def _named(path: Path) -> str:
    """The folder and the file, without the machine's own path."""
    return "/".join(path.parts[-2:])
