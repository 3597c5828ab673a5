"""An ensemble: which networks look at a volume, along which axes, at which scale, and how much each of them counts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from sennet_engine.card import Precision
from sennet_engine.config import Config
from sennet_engine.planning.axes import AXES, Axis, axis_first

Flip = Literal["none", "rows", "columns", "both"]

BUILTIN_NAME = "builtin"


class PassSettings(Config):
    """One network over a volume. The answers along its axes and of its flips are averaged.

    Attributes:
        model: the bundle's folder, relative to the ensemble's file or in the folder `--models`; or `builtin`.
        axes: the planes along these go through the network, as "z" or "zyx".
        scale: planes are resized by it before the network sees them; by default the volume's voxel size over that of
            the model's training.
        tile: side of the tiles; by default the model's own, or the cheapest where the network is exact on tiles.
        stride: distance of neighbouring tiles, for networks that are never exact; by default three quarters of the
            tile.
        flips: how the tiles are mirrored: "none", "rows" (upside down), "columns" (left to right), "both".
        weight: how much it counts beside the other passes, all of its axes and flips together.
        precision: which of the bundle's ONNX files; by default what `--precision` says.
        if_both_sides_above: only where rows and columns of the plane are more than that.
        unless_both_sides_above: only where they are not.
    """

    model: str = Field(min_length=1)
    axes: str = "z"
    scale: float | None = Field(None, gt=0.05, lt=20)
    tile: int | None = Field(None, ge=1)
    stride: int | None = Field(None, ge=1)
    flips: list[Flip] = Field(["none"], min_length=1)
    weight: int = Field(1, ge=1, le=1000)
    precision: Precision | None = None
    if_both_sides_above: int | None = Field(None, ge=1)
    unless_both_sides_above: int | None = Field(None, ge=1)

    @field_validator("axes")
    @classmethod
    def _are_axes(cls, axes: str) -> str:
        if not axes or len(set(axes)) < len(axes) or set(axes) - set("zyx"):
            raise ValueError("expected some of z, y and x, each once")
        return axes

    @field_validator("flips")
    @classmethod
    def _are_different(cls, flips: list[Flip]) -> list[Flip]:
        if len(set(flips)) < len(flips):
            raise ValueError("expected each flip once")
        return flips

    def axes_for(self, shape_zyx: tuple[int, int, int]) -> Iterator[Axis]:
        """Its axes, z first, along which its conditions hold: they are on the volume's own planes, before resizing."""
        for axis in AXES:
            _, *sides = axis_first(shape_zyx, axis)
            wanted = self.if_both_sides_above is None or min(sides) > self.if_both_sides_above
            refused = self.unless_both_sides_above is not None and min(sides) > self.unless_both_sides_above
            if axis in self.axes and wanted and not refused:
                yield axis

    @property
    def conditions(self) -> list[str]:
        """As they stand in the file: "if_both_sides_above = 832"."""
        bounds = {
            "if_both_sides_above": self.if_both_sides_above,
            "unless_both_sides_above": self.unless_both_sides_above,
        }
        return [f"{key} = {bound}" for key, bound in bounds.items() if bound is not None]


class CascadeSettings(Config):
    """The first pass looks at everything, the others only at tiles in which it saw something.

    Attributes:
        low_bound: a tile goes on where the first pass gave this probability or more to any of its voxels. What does
            not go on is answered by the first pass alone, and is not vessel.
    """

    low_bound: float = Field(0.02, gt=0, lt=1)


class Ensemble(Config):
    """What `--model ENSEMBLE.toml` says.

    Attributes:
        threshold: a voxel is vessel where the weighted mean probability is at or above it; by default the model's
            own where all passes are of one model.
        min_voxels: 26-connected components of fewer voxels are removed; 0 keeps all.
        cascade: off by default.
    """

    name: str = ""
    description: str = ""
    passes: list[PassSettings] = Field(min_length=1)
    threshold: float | None = Field(None, ge=0.001, le=0.999)
    min_voxels: int = Field(0, ge=0)
    cascade: CascadeSettings | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> "Ensemble":
        if self.threshold is None and len({one.model for one in self.passes}) > 1:
            raise ValueError("lacks a threshold, which an ensemble of several models needs")
        if self.cascade and len(self.passes) < 2:
            raise ValueError("a cascade needs a second pass to go on to")
        first = self.passes[0]
        if self.cascade and list(first.conditions):
            raise ValueError("a cascade's first pass decides for all others: it cannot have a condition")
        if self.cascade and (first.axes, first.flips) != ("z", ["none"]):
            raise ValueError(
                f"a cascade's first pass decides by one look along z: got axes {first.axes!r} and flips {first.flips}"
            )
        if self.cascade and self.threshold is not None and self.cascade.low_bound > self.threshold:
            raise ValueError(f"cascade.low_bound {self.cascade.low_bound} is above the threshold {self.threshold}")
        return self


def ensemble_of_model(model: Path | str) -> Ensemble:
    """The ensemble of one bundle alone, along z."""
    return Ensemble(passes=[PassSettings(model=str(model))])
