"""From a trained run, or a bundle, to a bundle whose every file has passed its gate."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import onnx

from sennet_engine.bundle import CARD_NAME, open_bundle
from sennet_engine.card import ModelCard, ModelFile
from sennet_engine.errors import ConfigError, OutputError
from sennet_engine.storage.output_folder import output_folder, refuse_existing
from sennet_engine.tensorrt.products import open_product
from sennet_export.carried import carry_over, copied, linked, without_stale_engines
from sennet_export.engine_files import built_engines, write_golden
from sennet_export.files import BUNDLE, GOLDEN_NAME, ONNX_NAMES, versions_at_export
from sennet_export.fp32 import write_fp32
from sennet_export.precisions import MadeFile, PrecisionMaker
from sennet_export.settings import SUFFIX, ExportSettings
from sennet_export.table import Row
from sennet_export.work import multiply_adds_per_pixel

OnStep = Callable[[str], None]
OnPhase = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Exported:
    """What an export wrote: the bundle, its card, a row for every file, and what the gate asked for on the way."""

    path: Path
    card: ModelCard
    rows: list[Row]
    remarks: list[str]


def export_model(source: Path, settings: ExportSettings, *, on_step: OnStep, on_phase: OnPhase) -> Exported:
    """Write the bundle `settings.out` from the run folder or the bundle `source`.

    A bundle keeps its files, except those that are made anew. Where it is written into itself, the folder is replaced
    whole at the end.

    Args:
        on_step: called with what is being done.
        on_phase: called with a builder's phase, and how many of how many steps of it are done.

    Raises:
        ModelError: `source` is neither, cannot be loaded, or holds an operator that the format or the builder lacks.
        ConfigError: a tile side that the network does not take, or an option that would do nothing.
        VolumeError: the calibration volume cannot be read.
        MissingExtraError: the product of a target is not installed.
        GateError: a file does not answer as the network does. Nothing is written then.
        OutputError: the folder exists or cannot be written.
    """
    source = source.resolve()
    is_bundle = (source / CARD_NAME).exists()
    out = (settings.out or (source if is_bundle else source.with_name(f"{source.name}{SUFFIX}"))).resolve()
    in_place = is_bundle and out == source
    name = _name_of(out)
    _refuse_idle_options(settings, is_bundle=is_bundle)
    refuse_existing(out, BUNDLE, overwrite=settings.overwrite or in_place)
    for target in settings.engine_targets:
        open_product(target).resolved(settings.compute_capabilities)  # refused before any work
    before = _card_bytes(source) if in_place else b""
    with output_folder(out, BUNDLE, overwrite=settings.overwrite or in_place) as folder:
        began = perf_counter()
        begin = partial(carry_over, place=linked if in_place else copied) if is_bundle else write_fp32
        card, calibration = begin(source, folder, name=name, settings=settings, on_step=on_step)
        verdict, seconds = ("was there", None) if is_bundle else ("passed", perf_counter() - began)
        fp32 = ONNX_NAMES["fp32"]
        rows = [Row.of(fp32, card.files[fp32], verdict=verdict, seconds=seconds)]
        remarks: list[str] = []
        made: dict[str, ModelFile] = {}
        if settings.precisions or settings.engine_targets:
            maker = PrecisionMaker(folder, card, calibration, settings)
            for done in _made(maker, settings, on_step):
                made[done.name] = done.entry
                rows.append(Row.of(done.name, done.entry, seconds=done.seconds, verdict=_verdict(done.entry)))
                remarks += _remarks(done)
            tiles, answers = maker.tiles, maker.reference
            del maker  # the builder has the memory to itself
            # Engines are also built later, by who runs the bundle.
            golden = tiles if settings.engine_targets else {side: tiles[side] for side in card.tiling.engine_sides}
            made[GOLDEN_NAME] = write_golden(folder, golden, answers)
        if settings.engine_targets:
            for row, entry in built_engines(folder, card, settings, on_step=on_step, on_phase=on_phase):
                rows.append(row)
                made[row.name] = entry
        files = without_stale_engines(folder, card.files | made)
        rows += [
            Row.of(file, entry, verdict="was there")
            for file, entry in files.items()
            if file not in made and file != fp32 and entry.kind not in ("weights", "golden")
        ]
        facts = {
            "files": files,
            "multiply_adds_per_pixel": multiply_adds_per_pixel(onnx.load(folder / fp32), side=card.tiling.default_side),
            "versions": card.versions | versions_at_export(),
        }
        _write_card(folder, card.model_copy(update=facts))
        written = open_bundle(folder).card
        if in_place and _card_bytes(source) != before:
            raise OutputError(f"{source}: was changed by another export in the meantime; run this one again")
    return Exported(out, written, rows, remarks)


def _name_of(out: Path) -> str:
    """The bundle's name, that of its folder. Raises OutputError where a card cannot have it."""
    name = out.name.removesuffix(SUFFIX)
    if not name or "\\" in name:
        raise OutputError(
            f"{out}: got the name {name!r}, expected NAME{SUFFIX} without a backslash; choose another --out"
        )
    return name


def _card_bytes(source: Path) -> bytes:
    try:
        return (source / CARD_NAME).read_bytes()
    except FileNotFoundError:
        return b""


def _refuse_idle_options(settings: ExportSettings, *, is_bundle: bool) -> None:
    """Raise ConfigError for an option that would do nothing."""
    if settings.allowed_loss is not None and not settings.precisions:
        raise ConfigError("--gate: is for further precisions; add --fp16 or --int8")
    if is_bundle and not (settings.precisions or settings.engine_targets or settings.description):
        raise ConfigError(
            "got a bundle and nothing to make of it; add --fp16, --int8, --target rtx or --target tensorrt"
        )
    if is_bundle and settings.tiles and not settings.engine_targets:
        raise ConfigError("--tile: of a bundle it chooses tiles of engines; add --target rtx or --target tensorrt")
    of_engines = {
        "--gpu": settings.compute_capabilities or None, "--batch": settings.batch, "--workspace": settings.workspace_mb,
        "--builder-level": settings.builder_level, "--timing-cache": settings.timing_cache,
    }  # fmt: skip
    if not settings.engine_targets and (idle := [name for name, value in of_engines.items() if value is not None]):
        raise ConfigError(f"{idle[0]}: is for engines; add --target rtx or --target tensorrt")


def _made(maker: PrecisionMaker, settings: ExportSettings, on_step: OnStep) -> Iterator[MadeFile]:
    if "fp16" in settings.precisions:
        yield maker.fp16(on_step)
    if "int8" in settings.precisions:
        yield from maker.int8(on_step)


def _verdict(entry: ModelFile) -> str:
    parts = ["passed", f"{entry.share_of_work:.0%} of the multiply-adds are {entry.precision}"]
    if entry.kept:
        parts.append(f"{sum(entry.kept.values())} operators in float")
    if entry.at_fault:
        parts.append(f"{len(entry.at_fault)} of them asked for by the gate")
    return ", ".join(parts)


def _remarks(made: MadeFile) -> list[str]:
    """What the gate refused, and all operators that it had kept in float for it."""
    lines = [f"{made.name}: refused with {trial.kept_as_text} in float: {trial.fault}" for trial in made.refused]
    if made.entry.at_fault:
        lines.append(f"{made.name}: passed with {', '.join(made.entry.at_fault)} in float")
    return lines


def _write_card(folder: Path, card: ModelCard) -> None:
    whole = ModelCard.model_validate(card.model_dump())  # copies are not validated
    text = json.dumps(whole.model_dump(mode="json"), indent=2, ensure_ascii=False)
    (folder / CARD_NAME).write_text(text + "\n", encoding="utf-8")
