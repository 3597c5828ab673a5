"""What `sennet-bench scale` runs: a made volume and an ensemble for each point."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sennet_bench.made_volume import write_made_volume
from sennet_bench.promises.cascade import write_ensemble
from sennet_bench.promises.skipping import write_never_exact_bundle
from sennet_bench.scale.points import Point
from sennet_engine.bundle import read_card
from sennet_engine.ensemble import Ensemble, PassSettings
from sennet_engine.settings import InferSettings
from sennet_engine.trial_memory import TrialMemory

TILED = "tiled.model"


@dataclass(frozen=True)
class Job:
    """A run of one point; its settings name their output."""

    volume: Path
    settings: InferSettings
    out: Path


def made_jobs(points: Sequence[Point], model: Path, *, tile: int | None, runtime: str, folder: Path) -> Iterator[Job]:
    """Write what the runs of `points` need into `folder`; volumes are shared among points of the same size.

    Args:
        model: a bundle, of which every network is a copy.
        tile: side of the tiles of points with an overlap; None where no point has one.
        folder: where the outputs come, too.

    Raises:
        ConfigError: the model takes no such tile.
    """
    for number in range(max(point.models for point in points)):
        shutil.copytree(model, folder / _copy(number))
    if tile is not None:
        write_never_exact_bundle(model, folder / TILED, side=tile)
    threshold = read_card(model).threshold.value
    trials = TrialMemory(folder / "trials.json")
    for number, point in enumerate(points):
        volume = folder / f"{point.planes}-{point.side}.tif"
        if not volume.exists():
            write_made_volume(volume, (point.planes, point.side, point.side))
        ensemble = Ensemble(passes=list(_passes(point, tile)), threshold=threshold)
        out = folder / str(number)
        settings = InferSettings(
            model=write_ensemble(folder / f"{number}.toml", ensemble), out=out, overwrite=True, skip=False,
            threads=point.threads, runtime=runtime, trials=trials,
        )  # fmt: skip
        yield Job(volume, settings, out)


def _passes(point: Point, tile: int | None) -> Iterator[PassSettings]:
    if point.overlap is not None and tile is not None:
        yield PassSettings(model=TILED, tile=tile, stride=round(tile * (1 - point.overlap)))
        return
    # Under names of their own, copies are networks of their own.
    for number in range(point.models):
        yield PassSettings(model=_copy(number))


def _copy(number: int) -> str:
    return f"copy-{number}.model"
