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


# Beyond it the halo's share of a tile hardly falls.
LARGE_ENGINE_SIDE = 768

HaloAgainst = Literal["whole plane", "neighbouring tiles"]


class HaloError(Config):
    """How much a tile differs from what surrounds it, in grey levels, `distance` pixels and more from its edge."""

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
        halo_against: what tiles were compared with: networks for one tile side cannot be shown a whole plane.
    """

    stride: int = Field(ge=1)
    sides: list[int] = Field(min_length=1)
    default_side: int
    halo: int = Field(ge=0)
    exact: bool
    halo_tolerance: int = Field(1, ge=0, le=255)
    halo_error: list[HaloError] = []
    halo_against: HaloAgainst = "whole plane"

    @property
    def engine_sides(self) -> tuple[int, ...]:
        """The sides that an engine is built for where nobody names others: each of them takes the builder long.

        Networks that are exact on tiles do with any side; larger tiles overlap less.
        """
        if not self.exact:
            return tuple(self.sides)
        large = min(self.sides, key=lambda side: abs(side - LARGE_ENGINE_SIDE))
        return tuple(sorted({self.default_side, large}))

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


Precision = Literal["fp32", "fp16", "int8"]
Kind = Literal["weights", "onnx", "engine-onnx", "engine", "golden"]


class Parity(Config):
    """What the gate measured of a file: how far its answers are from those of `against`, at worst over `runtimes`.

    Attributes:
        against: what the answers were compared with.
        tiles: where the tiles are from, and their side.
        tile_count: tiles of that side.
        runtimes: what computed the file's answers.
        largest_difference, mean_difference: of the uint8 probabilities, in grey levels.
        largest_logit_difference, mean_logit_difference: before the sigmoid.
        flipped_share: share of the pixels that are on the other side of the threshold, at the worst side.
        surface_dice: of the masks of all sides, against those of `against`; absent where both are empty.
        largest_by_side: the largest difference for every tile side that the card offers, and for that of `tiles`.
    """

    against: str
    tiles: str
    tile_count: int = Field(ge=1)
    runtimes: list[str] = []
    largest_difference: int = Field(ge=0, le=255)
    mean_difference: float = Field(ge=0)
    largest_logit_difference: float | None = Field(None, ge=0)
    mean_logit_difference: float | None = Field(None, ge=0)
    flipped_share: float = Field(ge=0, le=1)
    surface_dice: float | None = Field(None, ge=0, le=1)
    largest_by_side: dict[int, int] = {}


class ModelFile(Config):
    """One file of the bundle.

    Attributes:
        kind: weights are safetensors for training on; engine-onnx is a graph that engines alone are built from; an
            engine has its facts in a file of its own beside it (see `engine_file`); golden are tiles with the answers
            that it must give.
        precision: that of the arithmetic, in files that are computed.
        parity: of ONNX files. An engine's is that of the ONNX file it was built from.
        kept: operators that stay in float32 (fp16) or in float (int8), counted by the reason.
        at_fault: those of them that were found by the gate: it refused the file without them.
        share_of_work: the share of the multiply-adds that is in this precision.
        largest_activation: the largest magnitude of any tensor on the calibration tiles; half precision ends at 65504.
    """

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)
    kind: Kind
    precision: Precision = "fp32"
    parity: Parity | None = None
    kept: dict[str, int] = {}
    at_fault: list[str] = []
    share_of_work: float = Field(1.0, ge=0, le=1)
    largest_activation: float | None = None


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
    multiply_adds_per_pixel: float | None = Field(None, ge=0)
    """Of a tile of the default side; None where the graph's shapes do not tell, and in cards of older exports."""
    epoch: int | None = None
    trained_on: list[str] = []
    scores: dict[str, dict[str, float]] = {}
    versions: dict[str, str] = {}

    @model_validator(mode="after")
    def _is_exact_only_if_it_can_be(self) -> "ModelCard":
        if self.tiling.exact and self.normalisation.kind == "tile":
            raise ValueError("a network that normalises each tile by itself cannot be exact on tiles")
        return self
