"""The model card `model.json`: what a model is, how it is fed, and what was measured of it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sennet_engine.config import Config


class FixedNormalisation(Config):
    """(grey / 255 - mean) / std, the same for every tile."""

    kind: Literal["fixed"] = "fixed"
    mean: float = 0.5
    std: float = Field(0.5, gt=0)


class TileNormalisation(Config):
    """(grey - mean of the tile) / (std of the tile + epsilon); what lies outside [low, high] is compressed by `slope`.

    The normalisation of the third-place solution. A network that uses it is never exact on tiles.
    """

    kind: Literal["tile"] = "tile"
    epsilon: float = Field(1e-5, gt=0)
    low: float = -3.0
    high: float = 5.0
    slope: float = Field(1e-3, ge=0)


Normalisation = Annotated[FixedNormalisation | TileNormalisation, Field(discriminator="kind")]


class HaloError(Config):
    """Largest and mean difference to the whole plane, in grey levels, `distance` pixels and more from a tile's edge."""

    distance: int = Field(ge=0)
    largest: int = Field(ge=0, le=255)
    mean: float = Field(ge=0)


class Tiling(Config):
    """How planes may be cut for a network.

    Attributes:
        stride: tile origins and sides are multiples of it: the network's total stride.
        sides: the tile sides that the file accepts, ascending.
        default_side: the side used where nobody asks for another.
        halo: pixels at each inner edge of a tile whose predictions are thrown away.
        exact: whether a tile with this halo answers as the whole plane does, within `halo_tolerance`, as measured.
        halo_tolerance: grey levels of the uint8 probability.
        halo_error: the measured error by distance to the edge.
    """

    stride: int = Field(ge=1)
    sides: list[int] = Field(min_length=1)
    default_side: int
    halo: int = Field(ge=0)
    exact: bool
    halo_tolerance: int = Field(1, ge=0, le=255)
    halo_error: list[HaloError] = []

    @model_validator(mode="after")
    def _fits_together(self) -> "Tiling":
        if self.halo % self.stride:
            raise ValueError(f"halo {self.halo} is not a multiple of the stride {self.stride}")
        if bad := [side for side in self.sides if side % self.stride or side <= 2 * self.halo]:
            raise ValueError(f"tile sides {bad} are not multiples of {self.stride} above twice the halo {self.halo}")
        if self.default_side not in self.sides:
            raise ValueError(f"default_side {self.default_side} is not among the sides {self.sides}")
        return self


class Threshold(Config):
    """A voxel is vessel where its probability is at or above `value`; scores stay within 0.01 in [low, high]."""

    value: float = Field(gt=0, lt=1)
    low: float | None = None
    high: float | None = None


class Parity(Config):
    """What the gate measured of a file against the trained network, on the tiles named in `tiles`; in grey levels.

    `largest_by_side` has the largest difference for every tile side that the card offers.
    """

    against: str
    tiles: str
    tile_count: int = Field(ge=1)
    largest_difference: int = Field(ge=0, le=255)
    mean_difference: float = Field(ge=0)
    flipped_share: float = Field(ge=0, le=1)
    largest_by_side: dict[int, int] = {}


class ModelFile(Config):
    """One file of the bundle. `precision` is that of the arithmetic; weights have no parity of their own."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)
    kind: Literal["weights", "onnx"]
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    parity: Parity | None = None


class ModelCard(Config):
    """All that the engine needs to know of a model before it opens one of its files."""

    format_version: Literal[1] = 1
    name: str = Field(pattern=r"^[^/\\]+$")
    description: str = ""
    decoder: str
    encoder: str
    channels: Literal[1] = 1
    normalisation: Normalisation
    voxel_size_um: float = Field(gt=0)
    shown_voxel_sizes_um: tuple[float, float] | None = None
    """The smallest and largest voxel size that magnified training crops looked like; absent: `voxel_size_um` alone."""
    tiling: Tiling
    threshold: Threshold
    files: dict[str, ModelFile]
    epoch: int | None = None
    trained_on: list[str] = []
    scores: dict[str, dict[str, float]] = {}
    versions: dict[str, str] = {}

    @model_validator(mode="after")
    def _is_exact_only_if_it_can_be(self) -> "ModelCard":
        if self.tiling.exact and self.normalisation.kind == "tile":
            raise ValueError("a network that normalises each tile by itself cannot be exact on tiles")
        return self
