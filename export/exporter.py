"""From a trained run, or a bundle, to a bundle whose every file has passed its gate."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import onnx

from sennet_engine.bundle import CARD_NAME, Bundle, open_bundle
from sennet_engine.card import ModelCard, ModelFile, Tiling
from sennet_engine.engine_file import facts_path
from sennet_engine.errors import ConfigError
from sennet_engine.output_folder import output_folder, refuse_existing
from sennet_export.calibration import Calibration, phantom_calibration, read_calibration
from sennet_export.engine_files import built_engines, write_golden
from sennet_export.engines.products import open_product
from sennet_export.files import BUNDLE, GOLDEN_NAME, versions_at_export
from sennet_export.fp32 import write_fp32
from sennet_export.precisions import MadeFile, PrecisionMaker
from sennet_export.settings import SUFFIX, ExportSettings
from sennet_export.table import Row

OnStep = Callable[[str], None]
OnPhase = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Exported:
    """What an export wrote: the bundle, its card, a row for every file, and what the gate refused on the way."""

    path: Path
    card: ModelCard
    rows: list[Row]
    refused: list[str]


def export_model(source: Path, settings: ExportSettings, *, on_step: OnStep, on_phase: OnPhase) -> Exported:
    """Write the bundle `settings.out` from the run folder or the bundle `source`.

    A bundle keeps its files, except those that are made anew. Where it is written into itself, the folder is replaced
    whole at the end.

    Args:
        on_step: called with what is being done.
        on_phase: called with a builder's phase, and how many of how many steps of it are done.

    Raises:
        ModelError: `source` is neither, cannot be loaded, or holds an operator that the format or the builder lacks.
        ConfigError: a tile side that the network does not take.
        VolumeError: the calibration volume cannot be read.
        MissingExtraError: the product of a target is not installed.
        GateError: a file does not answer as the network does. Nothing is written then.
        OutputError: the folder exists or cannot be written.
    """
    is_bundle = (source / CARD_NAME).exists()
    out = settings.out or (source if is_bundle else source.with_name(f"{source.resolve().name}{SUFFIX}"))
    overwrite = settings.overwrite or (is_bundle and out.resolve() == source.resolve())
    refuse_existing(out, BUNDLE, overwrite=overwrite)
    for target in settings.engine_targets:
        open_product(target).resolved(settings.compute_capabilities)  # refused before any work
    begin = _carried_over if is_bundle else write_fp32
    name = out.name.removesuffix(SUFFIX)
    with output_folder(out, BUNDLE, overwrite=overwrite) as folder:
        began = perf_counter()
        card, calibration = begin(source, folder, name=name, settings=settings, on_step=on_step)
        verdict, seconds = ("was there", None) if is_bundle else ("passed", perf_counter() - began)
        rows = [
            Row.of(file, entry, verdict=verdict, seconds=seconds) for file, entry in card.files.items() if entry.parity
        ]
        made: dict[str, ModelFile] = {}
        refused: list[str] = []
        if settings.precisions or settings.engine_targets:
            maker = PrecisionMaker(folder, card, calibration, settings)
            for done in _made(maker, settings, on_step):
                made[done.name] = done.entry
                rows.append(Row.of(done.name, done.entry, seconds=done.seconds, verdict=_verdict(done.entry)))
                refused += [f"{done.name}: refused with {t.kept_as_text} in float: {t.fault}" for t in done.refused]
            tiles, answers = maker.tiles, maker.reference
            del maker  # the builder has the memory to itself
        if settings.engine_targets:
            made[GOLDEN_NAME] = write_golden(folder, tiles, answers)
            for row, entry in built_engines(folder, card, settings, on_step=on_step, on_phase=on_phase):
                rows.append(row)
                made[row.name] = entry
        card = card.model_copy(update={"files": card.files | made, "versions": card.versions | versions_at_export()})
        (folder / CARD_NAME).write_text(_as_json(card), encoding="utf-8")
    return Exported(out, open_bundle(out).card, rows, refused)


def _carried_over(
    source: Path, folder: Path, *, name: str, settings: ExportSettings, on_step: OnStep
) -> tuple[ModelCard, Calibration]:
    """The files of the bundle `source` in `folder`, without those made anew and the engines built from them."""
    on_step("checking the bundle")
    bundle = open_bundle(source)
    calibration = read_calibration(settings.calibration) if settings.calibration else phantom_calibration()
    tiling = _tiling_with(bundle, settings.tiles) if settings.tiles else bundle.card.tiling
    kept = {
        file: entry
        for file, entry in bundle.card.files.items()
        if entry.kind in ("weights", "golden") or entry.precision not in settings.precisions
    }
    for file, entry in kept.items():
        _link(source / file, folder / file)
        if entry.kind == "engine":
            _link(facts_path(source / file), facts_path(folder / file))
    return bundle.card.model_copy(update={"name": name, "files": kept, "tiling": tiling}), calibration


def _tiling_with(bundle: Bundle, sides: tuple[int, ...]) -> Tiling:
    """The bundle's tiling for other tile sides, where its graph and its halo allow them."""
    tiling = bundle.card.tiling
    graph = onnx.load(bundle.path / bundle.onnx_name())
    fixed = graph.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    for side in sides:
        if fixed and side != fixed:
            raise ConfigError(f"--tile {side}: the graph of {bundle.path.name} takes tiles of {fixed} only")
        if side % tiling.stride or side <= 2 * tiling.halo:
            raise ConfigError(
                f"--tile {side}: expected a multiple of {tiling.stride} above {2 * tiling.halo}, twice the halo"
            )
    default = tiling.default_side if tiling.default_side in sides else min(sides)
    return tiling.model_copy(update={"sides": sorted(set(sides)), "default_side": default})


def _link(source: Path, target: Path) -> None:
    """The same file under both names where the disk can do that, since a bundle's files are never written into."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _made(maker: PrecisionMaker, settings: ExportSettings, on_step: OnStep) -> Iterator[MadeFile]:
    if "fp16" in settings.precisions:
        yield maker.fp16(on_step)
    if "int8" in settings.precisions:
        yield from maker.int8(on_step)


def _verdict(entry: ModelFile) -> str:
    parts = ["passed"]
    if entry.kept:
        parts.append(f"{sum(entry.kept.values())} operators in float")
    if entry.at_fault:
        parts.append(f"{len(entry.at_fault)} of them by the gate")
    return ", ".join(parts)


def _as_json(card: ModelCard) -> str:
    return json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
