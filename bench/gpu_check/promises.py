"""What must not change a mask on a GPU: CUDA graphs, contexts, a second GPU, a kill; each beside the plain run."""

import json
import sys
from time import perf_counter

from sennet_bench.gpu_check.commands import OutOfTimeError, Place, infer, killed_midway, mask_of, resume, summary_of
from sennet_bench.gpu_check.segmentations import OUT_OF_TIME, failed_step
from sennet_bench.gpu_check.steps import Outcome, Step, not_run
from sennet_bench.gpu_check.ways import Way
from sennet_bench.mask_files import mask_sha256
from sennet_engine.gpu.present import Gpu

CONTEXTS_CHILD = (sys.executable, "-m", "sennet_bench.gpu_check.contexts_child")
CONTEXTS = (1, 2, 3)
GRAPHS = ("off", "on")
# Slabs so thin that a run can be killed between two of them; where one is too fast for that, thinner ones.
KILL_SLABS, KILL_UNITS = (4, 1), 3


def graphs_step(place: Place, way: Way, common: tuple[str, ...], expected: str) -> Step:
    """The mask with CUDA graphs off and on."""
    return _same_masks(
        "graphs", "CUDA graphs off and on", place, expected,
        {f"graphs {one}": (*way.options, "--cuda-graphs", one, *common) for one in GRAPHS},
    )  # fmt: skip


def several_gpus_step(place: Place, way: Way, common: tuple[str, ...], expected: str, gpus: tuple[Gpu, ...]) -> Step:
    """The mask by all GPUs of the first one's kind together; others may differ by a grey level."""
    key, title = "several-gpus", "Several GPUs, the same mask"
    kind = gpus[0].name, gpus[0].compute_capability
    alike = [gpu for gpu in gpus if (gpu.name, gpu.compute_capability) == kind]
    if len(alike) < 2:
        return not_run(key, title, "there is one GPU alone, or one of its kind", optional=True)
    devices = ",".join(f"cuda:{gpu.index}" for gpu in alike)
    options = (*way.options[2:], "--device", devices, *common)
    return _same_masks(key, title, place, expected, {devices: options})


def kill_step(place: Place, way: Way, common: tuple[str, ...], expected: str) -> Step:
    """The mask of a run that was killed by SIGKILL after some slabs, and then went on."""
    key, title = "kill", "kill -9, then --resume"
    began = perf_counter()
    try:
        for slab in KILL_SLABS:
            options = (*way.options, *common, "--slab", str(slab))
            before = killed_midway(place, key, *options, units=KILL_UNITS)
            if before is None:
                break
            if not before.succeeded:
                return failed_step(key, title, before)
        else:
            return not_run(key, title, "the run ended before it could be killed, with slabs of one plane too")
        ended = resume(place, key, *options)
    except OutOfTimeError:
        return not_run(key, title, OUT_OF_TIME)
    if not ended.succeeded:
        return failed_step(key, title, ended)
    resumed, digest = summary_of(place, key)["planes_resumed"], mask_sha256(mask_of(place, key))
    told = f"{resumed} planes were found done; "
    same = digest == expected and resumed > 0
    outcome = Outcome.PASSED if same else Outcome.FAILED
    told += "the same mask" if digest == expected else f"another mask: sha256 {digest[:16]}, not {expected[:16]}"
    return Step(key, title, outcome, told, perf_counter() - began)


def contexts_step(place: Place, side: int, runtime: str) -> Step:
    """The same tiles through 1, 2 and 3 contexts, with and without CUDA graphs: the same answers, and how fast."""
    key, title = "contexts", "1, 2 and 3 contexts, CUDA graphs off and on"
    began, figures, digests = perf_counter(), {}, {}
    for graphs in GRAPHS:
        for contexts in CONTEXTS:
            name = f"{contexts} context{'s' if contexts > 1 else ''}, graphs {graphs}"
            answer = place.folder / f"contexts-{contexts}-{graphs}.json"
            command = (
                *CONTEXTS_CHILD, str(place.model), runtime,
                str(side), str(contexts), graphs, str(answer),
            )  # fmt: skip
            try:
                ended = place.run(*command)
            except OutOfTimeError:
                return not_run(key, title, OUT_OF_TIME)
            if not ended.succeeded:
                return failed_step(key, f"{title}: {name}", ended)
            found = json.loads(answer.read_text(encoding="utf-8"))
            figures[name] = f"{found['mpixels_per_second']:.0f} Mpixel/s"
            digests[name] = found["answers_sha256"]
    return _step_from_digests(key, title, perf_counter() - began, digests, next(iter(digests.values())), figures)


def _same_masks(key: str, title: str, place: Place, expected: str, options_by_name: dict[str, tuple[str, ...]]) -> Step:
    began, figures, digests = perf_counter(), {}, {}
    for number, (name, options) in enumerate(options_by_name.items()):
        folder = f"{key}-{number}"
        try:
            ended = infer(place, folder, *options)
        except OutOfTimeError:
            return not_run(key, title, OUT_OF_TIME)
        if not ended.succeeded:
            return failed_step(key, f"{title}: {name}", ended)
        told = summary_of(place, folder)
        figures[name] = f"{told['voxels'] / told['stage_seconds']['wall'] / 1e6:.1f} Mvoxel/s"
        digests[name] = mask_sha256(mask_of(place, folder))
    return _step_from_digests(key, title, perf_counter() - began, digests, expected, figures)


def _step_from_digests(
    key: str, title: str, seconds: float, digests: dict[str, str], expected: str, figures: dict[str, str]
) -> Step:
    others = [name for name, digest in digests.items() if digest != expected]
    reason = f"not the same: {', '.join(others)}" if others else "the same bits"
    error = "\n".join(f"{name}: sha256 {digest}" for name, digest in digests.items()) if others else ""
    outcome = Outcome.FAILED if others else Outcome.PASSED
    return Step(key, title, outcome, reason, seconds, error, figures=figures)
