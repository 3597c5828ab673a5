"""The whole check, step after step; none stops the others, and all of it ends after ten minutes."""

import json
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter

import sennet_bench
from sennet_bench.gpu_check.commands import Place
from sennet_bench.gpu_check.facts import Facts, facts_of_machine
from sennet_bench.gpu_check.links import why_not_built_for, why_provider_cannot_load
from sennet_bench.gpu_check.marked_tests import KEY, TITLE, run_marked_tests
from sennet_bench.gpu_check.model_copy import copy_for_one_side
from sennet_bench.gpu_check.promises import contexts_step, graphs_step, kill_step, several_gpus_step
from sennet_bench.gpu_check.segmentations import OUT_OF_TIME, segment_reference, segment_way
from sennet_bench.gpu_check.steps import MarkedTest, Outcome, Segmentation, Step, not_run
from sennet_bench.gpu_check.untried import ProvenFile, proven_files
from sennet_bench.gpu_check.ways import REFERENCE_KEY, REFERENCE_TITLE, WAYS, Way
from sennet_engine.gpu.present import Census, census
from sennet_trainer.phantom import PhantomSettings, make_phantom, write_phantom

MINUTES = 10.0
SHAPE = (64, 1024, 1024)
SEED = 11
LONGEST_TESTS = 240.0
PROMISES = {
    "graphs": "CUDA graphs off and on",
    "several-gpus": "Several GPUs, the same mask",
    "kill": "kill -9, then --resume",
    "contexts": "1, 2 and 3 contexts, CUDA graphs off and on",
}
STEPS = (REFERENCE_KEY, KEY, *(way.key for way in WAYS), *PROMISES)


@dataclass(frozen=True)
class CheckRequest:
    """What is asked of a check. Attributes: `model` is a bundle, `shape_zyx` that of the phantom."""

    model: Path
    shape_zyx: tuple[int, int, int] = SHAPE
    minutes: float = MINUTES


@dataclass
class GpuCheck:
    """What was found so far.

    Attributes:
        tile: the side of all tiles, in all runs.
    """

    date: str
    facts: Facts
    model: str
    shape_zyx: tuple[int, int, int]
    tile: int
    minutes: float
    steps: list[Step] = field(default_factory=list)
    tests: list[MarkedTest] = field(default_factory=list)
    segmentations: list[Segmentation] = field(default_factory=list)
    files: list[ProvenFile] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether there is a GPU, no step failed, and none was left out that this machine could have run."""
        left_out = [step for step in self.steps if step.outcome is Outcome.NOT_RUN and not step.optional]
        return bool(self.facts.gpus) and not self.failed and not left_out

    @property
    def failed(self) -> list[Step]:
        """The steps that failed."""
        return [step for step in self.steps if step.outcome is Outcome.FAILED]

    def as_json(self) -> str:
        """All of it; `kind` tells what the file is."""
        table = {"kind": "gpu-check", "passed": self.passed, **asdict(self)}
        return json.dumps(table, indent=2, ensure_ascii=False) + "\n"


def run_check(request: CheckRequest, *, told: Callable[[str], None]) -> GpuCheck:
    """Run all steps.

    Args:
        told: called with a line before each.

    Raises:
        ModelError: the model cannot be used.
        ConfigError: a shape of which no phantom can be made.
    """
    began, clock = perf_counter(), monotonic()
    checkout = Path(sennet_bench.__file__).resolve().parent.parent
    found, settings = census(), PhantomSettings(kidney=1, shape_zyx=request.shape_zyx, seed=SEED)
    with TemporaryDirectory(prefix="gpu-check-") as folder:
        work = Path(folder)
        bundle, side = copy_for_one_side(request.model, work / "checked.model")
        check = GpuCheck(
            date=datetime.now(UTC).isoformat(timespec="seconds"), facts=facts_of_machine(found),
            model=bundle.card.name, shape_zyx=request.shape_zyx, tile=side, minutes=request.minutes,
        )  # fmt: skip
        told("phantom")
        write_phantom(make_phantom(settings), settings, work / "phantom")
        place = Place(work, work / "phantom" / "image.tif", bundle.path, clock + 60 * request.minutes)
        _run_steps(check, place, checkout, found, told)
    check.files = proven_files(checkout, check.steps)
    check.seconds = perf_counter() - began
    return check


def _run_steps(check: GpuCheck, place: Place, checkout: Path, found: Census, told: Callable[[str], None]) -> None:
    truth, common = place.folder / "phantom" / "labels.tif", ("--tile", str(check.tile))
    told("the reference, on the processors")
    _add(check, REFERENCE_KEY, REFERENCE_TITLE, lambda: segment_reference(place, truth, common))
    reference = check.steps[-1].outcome is Outcome.PASSED
    why_not = found.why_none or ("" if reference else "there is no mask to compare with: the reference failed")
    told(TITLE)
    _add(check, KEY, TITLE, lambda: (_tests(check, place, checkout, found), None))
    for way in WAYS:
        told(way.title)
        _add(check, way.key, way.title, partial(_segmented, place, truth, way, common, why_not, found))
    _promises(check, place, common, why_not or _why_no_promises(check), found, told)


def _tests(check: GpuCheck, place: Place, checkout: Path, found: Census) -> Step:
    if found.why_none:
        return not_run(KEY, TITLE, found.why_none)
    left = place.deadline - monotonic()
    if left <= 0:
        return not_run(KEY, TITLE, OUT_OF_TIME)
    step, check.tests = run_marked_tests(checkout, seconds=min(left, LONGEST_TESTS))
    return step


def _segmented(
    place: Place, truth: Path, way: Way, common: tuple[str, ...], why_not: str, found: Census
) -> tuple[Step, Segmentation | None]:
    if not why_not:
        links = why_provider_cannot_load() if way.key == "onnxruntime-tensorrt" else ""
        why_not = links or why_not_built_for(way.package, found.gpus[0])
    if why_not:
        return not_run(way.key, way.title, why_not, optional=way.optional), None
    return segment_way(place, truth, way, common)


def _why_no_promises(check: GpuCheck) -> str:
    if _measured(check):
        return ""
    if any(one.key != REFERENCE_KEY for one in check.segmentations):
        return "no TensorRT computed a mask that could be the same"
    return "no runtime computed a mask on the GPU that could be the same"


def _measured(check: GpuCheck) -> tuple[Way, Segmentation] | None:
    """The first way of TensorRT that computed a mask: the one that people run."""
    done = {one.key: one for one in check.segmentations}
    return next(((way, done[way.key]) for way in WAYS if way.key in done and "tensorrt" in way.package), None)


def _promises(
    check: GpuCheck, place: Place, common: tuple[str, ...], why_not: str, found: Census, told: Callable[[str], None]
) -> None:
    measured = _measured(check)
    if why_not or measured is None:
        check.steps += [not_run(key, title, why_not) for key, title in PROMISES.items()]
        return
    way, one = measured
    runtime = way.options[way.options.index("--runtime") + 1]
    steps: dict[str, Callable[[], tuple[Step, None]]] = {
        "graphs": lambda: (graphs_step(place, way, common, one.mask_sha256), None),
        "several-gpus": lambda: (several_gpus_step(place, way, common, one.mask_sha256, found.gpus), None),
        "kill": lambda: (kill_step(place, way, common, one.mask_sha256), None),
        "contexts": lambda: (contexts_step(place, check.tile, runtime), None),
    }
    for key, run in steps.items():
        told(PROMISES[key])
        _add(check, key, PROMISES[key], run)


def _add(check: GpuCheck, key: str, title: str, run: Callable[[], tuple[Step, Segmentation | None]]) -> None:
    """Take in what `run` found; a mistake in the check itself is its step's outcome: the others are worth having."""
    try:
        step, segmentation = run()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told in full on the page
        reason = f"the check itself broke: {type(error).__name__}: {error}"
        step, segmentation = Step(key, title, Outcome.FAILED, reason, error=traceback.format_exc()), None
    check.steps.append(step)
    check.segmentations += [segmentation] if segmentation else []
