"""From a trained run to its fp32 graph, proven equal to the network in torch, with its weights and its card."""

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save

from sennet_engine.card import ModelCard
from sennet_engine.errors import ModelError, VolumeError
from sennet_export.answers import Tiles, answers_of_segmenter, cpu_runtimes
from sennet_export.calibration import Calibration, read_calibration
from sennet_export.errors import GateError
from sennet_export.files import ONNX_NAMES, WEIGHTS_NAME, model_file, versions_at_export
from sennet_export.gate import LIMITS, Gate, fault
from sennet_export.graph import accepted_sides, onnx_from_segmenter
from sennet_export.halo import measured_tiling
from sennet_export.settings import ExportSettings
from sennet_trainer.run_folder import TrainedRun, load_run

logger = logging.getLogger(__name__)

OnStep = Callable[[str], None]


def write_fp32(
    run: Path, folder: Path, *, name: str, settings: ExportSettings, on_step: OnStep
) -> tuple[ModelCard, Calibration]:
    """Write the ONNX file and the weights of `run` into `folder`; the card that tells of them, and what they were
    measured on.

    Raises:
        ModelError: the run cannot be loaded, saw inverted volumes alone, or cannot be written as ONNX.
        ConfigError: a tile side that the network does not take.
        VolumeError: the calibration volume cannot be read.
        GateError: the graph does not answer as the network does.
    """
    on_step("loading the run")
    trained = load_run(run)
    _refuse_inverted(run, trained)
    if not trained.complete:
        logger.warning(
            "%s is not finished: exporting what it has, the network of epoch %d; `sennet-train fit` goes on with it",
            run, trained.epoch,
        )  # fmt: skip
    segmenter, trained_side = trained.segmenter, trained.settings.crops.side
    calibration = read_calibration(settings.calibration) if settings.calibration else _own_calibration(trained)
    sides = accepted_sides(segmenter, trained_side=trained_side, asked=settings.tiles)
    (folder / WEIGHTS_NAME).write_bytes(save(segmenter.state_dict()))
    onnx_path = folder / ONNX_NAMES["fp32"]
    on_step("writing the graph")
    graph = onnx_from_segmenter(segmenter, sides=sides)
    onnx_path.write_bytes(graph.SerializeToString())
    on_step("measuring the halo")
    tiling = measured_tiling(
        graph, calibration, sides=sides, asked=settings.tiles, stride=segmenter.stride, trained_side=trained_side,
        tolerance=1 if settings.halo_tolerance is None else settings.halo_tolerance,
    )  # fmt: skip
    on_step("comparing it with the network")
    tiles = gate_tiles(calibration, main_side=trained_side, sides=tiling.sides)
    gate = Gate(
        tiles, answers_of_segmenter(segmenter, tiles), side=trained_side, threshold=trained.threshold.value,
        source=calibration.source, against=f"torch {torch.__version__}, fp32, CPU",
    )  # fmt: skip
    measurement = gate.measured(graph, cpu_runtimes(settings.targets))
    if reason := fault(measurement, LIMITS["fp32"]):
        raise GateError(f"{onnx_path.name}: {reason}; nothing was written")
    network = trained.settings.network
    card = ModelCard(
        name=name,
        description=settings.description,
        decoder=network.decoder,
        encoder=network.encoder,
        normalisation=network.normalisation,
        voxel_size_um=trained.voxel_size_um,
        shown_voxel_sizes_um=trained.settings.shown_voxel_sizes_um,
        tiling=tiling,
        threshold=trained.threshold,
        files={
            onnx_path.name: model_file(onnx_path, kind="onnx", parity=measurement.parity),
            WEIGHTS_NAME: model_file(folder / WEIGHTS_NAME, kind="weights"),
        },
        epoch=trained.epoch,
        trained_on=[_named(volume.images) for volume in trained.settings.volumes if volume.role == "train"],
        scores=trained.scores,
        versions=trained.versions | versions_at_export() | {"torch at export": torch.__version__},
    )
    return card, calibration


def gate_tiles(calibration: Calibration, *, main_side: int, sides: list[int]) -> dict[int, Tiles]:
    """Tiles by side: one of every plane at `main_side`, a single one at the others."""
    return {side: calibration.squares(side)[: None if side == main_side else 1] for side in {main_side, *sides}}


def _refuse_inverted(run: Path, trained: TrainedRun) -> None:
    if all(volume.invert for volume in trained.settings.volumes if volume.role == "train"):
        raise ModelError(
            f"{run}: was trained on inverted volumes alone, and a bundle cannot say that its input is to be inverted; "
            f"invert the volumes themselves, train on them and segment inverted volumes"
        )


def _own_calibration(trained: TrainedRun) -> Calibration:
    """Planes of the run's first validation volume, else of its first training volume."""
    volume = min(trained.settings.volumes, key=lambda volume: volume.role != "validation")
    try:
        return read_calibration(volume.images, invert=volume.invert)
    except VolumeError as error:
        raise VolumeError(f"{error}; the run was trained with it: name another volume by --calibration") from error


def _named(path: Path) -> str:
    """The folder and the file, without the machine's own path."""
    return "/".join(path.parts[-2:])
