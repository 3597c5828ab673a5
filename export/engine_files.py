"""The engines of a bundle, built from its ONNX files, with the golden tiles that prove them on a GPU."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sennet_engine.card import ModelCard, ModelFile, Precision
from sennet_engine.engine_file import BuilderOptions, EngineFacts
from sennet_engine.tensorrt.build.builder import build_engine
from sennet_engine.tensorrt.build.settings import Batch, BuildSettings
from sennet_export.answers import Answers, Tiles
from sennet_export.files import ENGINE_INT8_NAME, GOLDEN_NAME, ONNX_NAMES, model_file
from sennet_export.golden import golden_bytes
from sennet_export.settings import ExportSettings
from sennet_export.table import Row

OnStep = Callable[[str], None]
OnPhase = Callable[[str, int, int], None]


def built_engines(
    folder: Path, card: ModelCard, settings: ExportSettings, *, on_step: OnStep, on_phase: OnPhase
) -> Iterator[tuple[Row, ModelFile]]:
    """Build an engine for every target and every precision asked for (fp32 where none is); its row and its entry.

    Raises:
        ModelError, ConfigError, MissingExtraError, WrongPrecisionError, OSError: as `build_engine`.
    """
    precisions: tuple[Precision, ...] = settings.precisions or ("fp32",)
    for target in settings.engine_targets:
        for precision in precisions:
            onnx = folder / (ENGINE_INT8_NAME if precision == "int8" else ONNX_NAMES[precision])
            on_step(f"building the {precision} engine for {target}")
            built = build_engine(
                onnx, folder, target=target, on_progress=on_phase,
                settings=BuildSettings(
                    precision=precision, sides=settings.tiles or tuple(card.tiling.sides),
                    batch=settings.batch or Batch(),
                    compute_capabilities=settings.compute_capabilities,
                    timing_cache=settings.timing_cache,
                    options=BuilderOptions(workspace_mb=settings.workspace_mb, level=settings.builder_level),
                ),
            )  # fmt: skip
            entry = model_file(built.path, kind="engine", precision=precision)
            yield (
                Row.of(built.path.name, entry, seconds=built.facts.build_seconds, verdict=_verdict(built.facts)),
                entry,
            )


def write_golden(folder: Path, tiles: Mapping[int, Tiles], answers: Mapping[int, Answers]) -> ModelFile:
    """Write the golden tiles with the fp32 graph's answers; their entry in the card."""
    path = folder / GOLDEN_NAME
    path.unlink(missing_ok=True)  # it may be another bundle's file under a second name
    path.write_bytes(golden_bytes(tiles, answers))
    return model_file(path, kind="golden")


def _verdict(facts: EngineFacts) -> str:
    share = facts.share_by_precision.get(facts.precision, 0.0)
    return (
        f"not verified, no GPU has run it; {share:.1%} of its multiply-adds are {facts.precision}, read from the "
        f"{facts.inspected}"
    )
