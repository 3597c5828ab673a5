"""What a bundle keeps when it is exported again: its files, checked, under their usual names."""

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from sennet_engine.bundle import Bundle, open_bundle
from sennet_engine.card import ModelCard, ModelFile, Tiling
from sennet_engine.engine_file import facts_path, read_facts
from sennet_engine.errors import ConfigError, ModelError
from sennet_export.calibration import Calibration, phantom_calibration, read_calibration
from sennet_export.files import ONNX_NAMES
from sennet_export.settings import ExportSettings

logger = logging.getLogger(__name__)

OnStep = Callable[[str], None]


def carry_over(
    source: Path, folder: Path, *, name: str, settings: ExportSettings, on_step: OnStep
) -> tuple[ModelCard, Calibration]:
    """Put the files of the bundle `source` into `folder`; the card that tells of them, and what to measure on.

    Engines and golden tiles that are not as the card says are left out with a warning: they can be made again.

    Raises:
        ModelError: no bundle, or its weights or graphs are not as the card says.
        ConfigError: an option that needs the run that the bundle is from.
        VolumeError: the calibration volume cannot be read.
    """
    on_step("checking the bundle")
    bundle = open_bundle(source)
    if settings.halo_tolerance is not None:
        raise ConfigError(f"--halo-tolerance: the halo is measured when a run is exported, and {source} is a bundle")
    tiling = _narrowed(bundle.card.tiling, settings.tiles)
    calibration = read_calibration(settings.calibration) if settings.calibration else phantom_calibration()
    files = {}
    for file, entry in bundle.card.files.items():
        if entry.kind in ("engine", "golden") and (fault := _fault(bundle, file, entry)):
            logger.warning("%s; left out, make it again with --target", fault)
            continue
        usual = ONNX_NAMES["fp32"] if file == bundle.onnx_name() else file
        _place(source / file, folder / usual)
        if entry.kind == "engine":
            _place(facts_path(source / file), facts_path(folder / file))
        files[usual] = entry
    changes = {"name": name, "files": files, "tiling": tiling}
    if settings.description:
        changes["description"] = settings.description
    return bundle.card.model_copy(update=changes), calibration


def without_stale_engines(folder: Path, files: Mapping[str, ModelFile]) -> dict[str, ModelFile]:
    """`files` without the engines whose ONNX file has been made anew since; they are deleted from `folder`."""
    graphs = {entry.sha256 for entry in files.values()}
    kept = {}
    for name, entry in files.items():
        engine = folder / name
        if entry.kind == "engine" and read_facts(engine).identity.onnx_sha256 not in graphs:
            logger.warning("%s was built from another ONNX file; left out, make it again with --target", name)
            engine.unlink()
            facts_path(engine).unlink()
            continue
        kept[name] = entry
    return kept


def _narrowed(tiling: Tiling, sides: tuple[int, ...]) -> Tiling:
    """The tiling for some of its sides, all of which have been measured."""
    if not sides:
        return tiling
    if unknown := [side for side in sides if side not in tiling.sides]:
        raise ConfigError(
            f"--tile {unknown[0]}: expected some of {', '.join(map(str, tiling.sides))}, for which this bundle was "
            f"measured; export its run again for others"
        )
    default = tiling.default_side if tiling.default_side in sides else min(sides)
    return tiling.model_copy(update={"sides": sorted(set(sides)), "default_side": default})


def _fault(bundle: Bundle, name: str, entry: ModelFile) -> str | None:
    try:
        bundle.verified_bytes(name)
        if entry.kind == "engine" and read_facts(bundle.path / name).sha256 != entry.sha256:
            return f"{facts_path(bundle.path / name)}: is of another engine"
    except ModelError as error:
        return str(error)
    return None


def _place(source: Path, target: Path) -> None:
    """The same file under a second name where both are in one bundle that is written anew, else a copy.

    A bundle's files are replaced and never written into, and the first name goes when the bundle is replaced.
    """
    source = source.resolve()
    if target.parent.name.startswith(f".{source.parent.name}."):
        try:
            os.link(source, target)
        except OSError:
            logger.debug("%s: this disk has no links, so it is copied", source)
        else:
            return
    shutil.copyfile(source, target)
