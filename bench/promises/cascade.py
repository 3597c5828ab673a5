"""What the cascade of an ensemble gains, and what it loses."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from sennet_bench.circumstances import Circumstances, Watch
from sennet_bench.inference import Inference, finished_in_child
from sennet_bench.mask_files import shape_with_truth, surface_dice_of
from sennet_engine.config import validated
from sennet_engine.ensemble import CascadeSettings, Ensemble
from sennet_engine.ensemble_file import OpenedEnsemble, opened_ensemble
from sennet_engine.errors import ConfigError, OutputError
from sennet_engine.results.assembly import MASK
from sennet_engine.runtimes import AUTO, DEFAULT_PRECISION, usable_processors
from sennet_engine.settings import InferSettings
from sennet_engine.trial_memory import TrialMemory

FIRST_ALONE, NO_CASCADE = "the first pass alone", "all passes everywhere"
ANY_TILES = "all passes everywhere, tiles of any size"


@dataclass(frozen=True)
class CascadeEntry:
    """All rounds of the ensemble with one low bound, or without a cascade.

    Attributes:
        low_bound: None without a cascade.
        runs: one for each round.
        gone_on_share: of the tiles of all passes but the first, those that were computed; None where tiles are others.
        surface_dice: against the truth.
        surface_dice_to_all: against the mask of all passes everywhere.
    """

    title: str
    low_bound: float | None
    runs: list[Inference]
    gone_on_share: float | None
    surface_dice: float | None
    surface_dice_to_all: float | None

    def times_as_fast(self, whole: "CascadeEntry") -> list[float]:
        """As `whole`, in each round."""
        return [other.seconds / one.seconds for one, other in zip(self.runs, whole.runs, strict=True)]


@dataclass(frozen=True)
class CascadeMeasurement:
    """The first pass alone, all passes everywhere, and cascades between the two; each run in a process of its own."""

    volume: str
    shape_zyx: tuple[int, int, int]
    ensemble: str
    entries: list[CascadeEntry]
    threads: int
    circumstances: Circumstances
    kind: Literal["cascade"] = "cascade"

    @property
    def whole(self) -> CascadeEntry:
        """That of all passes everywhere, beside which the others stand."""
        return next(entry for entry in self.entries if entry.title == NO_CASCADE)


@dataclass(frozen=True)
class CascadeRequest:
    """What a person asks for.

    Attributes:
        truth: a mask of the volume's shape.
        ensemble: the TOML file of an ensemble of two passes or more.
        models: where its bundles lie; by default beside it.
        low_bounds: by default that of the file.
        threads: by default all processors.
    """

    volume: Path
    truth: Path
    ensemble: Path
    models: Path | None = None
    low_bounds: Sequence[float] = ()
    repeats: int = 3
    threads: int | None = None
    runtime: str = AUTO


def measure_cascade(request: CascadeRequest, *, told: Callable[[str], None] = lambda _line: None) -> CascadeMeasurement:
    """Run the ensemble in all ways, `repeats` rounds of them, and score the masks of the last round.

    Args:
        told: called with a line before each run.

    Raises:
        ConfigError: numbers below 1, no ensemble, one of a single pass, or bounds above its threshold.
        ModelError: bundles that are missing or unfit.
        VolumeError: the volume or the truth cannot be read, or their shapes differ.
        InferenceError: a run failed.
    """
    threads = usable_processors() if request.threads is None else request.threads
    if min(request.repeats, threads) < 1:
        raise ConfigError(f"got {request.repeats} repeats and {threads} threads, expected 1 or more")
    opened = opened_ensemble(request.ensemble, models=request.models, precision=DEFAULT_PRECISION)
    shape = shape_with_truth(request.volume, request.truth)
    watch = Watch()
    ways = _ways(opened, request)
    with TemporaryDirectory() as folder:
        settings = {
            title: InferSettings(
                model=write_ensemble(Path(folder) / f"{number}.toml", way),
                models=request.models or request.ensemble.parent, out=Path(folder) / str(number), overwrite=True,
                threads=threads, runtime=request.runtime, trials=TrialMemory(Path(folder) / "trials.json"),
            )
            for number, (title, way) in enumerate(ways.items())
        }  # fmt: skip
        runs: dict[str, list[Inference]] = {title: [] for title in ways}
        for number in range(request.repeats):
            for title, one in settings.items():
                told(f"round {number + 1} of {request.repeats}: {title}")
                runs[title].append(finished_in_child(request.volume, one))
        masks = {title: Path(str(one.out)) / MASK for title, one in settings.items()}
        first, everything = runs[FIRST_ALONE][0].tiles, runs[NO_CASCADE][0].tiles
        entries = [
            CascadeEntry(
                title=title,
                low_bound=way.cascade.low_bound if way.cascade else None,
                runs=runs[title],
                gone_on_share=None if title == ANY_TILES else (runs[title][0].tiles - first) / (everything - first),
                surface_dice=surface_dice_of(masks[title], request.truth),
                surface_dice_to_all=surface_dice_of(masks[title], masks[NO_CASCADE]),
            )
            for title, way in ways.items()
        ]
    return CascadeMeasurement(
        request.volume.name, shape, request.ensemble.stem, entries, threads, watch.circumstances()
    )


def write_ensemble(path: Path, ensemble: Ensemble) -> Path:
    """Write `ensemble` as a TOML file that reads as the same. Raises OutputError where that cannot be."""
    table = ensemble.model_dump(exclude_none=True)
    passes, cascade = table.pop("passes"), table.pop("cascade", {})
    parts = [_lines(table), *("[[passes]]\n" + _lines(one) for one in passes)]
    if cascade:
        parts.append("[cascade]\n" + _lines(cascade))
    try:
        path.write_text("\n".join(parts), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
    return path


def _ways(opened: OpenedEnsemble, request: CascadeRequest) -> dict[str, Ensemble]:
    ensemble = opened.ensemble
    if len(ensemble.passes) < 2:
        raise ConfigError(f"{request.ensemble}: has one pass, expected two or more: a cascade goes on to the second")
    file_bound = ensemble.cascade.low_bound if ensemble.cascade else CascadeSettings().low_bound
    plain = ensemble.model_copy(update={"cascade": None})
    ways = {FIRST_ALONE: plain.model_copy(update={"passes": plain.passes[:1]}), NO_CASCADE: plain}
    exact = all(bundle.card.tiling.exact for bundle in opened.bundles.values())
    if exact and any(one.tile for one in plain.passes):
        # Small tiles can be left out, but cost more halo: what a plan would choose without a cascade.
        free = [one.model_copy(update={"tile": None}) for one in plain.passes]
        ways[ANY_TILES] = plain.model_copy(update={"passes": free})
    for bound in request.low_bounds or [file_bound]:
        table = plain.model_dump(exclude_none=True) | {"cascade": {"low_bound": bound}}
        ways[f"cascade from {bound:g} on"] = validated(table, Ensemble, source=f"--low-bound {bound:g}")
    return ways


def _lines(table: dict[str, Any]) -> str:
    # Strings, numbers and lists of strings are written alike in TOML and in JSON.
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in table.items())
