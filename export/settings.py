"""What a person asks of an export."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from sennet_engine.card import Precision
from sennet_engine.errors import ConfigError, OutputError
from sennet_engine.gpu.present import present_compute_capability
from sennet_engine.tensorrt.build.settings import Batch
from sennet_engine.tensorrt.products import EngineTarget

Target = Literal["onnx", "openvino", "rtx", "tensorrt"]
TARGETS: tuple[Target, ...] = get_args(Target)
ENGINE_TARGETS: tuple[EngineTarget, ...] = get_args(EngineTarget)
SUFFIX = ".model"
MOST_WORKSPACE_MB = 2**20


@dataclass(frozen=True)
class ExportSettings:
    """What a person asks for.

    Attributes:
        out: the bundle's folder, NAME.model; by default beside the run, and for a bundle the bundle itself.
        overwrite: whether another bundle at `out` is replaced.
        calibration: a volume whose planes the model is measured on; by default the first validation volume of the
            run, else its first training volume; for a bundle, phantoms.
        halo_tolerance: grey levels by which a tile may differ from the whole plane at the halo's inner edge; by default
            1. Runs only: a bundle's halo has been measured.
        description: one sentence for the card.
        precisions: what is made besides fp32.
        targets: what the files are made for; `onnx` is always among them.
        tiles: tile sides; by default all that are useful. Of a bundle those that its engines are built for.
        batch: of the engines; by default `Batch()`.
        compute_capabilities: GPUs that engines are built for, as "8.6"; by default the product's own choice.
        allowed_loss: surface Dice that fp16 and int8 may lose against fp32; by default that of `gate.LIMITS`.
        workspace_mb: memory that a builder may use on the GPU; by default all.
        builder_level: 0 to 5, how long a builder searches; by default its own.
        timing_cache: a file that a builder reads timings of kernels from and adds its own to, where it has such.
    """

    out: Path | None = None
    overwrite: bool = False
    calibration: Path | None = None
    halo_tolerance: int | None = None
    description: str = ""
    precisions: tuple[Precision, ...] = ()
    targets: tuple[Target, ...] = ("onnx",)
    tiles: tuple[int, ...] = ()
    batch: Batch | None = None
    compute_capabilities: tuple[str, ...] = ()
    allowed_loss: float | None = None
    workspace_mb: int | None = None
    builder_level: int | None = None
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        if self.out is not None and self.out.suffix != SUFFIX:
            raise OutputError(
                f"--out: got {self.out.name!r}, expected a name that ends in {SUFFIX} ({self.out.stem}{SUFFIX})"
            )
        if self.halo_tolerance is not None and not 0 <= self.halo_tolerance <= 255:
            raise ConfigError(f"halo tolerance: got {self.halo_tolerance}, expected grey levels from 0 to 255")
        if self.allowed_loss is not None and not 0 <= self.allowed_loss <= 1:
            raise ConfigError(f"--gate: got {self.allowed_loss}, expected a loss of surface Dice, 0 to 1, such as 0.01")
        if self.builder_level is not None and not 0 <= self.builder_level <= 5:
            raise ConfigError(f"--builder-level: got {self.builder_level}, expected 0 to 5")
        if self.workspace_mb is not None and not 1 <= self.workspace_mb <= MOST_WORKSPACE_MB:
            raise ConfigError(f"--workspace: got {self.workspace_mb}, expected 1 to {MOST_WORKSPACE_MB} megabytes")

    @property
    def engine_targets(self) -> tuple[EngineTarget, ...]:
        """The targets that engines are built for."""
        return tuple(target for target in ENGINE_TARGETS if target in self.targets)


def batch_from_text(text: str) -> Batch:
    """`MIN,OPT,MAX` as a batch. Raises ConfigError where it is not three ascending numbers from 1 on."""
    try:
        smallest, usual, largest = (int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--batch: got {text!r}, expected MIN,OPT,MAX, such as 1,4,8") from error
    if not 1 <= smallest <= usual <= largest:
        raise ConfigError(f"--batch: got {text!r}, expected 1 <= MIN <= OPT <= MAX, such as 1,4,8")
    return Batch(smallest, usual, largest)


def targets_from_text(texts: list[str]) -> tuple[Target, ...]:
    """Names of targets, in the order of TARGETS. Raises ConfigError for an unknown one."""
    for text in texts:
        if text not in TARGETS:
            raise ConfigError(f"--target: got {text!r}, expected some of {', '.join(TARGETS)}")
    return tuple(target for target in TARGETS if target == "onnx" or target in texts)


def usual_targets(*, fp16: bool) -> tuple[Target, ...]:
    """ONNX, and with fp16 an engine: of TensorRT where it is installed beside a GPU, else of TensorRT for RTX."""
    if not fp16:
        return ("onnx",)
    return ("onnx", "tensorrt" if present_compute_capability() and find_spec("tensorrt") else "rtx")
