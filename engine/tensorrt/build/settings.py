"""What a person asks of an engine."""

from dataclasses import dataclass, field
from pathlib import Path

from sennet_engine.card import Precision
from sennet_engine.engine_file import BuilderOptions, Profile
from sennet_engine.errors import ConfigError


@dataclass(frozen=True)
class Batch:
    """The batches that an engine takes, and the one that it is tuned for."""

    smallest: int = 1
    usual: int = 4
    largest: int = 8


@dataclass(frozen=True)
class BuildSettings:
    """What a person asks of an engine.

    Attributes:
        precision: that of the ONNX file, which decides that of the engine; what is built is checked against it.
        sides: tile sides, one optimization profile each.
        compute_capabilities: GPUs, as "8.6"; by default the product's usual ones.
        timing_cache: a file that the timings of kernels are read from and added to, where the product has them.
    """

    precision: Precision
    sides: tuple[int, ...]
    batch: Batch = field(default_factory=Batch)
    compute_capabilities: tuple[str, ...] = ()
    options: BuilderOptions = field(default_factory=BuilderOptions)
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        if not self.sides or min(self.sides) < 1 or len(set(self.sides)) < len(self.sides):
            raise ConfigError(f"tile sides: got {self.sides}, expected at least one, each once, in pixels")

    @property
    def profiles(self) -> list[Profile]:
        """One for every tile side."""
        batch = self.batch
        return [
            Profile(side=side, batch_smallest=batch.smallest, batch_usual=batch.usual, batch_largest=batch.largest)
            for side in self.sides
        ]
