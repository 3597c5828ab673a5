"""The engine beside other people's tools: the same network, the same volume, the same threads, in turns."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import tifffile

from sennet_bench.circumstances import Circumstances, Watch
from sennet_bench.mask_files import scores_of
from sennet_bench.peers.child import ContestantError, Run, run_in_child
from sennet_bench.peers.contestant import Contestant, Job
from sennet_engine.bundle import open_bundle
from sennet_engine.errors import ConfigError, VolumeError
from sennet_engine.runtimes import usable_processors
from sennet_engine.volumes.open import open_volume

RunContestant = Callable[[Contestant, Job], Run]


@dataclass(frozen=True)
class Sample:
    """One contestant in one round.

    Attributes:
        round: from 0.
        seconds: from opening the volume to the written mask, without loading the network.
        load_seconds: loading the network; for the others with their first tile.
        stage_seconds, part_seconds: where the time went, as far as the contestant tells.
        cpu_seconds: of the processors, over all threads, loading counted; far more than `seconds` times the threads
            cannot be, far less means that others took the processors.
        peak_mb: the largest resident memory of its process, in 10^6 bytes.
        mask_sha256: of the voxels of the mask.
    """

    round: int
    seconds: float
    load_seconds: float
    stage_seconds: dict[str, float]
    part_seconds: dict[str, float]
    cpu_seconds: float
    peak_mb: float | None
    mask_sha256: str


@dataclass(frozen=True)
class Entry:
    """All of one contestant.

    Attributes:
        problem: why it has no samples, or no more of them.
        first_load_seconds: of a run before the first round, where a contestant's runs learn from its first.
        vessel_share: of the voxels, in its mask.
        surface_dice_0, dice: against the truth; None without one, or where they are 0 / 0.
        options: its settings.
        does: a sentence on how it comes to its mask; empty in files that do not tell.
    """

    name: str
    title: str
    problem: str | None
    samples: list[Sample]
    first_load_seconds: float | None = None
    vessel_share: float | None = None
    surface_dice_0: float | None = None
    dice: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    does: str = ""


@dataclass(frozen=True)
class Comparison:
    """What was compared; `shape_zyx` is that of the planes that were taken from the middle of the volume."""

    volume: str
    shape_zyx: tuple[int, int, int]
    dtype: str
    model: str
    threshold: float
    threads: int
    rounds: int
    entries: list[Entry]
    circumstances: Circumstances
    kind: Literal["compare"] = "compare"


@dataclass(frozen=True)
class CompareSettings:
    """What a person asks for.

    Attributes:
        truth: a mask of the volume's shape.
        planes: at most so many, from the middle of the volume.
        threads: of every contestant; by default all processors.
    """

    volume: Path
    model: Path
    truth: Path | None = None
    repeats: int = 3
    planes: int = 8
    threads: int | None = None


def compare(
    settings: CompareSettings,
    contestants: Sequence[Contestant],
    *,
    run: RunContestant = run_in_child,
    told: Callable[[str], None] = lambda _line: None,
) -> Comparison:
    """Run all contestants in turns, `repeats` rounds of them, and score the masks of their first round.

    Args:
        run: where a contestant runs; by default each time in a new process.
        told: called with a line before each run.

    Raises:
        ConfigError: numbers below 1.
        ModelError: no bundle.
        VolumeError: the volume or the truth cannot be read, or their shapes differ.
    """
    threads = usable_processors() if settings.threads is None else settings.threads
    if min(settings.repeats, settings.planes, threads) < 1:
        raise ConfigError(
            f"got {settings.repeats} repeats, {settings.planes} planes and {threads} threads, expected 1 or more"
        )
    card = open_bundle(settings.model).card
    watch = Watch()
    with TemporaryDirectory() as folder:
        cut = Path(folder) / "volume.tif"
        shape, dtype = _cut(settings.volume, cut, planes=settings.planes)
        truth = Path(folder) / "truth.tif" if settings.truth else None
        if settings.truth and truth:
            true_shape, _ = _cut(settings.truth, truth, planes=settings.planes)
            if true_shape != shape:
                raise VolumeError(f"{settings.truth}: got shape {true_shape}, expected {shape} as the volume has")
        held = [
            _Record(one, Job(cut, settings.model, Path(folder) / f"{one.name}.tif", threads)) for one in contestants
        ]
        for record in held:
            if record.contestant.remembers and not record.problem:
                told(f"first run: {record.contestant.title}")
                record.learn(run)
        for number in range(settings.repeats):
            for record in held:
                if not record.problem:
                    told(f"round {number + 1} of {settings.repeats}: {record.contestant.title}")
                    record.add(number, run, truth)
    return Comparison(
        volume=settings.volume.name,
        shape_zyx=shape,
        dtype=dtype,
        model=card.name,
        threshold=card.threshold.value,
        threads=threads,
        rounds=settings.repeats,
        entries=[record.entry() for record in held],
        circumstances=watch.circumstances(),
    )


class _Record:
    """Gathers what one contestant does."""

    def __init__(self, contestant: Contestant, job: Job) -> None:
        self.contestant, self._job = contestant, job
        self.problem = contestant.obstacle
        self._samples: list[Sample] = []
        self._first_load_seconds: float | None = None
        self._scores: tuple[float | None, float | None, float | None] = (None, None, None)

    def learn(self, run: RunContestant) -> None:
        """The run of which no sample is kept."""
        if ran := self._ran(run):
            self._first_load_seconds = ran.outcome.load_seconds

    def add(self, number: int, run: RunContestant, truth: Path | None) -> None:
        """A run in a round."""
        if not (ran := self._ran(run)):
            return
        digest, share = _facts(self._job.mask)
        if not self._samples:
            self._scores = (share, *scores_of(self._job.mask, truth))
        self._samples.append(
            Sample(
                round=number, **asdict(ran.outcome), cpu_seconds=ran.cpu_seconds, peak_mb=ran.peak_mb,
                mask_sha256=digest,
            )
        )  # fmt: skip

    def entry(self) -> Entry:
        """All of it."""
        one = self.contestant
        return Entry(
            one.name, one.title, self.problem, self._samples, self._first_load_seconds, *self._scores,
            options=one.options, does=one.does,
        )  # fmt: skip

    def _ran(self, run: RunContestant) -> Run | None:
        self._job.mask.unlink(missing_ok=True)
        try:
            return run(self.contestant, self._job)
        except ContestantError as error:
            self.problem = str(error)
            return None


def _cut(path: Path, out: Path, *, planes: int) -> tuple[tuple[int, int, int], str]:
    """Write the middle planes of the volume `path` as a TIFF file, so that all read the same; its shape and dtype."""
    with open_volume(path) as volume:
        depth = volume.shape_zyx[0]
        kept = min(planes, depth)
        start = (depth - kept) // 2
        stack = volume.read_planes(start, start + kept)
    tifffile.imwrite(out, stack, photometric="minisblack", compression="zlib")
    return (kept, *volume.shape_zyx[1:]), str(stack.dtype)


def _facts(mask: Path) -> tuple[str, float]:
    with open_volume(mask) as volume:
        voxels = volume.read_planes(0, volume.shape_zyx[0]) != 0
    return hashlib.sha256(np.packbits(voxels).tobytes()).hexdigest(), float(voxels.mean())
