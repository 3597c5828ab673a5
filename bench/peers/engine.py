"""The engine as a person runs it: `infer`, from the volume on disk to its folder of results."""

from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from sennet_bench.peers.contestant import Job, Outcome
from sennet_engine.bundle import read_card
from sennet_engine.infer import infer
from sennet_engine.settings import InferSettings
from sennet_engine.trial_memory import TrialMemory

MASK = "mask.tif"
# Until the network is ready: the trial, which is remembered for the next run, and loading.
LOADING = ("trial", "load")


def run(job: Job, *, precision: str = "fp32") -> Outcome:
    """Preview, audit and summary are counted; the others make none. A trial is remembered beside the mask."""
    # The others do not rescale, so the volume is taken as one of the voxel size that the network was trained for.
    size = read_card(job.model).voxel_size_um
    with TemporaryDirectory(dir=job.mask.parent) as folder:
        out = Path(folder) / "out"
        settings = InferSettings(
            model=job.model, out=out, precision=precision, threads=job.threads, voxel_size_um=(size, size, size),
            trials=TrialMemory(job.mask.with_name("trials.json")),
        )  # fmt: skip
        began = perf_counter()
        summary = infer(job.volume, settings, on_planes=lambda _done, _planes: None)
        seconds = perf_counter() - began
        (out / MASK).replace(job.mask)
    load = sum(summary.seconds_by_part[part] for part in LOADING)
    return Outcome(
        seconds=seconds - load,
        load_seconds=load,
        stage_seconds=summary.stage_seconds,
        part_seconds={part: time for part, time in summary.seconds_by_part.items() if part not in LOADING},
    )
