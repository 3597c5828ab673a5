"""How much faster int8 is than fp32 on this processor, and how far its answers move: both files in turns."""

import importlib.metadata
import platform
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sennet_engine.bundle import Bundle, open_bundle
from sennet_engine.card import FixedNormalisation, ModelCard, Precision, Threshold, Tiling
from sennet_engine.errors import ConfigError
from sennet_engine.predictor import Predictor, Tiles
from sennet_engine.runtimes import RUNTIMES, open_predictor
from sennet_export.calibration import phantom_calibration, read_calibration
from sennet_export.files import model_file

PRECISIONS: tuple[Precision, Precision] = ("fp32", "int8")
DEFAULT_SIDE, DEFAULT_THRESHOLD = 384, 0.5
# What integer kernels are written for; on x86 without VNNI they sum pairs in 16 bits.
INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
CPU_FACTS = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class RuntimeComparison:
    """Both files on one runtime.

    Attributes:
        runtime: its name and version.
        fp32_seconds, int8_seconds: for one tile, of each repeat, in the order in which they ran.
        times_faster: the median of fp32 over that of int8.
        largest_difference, mean_difference: of the answers, in grey levels.
        flipped_share: of the pixels, on the other side of the threshold.
    """

    runtime: str
    fp32_seconds: list[float]
    int8_seconds: list[float]
    times_faster: float
    largest_difference: int
    mean_difference: float
    flipped_share: float


@dataclass(frozen=True)
class Int8Comparison:
    """What was measured, and under which circumstances.

    Attributes:
        model: the bundle's name, or those of the files.
        side, threads: of the tiles, in pixels; of either runtime.
        tiles: how many were compared, and where they are from; the first is the one that was timed.
        threshold: the probability from which a pixel is vessel.
        instructions: those of the processor that matter to int8.
    """

    model: str
    side: int
    threads: int
    tiles: str
    threshold: float
    runtimes: list[RuntimeComparison]
    processor: str
    instructions: list[str]
    versions: dict[str, str]


def compare_int8(
    paths: Sequence[Path], *, side: int | None, threads: int, repeats: int, volume: Path | None
) -> Int8Comparison:
    """Time fp32 and int8 in turns on every CPU runtime, by the engine's own predictors, one tile at a time.

    Args:
        paths: a bundle that holds both, or two ONNX files, fp32 first.
        side: of the tiles; by default the bundle's own, and 384 for files.
        volume: where the tiles are from; by default phantoms.

    Raises:
        ConfigError: neither of the two, or numbers below 1.
        ModelError: a file that cannot be read or computed, or a bundle without int8.
        VolumeError: the volume cannot be read.
        MissingExtraError: a runtime is not installed.
    """
    if min(threads, repeats, side or 1) < 1:
        raise ConfigError(f"got {threads} threads, {repeats} repeats and side {side}, expected numbers of at least 1")
    bundle = _bundle(paths)
    side = side or bundle.card.tiling.default_side
    calibration = read_calibration(volume) if volume else phantom_calibration()
    tiles = calibration.squares(side)
    compared = [_compared(bundle, runtime, tiles, threads=threads, repeats=repeats) for runtime in RUNTIMES]
    processor, instructions = _processor()
    return Int8Comparison(
        model=bundle.card.name,
        side=side,
        threads=threads,
        tiles=f"{len(tiles)} of {calibration.source}",
        threshold=bundle.card.threshold.value,
        runtimes=compared,
        processor=processor,
        instructions=instructions,
        versions={name: importlib.metadata.version(name) for name in ("sennet", "numpy", "onnx", *RUNTIMES)},
    )


def markdown_report(comparison: Int8Comparison) -> str:
    """The comparison as a Markdown table, with its circumstances below."""
    versions = ", ".join(f"{name} {version}" for name, version in comparison.versions.items())
    repeats = len(comparison.runtimes[0].fp32_seconds)
    lines = [
        "| runtime | fp32, ms a tile (spread) | int8, ms a tile (spread) | times faster | difference in grey levels, "
        "largest (mean) | flipped pixels |",
        "|---|---|---|---|---|---|",
        *(_row(one) for one in comparison.runtimes),
        "",
        f"{comparison.model}, tiles of {comparison.side} pixels ({comparison.tiles}), threshold "
        f"{comparison.threshold:g}; medians of {repeats} repeats in turns, {comparison.threads} thread(s).",
        f"{comparison.processor} with {', '.join(comparison.instructions) or 'no integer instructions known here'}; "
        f"{versions}.",
    ]
    return "\n".join(lines)


def _row(one: RuntimeComparison) -> str:
    times = [
        f"{statistics.median(seconds) * 1e3:.1f} ({min(seconds) * 1e3:.1f} to {max(seconds) * 1e3:.1f})"
        for seconds in (one.fp32_seconds, one.int8_seconds)
    ]
    moved = f"{one.largest_difference} ({one.mean_difference:.4f})"
    return f"| {one.runtime} | {' | '.join(times)} | {one.times_faster:.2f} | {moved} | {one.flipped_share:.1e} |"


def _bundle(paths: Sequence[Path]) -> Bundle:
    if len(paths) == 2 and all(path.is_file() for path in paths):
        return _bundle_of_files(paths)
    if len(paths) == 1 and not paths[0].is_file():
        return open_bundle(paths[0])
    names = ", ".join(map(str, paths))
    raise ConfigError(f"got {names}; expected a bundle NAME.model, or two ONNX files that exist: fp32, then int8")


def _bundle_of_files(paths: Sequence[Path]) -> Bundle:
    """A card for two files that have none, so that they are computed as any bundle's are."""
    card = ModelCard(
        name=" and ".join(path.name for path in paths),
        decoder="unknown", encoder="unknown", normalisation=FixedNormalisation(), voxel_size_um=50,
        tiling=Tiling(stride=1, sides=[DEFAULT_SIDE], default_side=DEFAULT_SIDE, halo=0, exact=False),
        threshold=Threshold(value=DEFAULT_THRESHOLD),
        files={
            str(path.absolute()): model_file(path, kind="onnx", precision=precision)
            for path, precision in zip(paths, PRECISIONS, strict=True)
        },
    )  # fmt: skip
    return Bundle(Path(), card)


def _compared(bundle: Bundle, runtime: str, tiles: Tiles, *, threads: int, repeats: int) -> RuntimeComparison:
    with ExitStack() as opened:
        predictors: list[Predictor] = [
            opened.enter_context(open_predictor(bundle, runtime=runtime, precision=precision, threads=threads))
            for precision in PRECISIONS
        ]
        fp32, int8 = ([one.predict(tile[None]).copy() for tile in tiles] for one in predictors)
        seconds: list[list[float]] = [[], []]
        for _ in range(repeats):
            for predictor, measured in zip(predictors, seconds, strict=True):
                start = time.perf_counter()
                predictor.predict(tiles[:1])
                measured.append(time.perf_counter() - start)
        name = predictors[0].runtime
    expected, found = np.concatenate(fp32).astype(int), np.concatenate(int8).astype(int)
    cutoff = bundle.card.threshold.value * 255
    return RuntimeComparison(
        runtime=name,
        fp32_seconds=seconds[0],
        int8_seconds=seconds[1],
        times_faster=statistics.median(seconds[0]) / statistics.median(seconds[1]),
        largest_difference=int(np.abs(expected - found).max()),
        mean_difference=float(np.abs(expected - found).mean()),
        flipped_share=float(np.mean((expected >= cutoff) != (found >= cutoff))),
    )


def _processor() -> tuple[str, list[str]]:
    """Its name, and which of INSTRUCTIONS it has, where the system tells (Linux)."""
    facts = CPU_FACTS.read_text(encoding="utf-8") if CPU_FACTS.exists() else ""
    lines = (line.partition(":") for line in facts.splitlines())
    table = {key.strip().lower(): value.strip() for key, _, value in lines}
    flags = set(table.get("flags", table.get("features", "")).split())
    name = table.get("model name") or platform.processor() or platform.machine()
    return name, [one for one in INSTRUCTIONS if one in flags]
