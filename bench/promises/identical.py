"""Whether a mask is the same bits however the work is cut, ordered and interrupted."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Literal

from sennet_bench.circumstances import Circumstances, Watch
from sennet_bench.inference import finished_in_child, infer_in_child
from sennet_bench.mask_files import mask_sha256
from sennet_engine.device.host import HostDevice
from sennet_engine.errors import ConfigError
from sennet_engine.pipeline.stream_pipeline import RING
from sennet_engine.pipeline.volume_run import VolumeRun
from sennet_engine.pipeline.worker import Worker
from sennet_engine.planning.passes import Plan
from sennet_engine.planning.planner import SLABS
from sennet_engine.preparation import prepared
from sennet_engine.results.assembly import MASK, assemble
from sennet_engine.runtimes import DEFAULT_RUNTIME, open_predictor, usable_processors
from sennet_engine.settings import InferSettings
from sennet_engine.storage.work_folder import work_folder
from sennet_engine.trial_memory import TrialMemory
from sennet_engine.volumes.open import open_volume

COMMAND = "sennet-infer"
KILL_SEED = 0


@dataclass(frozen=True)
class Way:
    """One way to compute a mask.

    Attributes:
        title: for the table.
        batch: tiles in a call.
        slab_planes: planes in memory at a time.
        threads: of each call.
        contexts: calls at a time.
        ring: buffers for slabs, and for batches of each context.
        backwards: the tiles of every plane in their opposite order.
    """

    title: str
    batch: int = 1
    slab_planes: int = SLABS[0]
    threads: int = 1
    contexts: int = 1
    ring: int = RING
    backwards: bool = False


@dataclass(frozen=True)
class WayResult:
    """The mask of one way: sha256 of its voxels, and whether that is the command's."""

    title: str
    mask_sha256: str
    identical: bool


@dataclass(frozen=True)
class IdenticalMeasurement:
    """All ways beside the command as a person runs it.

    Attributes:
        kills: by SIGKILL, at random moments of runs that then went on by `--resume`.
        runs_with_kills: among which they fell; each came to its end.
        planes_resumed: that these found done when they went on the last time, added up.
    """

    volume: str
    shape_zyx: tuple[int, int, int]
    model: str
    runtime: str
    results: list[WayResult]
    kills: int
    runs_with_kills: int
    planes_resumed: int
    circumstances: Circumstances
    kind: Literal["identical"] = "identical"

    @property
    def all_identical(self) -> bool:
        """Whether every mask is the command's."""
        return all(one.identical for one in self.results)


def measure_identity(
    volume: Path,
    model: Path | None,
    *,
    kills: int,
    runtime: str = DEFAULT_RUNTIME,
    told: Callable[[str], None] = lambda _line: None,
) -> IdenticalMeasurement:
    """Compute the mask in all ways, and compare.

    Args:
        model: a bundle or an ensemble; None is the built-in model.
        kills: how often the command is killed, until it comes to its end the last time.
        runtime: of all of them.
        told: called with a line before each way.

    Raises:
        ConfigError: fewer than 0 kills.
        VolumeError: the volume cannot be read.
        InferenceError: a run failed.
    """
    if kills < 0:
        raise ConfigError(f"kills: got {kills}, expected 0 or more")
    watch = Watch()
    with open_volume(volume) as opened:
        shape = opened.shape_zyx
    with TemporaryDirectory() as folder:
        settings = InferSettings(
            model=model, out=Path(folder) / "out", runtime=runtime, trials=TrialMemory(Path(folder) / "trials.json")
        )  # fmt: skip
        told(COMMAND)
        expected = finished_in_child(volume, replace(settings, overwrite=True)).mask_sha256
        digests = {COMMAND: expected}
        for way in ways(shape[0]):
            told(way.title)
            digests[way.title] = mask_of_way(volume, settings, way, Path(folder) / "way")
        interrupted = _interrupted(volume, replace(settings, slab_planes=1), kills, told) if kills else []
    for number, one in enumerate(interrupted):
        digests[f"{COMMAND}, run {number + 1} with kills and --resume"] = one.mask_sha256
    return IdenticalMeasurement(
        volume=volume.name,
        shape_zyx=shape,
        model="builtin" if model is None else model.stem,
        runtime=runtime,
        results=[WayResult(title, digest, digest == expected) for title, digest in digests.items()],
        kills=sum(one.kills for one in interrupted),
        runs_with_kills=len(interrupted),
        planes_resumed=sum(one.planes_resumed for one in interrupted),
        circumstances=watch.circumstances(),
    )


def ways(planes: int) -> Iterator[Way]:
    """All ways for a volume of that many planes; each differs in one thing from the plainest."""
    yield Way("one tile at a time, one thread")
    yield from (Way(f"batches of {size}", batch=size) for size in (2, 3))
    for thickness in (1, 3, 5, 8):
        if thickness < planes:
            yield Way(f"slabs of {thickness} plane{'s' if thickness > 1 else ''}", slab_planes=thickness)
    most = max(2, usable_processors())
    yield from (Way(f"{threads} threads", threads=threads) for threads in sorted({2, most}))
    yield from (Way(f"{contexts} calls at a time", contexts=contexts) for contexts in sorted({2, most}))
    # Slabs of one plane, so that there are enough of them to fill the ring.
    yield from (Way(f"ring of {ring}", ring=ring, slab_planes=1) for ring in (1, 3, 4))
    yield Way("tiles in the opposite order", backwards=True)
    yield Way("all of it", batch=2, slab_planes=min(3, planes), contexts=2, ring=3, backwards=True)


def mask_of_way(volume: Path, settings: InferSettings, way: Way, folder: Path) -> str:
    """Compute the mask as `way` says, through the engine's own parts; its sha256. `folder` must not exist."""
    asked = replace(settings, batch=way.batch, slab_planes=way.slab_planes, threads=1)
    with ExitStack() as opened:
        source = opened.enter_context(open_volume(volume))
        ready = opened.enter_context(prepared(source, asked))
        plan = _backwards(ready.plan) if way.backwards else ready.plan
        predictors = {
            one.key: opened.enter_context(
                open_predictor(
                    one.bundle, runtime=settings.runtime, precision=one.precision, threads=way.threads,
                    contexts=way.contexts,
                )
            )
            for one in {one.key: one for one in ready.passes}.values()
        }  # fmt: skip
        work = opened.enter_context(work_folder(folder, {}, units=1, resume=False, discard=True))
        run = VolumeRun(
            source, ready.window, plan, [Worker("cpu", HostDevice(), predictors)], work,
            probability=False, on_planes=_ignored, ring=way.ring,
        )  # fmt: skip
        run.run()
        result = opened.enter_context(TemporaryDirectory(dir=folder.parent))
        assemble(
            run.slab_files, Path(result), source, min_voxels=plan.min_voxels, probability=False, submission=False,
            grey_of_plane=lambda z: ready.window.to_uint8(source.read_planes(z, z + 1))[0], on_planes=_ignored,
        )  # fmt: skip
        return mask_sha256(Path(result) / MASK)


@dataclass(frozen=True)
class _Interrupted:
    mask_sha256: str
    kills: int
    planes_resumed: int


def _interrupted(volume: Path, settings: InferSettings, kills: int, told: Callable[[str], None]) -> list[_Interrupted]:
    """Runs that were killed, at moments as likely anywhere in the time of a whole run, and then went on."""
    began = perf_counter()
    finished_in_child(volume, replace(settings, overwrite=True))
    length = perf_counter() - began
    draw = random.Random(KILL_SEED)
    ended: list[_Interrupted] = []
    done = 0
    while done < kills:
        before = done
        this_run = replace(settings, out=Path(f"{settings.out}-{len(ended)}"), resume=True)
        mask = Path(str(this_run.out)) / MASK
        resumed = 0
        # What is there under its final name is whole: a kill may come after that, when the process is about to end.
        while not mask.exists():
            told(f"run {len(ended) + 1} with kills: {done} of {kills} done")
            moment = draw.uniform(0, length) if done < kills else None
            if finished := infer_in_child(volume, this_run, kill_after=moment):
                resumed = finished.planes_resumed
            else:
                done += 1
        ended.append(_Interrupted(mask_sha256(mask), done - before, resumed))
    return ended


def _backwards(plan: Plan) -> Plan:
    return replace(
        plan,
        axes=tuple(
            replace(
                axis,
                passes=tuple(
                    replace(one, layouts=tuple(replace(layout, tiles=layout.tiles[::-1]) for layout in one.layouts))
                    for one in axis.passes
                ),
            )
            for axis in plan.axes
        ),
    )


def _ignored(_done: int, _all: int) -> None:
    return
