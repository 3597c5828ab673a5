"""What a bundle keeps when it is exported again: its files, checked, under their usual names."""

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from sennet_engine.bundle import Bundle, open_bundle
from sennet_engine.card import ModelCard, ModelFile
from sennet_engine.engine_file import facts_path, read_facts
from sennet_engine.errors import ConfigError, ModelError
from sennet_export.calibration import Calibration, phantom_calibration, read_calibration
from sennet_export.files import ENGINE_INT8_NAME, ONNX_NAMES
from sennet_export.settings import ExportSettings

logger = logging.getLogger(__name__)

OnStep = Callable[[str], None]
Place = Callable[[Path, Path], None]


def carry_over(
    source: Path, folder: Path, *, name: str, settings: ExportSettings, place: Place, on_step: OnStep
) -> tuple[ModelCard, Calibration]:
    """Put the files of the bundle `source` into `folder`; the card that tells of them, and what to measure on.

    Engines and golden tiles that are not as the card says are left out with a warning: they can be made again. `place`
    is `copied`, or `linked` where the bundle is written into itself.

    Raises:
        ModelError: no bundle, or its weights or graphs are not as the card says.
        ConfigError: an option that needs the run that the bundle is from.
        VolumeError: the calibration volume cannot be read.
    """
    on_step("checking the bundle")
    bundle = open_bundle(source)
    if settings.halo_tolerance is not None:
        raise ConfigError(f"--halo-tolerance: the halo is measured when a run is exported, and {source} is a bundle")
    if unknown := [side for side in settings.tiles if side not in bundle.card.tiling.sides]:
        raise ConfigError(
            f"--tile {unknown[0]}: expected some of {', '.join(map(str, bundle.card.tiling.sides))}, for which this "
            f"bundle was measured; export its run again for others"
        )
    calibration = read_calibration(settings.calibration) if settings.calibration else phantom_calibration()
    files = {}
    for file, entry in bundle.card.files.items():
        if entry.kind in ("engine", "golden") and (fault := _fault(bundle, file, entry)):
            logger.warning("%s; left out, make it again with --target", fault)
            continue
        usual = _usual_name(file, entry)
        place(source / file, folder / usual)
        if entry.kind == "engine":
            place(facts_path(source / file), facts_path(folder / file))
        files[usual] = entry
    description = settings.description or bundle.card.description
    return bundle.card.model_copy(update={"name": name, "files": files, "description": description}), calibration


def linked(source: Path, target: Path) -> None:
    """The same file under a second name, within a bundle that is written anew; a copy where the disk has no links.

    A bundle's files are replaced and never written into, and the first name goes when the bundle is replaced.
    """
    try:
        os.link(source.resolve(), target)
    except OSError:
        copied(source, target)


def copied(source: Path, target: Path) -> None:
    """A file of its own, so that no two bundles share one."""
    shutil.copyfile(source, target)


def without_stale_engines(folder: Path, files: Mapping[str, ModelFile]) -> dict[str, ModelFile]:
    """`files` without the engines whose ONNX file has been made anew since.

    They are deleted from `folder`.
    """
    graphs = {entry.sha256 for entry in files.values()}
    kept = dict(files)
    for name, entry in files.items():
        engine = folder / name
        if entry.kind == "engine" and read_facts(engine).identity.onnx_sha256 not in graphs:
            logger.warning("%s was built from another ONNX file; left out, make it again with --target", name)
            engine.unlink()
            facts_path(engine).unlink()
            del kept[name]
    return kept


def _usual_name(name: str, entry: ModelFile) -> str:
    if entry.kind == "onnx":
        return ONNX_NAMES[entry.precision]
    return ENGINE_INT8_NAME if entry.kind == "engine-onnx" else name


def _fault(bundle: Bundle, name: str, entry: ModelFile) -> str | None:
    try:
        bundle.verified_bytes(name)
        if entry.kind == "engine" and read_facts(bundle.path / name).sha256 != entry.sha256:
            return f"{facts_path(bundle.path / name)}: is of another engine"
    except ModelError as error:
        return str(error)
    return None
