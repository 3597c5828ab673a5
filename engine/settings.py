"""What a person asks of a run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

from sennet_engine.errors import ConfigError
from sennet_engine.gpu.predictor import CudaGraphs
from sennet_engine.runtimes import AUTO
from sennet_engine.trial_memory import TrialMemory
from sennet_engine.volumes.volume import VoxelSize
from sennet_engine.window import Window

OnOverflow = Literal["stop", "fp32"]
T = TypeVar("T")


@dataclass(frozen=True)
class InferSettings:
    """Everything but the volume; None leaves it to the models, the ensemble or the machine.

    Attributes:
        model: a bundle, or the TOML file of an ensemble; by default the built-in model.
        models: the folder in which an ensemble's bundles lie; by default that of its file.
        out: the output folder; by default NAME.sennet beside the input.
        overwrite: replace an earlier result, and forget an interrupted run.
        resume: go on with an interrupted run.
        voxel_size_um: (Z, Y, X); by default what the file says.
        scale: network pixels a voxel; by default voxel size over that of the model's training.
        window: grey levels that become 0 and 255; by default the 0.1 % and 99.9 % levels of the volume.
        threshold: probability from which a voxel is vessel.
        min_voxels: smaller components are removed.
        skip: whether background is left out.
        audit_share: of the computed pixels, so many are spent on a sample of what was left out.
        tile, batch, slab_planes: tile side; tiles in a call of the model; planes in memory at a time.
        device: `auto`, `cpu`, `cuda`, or several GPUs as `cuda:0,cuda:1`.
        memory_bytes: the run's peak memory is to stay below it.
        runtime, precision, threads: what computes (`auto`: what a trial finds fastest, or the best on a GPU), which
            file (`auto`: fp32 on processors, fp16 on GPUs), on how many threads in all.
        cuda_graphs: whether launches on a GPU are recorded and replayed.
        on_overflow: whether a tile with NaN or infinity in its answer stops the run, or is computed again in fp32.
        engine_cache: the user's folder for engines of bundles that cannot be written to.
        trials: where the trial's outcome is remembered.
        probability, submission: whether `probability.tif` and `submission.csv` are written too.
    """

    model: Path | None = None
    models: Path | None = None
    out: Path | None = None
    overwrite: bool = False
    resume: bool = False
    voxel_size_um: VoxelSize | None = None
    scale: float | None = None
    window: Window | None = None
    threshold: float | None = None
    min_voxels: int | None = None
    skip: bool = True
    audit_share: float = 0.01
    tile: int | None = None
    batch: int | None = None
    slab_planes: int | None = None
    memory_bytes: int | None = None
    device: str = AUTO
    runtime: str = AUTO
    precision: str = AUTO
    threads: int | None = None
    cuda_graphs: CudaGraphs = "auto"
    on_overflow: OnOverflow = "stop"
    engine_cache: Path | None = None
    trials: TrialMemory = field(default_factory=lambda: TrialMemory(None))
    probability: bool = False
    submission: bool = False


def cuda_graphs_from_text(text: str) -> CudaGraphs:
    """`auto`, `on` or `off`. Raises ConfigError for another."""
    return _one_of("cuda-graphs", text, get_args(CudaGraphs))


def on_overflow_from_text(text: str) -> OnOverflow:
    """`stop` or `fp32`. Raises ConfigError for another."""
    return _one_of("on-overflow", text, get_args(OnOverflow))


def _one_of(option: str, text: str, allowed: tuple[T, ...]) -> T:
    for one in allowed:
        if text == one:
            return one
    raise ConfigError(f"{option}: got {text!r}, expected one of {', '.join(map(str, allowed))}")
