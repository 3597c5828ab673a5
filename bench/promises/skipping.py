"""What leaving out the background saves, and whether it changes the mask."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from sennet_bench.circumstances import Circumstances, Watch
from sennet_bench.inference import Inference, finished_in_child, forecast_in_child
from sennet_bench.mask_files import shape_with_truth, surface_dice_of
from sennet_engine.bundle import BUILTIN, CARD_NAME, open_bundle, read_card
from sennet_engine.errors import ConfigError
from sennet_engine.results.assembly import MASK
from sennet_engine.runtimes import AUTO, usable_processors
from sennet_engine.settings import InferSettings
from sennet_engine.trial_memory import TrialMemory


@dataclass(frozen=True)
class SkippingRequest:
    """What a person asks for.

    Attributes:
        truth: a mask of the volume's shape.
        model: by default the built-in one.
        never_exact_sides: for each of them, the network once more as if it were never exact on tiles: with tiles of
            that side on a grid, blended.
        threads: by default all processors.
    """

    volume: Path
    truth: Path | None = None
    model: Path | None = None
    never_exact_sides: Sequence[int] = ()
    repeats: int = 3
    threads: int | None = None
    runtime: str = AUTO


@dataclass(frozen=True)
class Pair:
    """Both runs of a round."""

    everything: Inference
    skipping: Inference


@dataclass(frozen=True)
class SkippingEntry:
    """All rounds of one network.

    Attributes:
        pixels, pixels_skipping: through the network, of the whole volume and without its background.
        skipped_share: of the voxels.
        surface_dice, surface_dice_skipping: against the truth; None without one, or where neither holds a vessel.
        surface_dice_between: of one mask against the other.
    """

    title: str
    pixels: int
    pixels_skipping: int
    skipped_share: float
    pairs: list[Pair]
    surface_dice: float | None
    surface_dice_skipping: float | None
    surface_dice_between: float | None

    @property
    def time_saved(self) -> list[float]:
        """Share of the seconds, of each round."""
        return [1 - one.skipping.seconds / one.everything.seconds for one in self.pairs]


@dataclass(frozen=True)
class SkippingMeasurement:
    """Runs with and without `--no-skip`, in turns, each in a process of its own."""

    volume: str
    shape_zyx: tuple[int, int, int]
    entries: list[SkippingEntry]
    threads: int
    circumstances: Circumstances
    kind: Literal["skipping"] = "skipping"


def measure_skipping(
    request: SkippingRequest, *, told: Callable[[str], None] = lambda _line: None
) -> SkippingMeasurement:
    """Run every network with and without skipping, `repeats` rounds of them, and score the masks of the last round.

    Args:
        told: called with a line before each run.

    Raises:
        ConfigError: numbers below 1, or a side that the model does not take.
        ModelError: no bundle.
        VolumeError: the volume or the truth cannot be read, or their shapes differ.
        InferenceError: a run failed.
    """
    threads = usable_processors() if request.threads is None else request.threads
    if min(request.repeats, threads) < 1:
        raise ConfigError(f"got {request.repeats} repeats and {threads} threads, expected 1 or more")
    watch = Watch()
    model = request.model or BUILTIN
    shape = shape_with_truth(request.volume, request.truth)
    with TemporaryDirectory() as folder:
        networks = {open_bundle(model).card.name: model}
        for side in request.never_exact_sides:
            made = write_never_exact_bundle(model, Path(folder) / f"{side}.model", side=side)
            networks[f"{read_card(model).name} as if never exact, tiles of {side}"] = made
        entries = [
            _measured(title, one, request, threads, Path(folder) / "out", told) for title, one in networks.items()
        ]
    return SkippingMeasurement(request.volume.name, shape, entries, threads, watch.circumstances())


def write_never_exact_bundle(model: Path, folder: Path, *, side: int) -> Path:
    """A copy of the bundle `model` whose card says that it is never exact on tiles, and takes those of `side`.

    The engine then tiles and blends as for networks with attention or squeeze-and-excitation.

    Raises:
        ConfigError: the model does not take tiles of that side.
    """
    card = read_card(model)
    if side not in card.tiling.sides:
        raise ConfigError(f"tile: got {side}, expected one of {', '.join(map(str, card.tiling.sides))}")
    shutil.copytree(model, folder)
    tiling = card.tiling.model_copy(update={"exact": False, "default_side": side})
    text = card.model_copy(update={"tiling": tiling}).model_dump_json(indent=2)
    (folder / CARD_NAME).write_text(text, encoding="utf-8")
    return folder


def _measured(
    title: str, model: Path, request: SkippingRequest, threads: int, out: Path, told: Callable[[str], None]
) -> SkippingEntry:
    def run_settings(*, skip: bool) -> InferSettings:
        return InferSettings(
            model=model, out=out.with_name("skipping" if skip else "everything"), overwrite=True, skip=skip,
            threads=threads, runtime=request.runtime, trials=TrialMemory(out.with_name("trials.json")),
        )  # fmt: skip

    both = [run_settings(skip=False), run_settings(skip=True)]
    told(f"{title}: the plan")
    plan = forecast_in_child(request.volume, both[1])
    pairs = []
    for number in range(request.repeats):
        told(f"{title}: round {number + 1} of {request.repeats}")
        # Every other round begins with the other one.
        turn = both if number % 2 == 0 else both[::-1]
        found = {one.skip: finished_in_child(request.volume, one) for one in turn}
        pairs.append(Pair(everything=found[False], skipping=found[True]))
    everything, skipping = (Path(str(one.out)) / MASK for one in both)
    truth = request.truth
    return SkippingEntry(
        title=title,
        pixels=plan.pixels_without_skipping,
        pixels_skipping=plan.pixels,
        skipped_share=pairs[0].skipping.skipped_share,
        pairs=pairs,
        surface_dice=surface_dice_of(everything, truth) if truth else None,
        surface_dice_skipping=surface_dice_of(skipping, truth) if truth else None,
        surface_dice_between=surface_dice_of(skipping, everything),
    )
