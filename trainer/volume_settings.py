"""The settings of a labelled volume: where it lies, which of its planes are used, and what for."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from sennet_engine.config import Config

Axis = Literal["z", "y", "x"]


def _distinct_axes(axes: str) -> str:
    if not axes or len(set(axes)) != len(axes) or set(axes) - set("zyx"):
        raise ValueError("expected one or more of the letters z, y and x, each at most once")
    return axes


Axes = Annotated[str, AfterValidator(_distinct_axes)]
"""Some of the letters z, y and x, each at most once."""


class VolumeSettings(Config):
    """A labelled volume and what it is used for."""

    images: Path
    """Anything that the engine opens: a TIFF, a .npy file, a folder of slices."""
    labels: Path | None = None
    """0/1 or 0/255, and of the images' shape; or of the planes of `slices` alone; or a folder of slices whose names are
    some of the images' names, in a row: only those are used then. May be absent with `allow_empty`."""
    role: Literal["train", "validation"] = "train"
    """Crops are drawn from training volumes; validation volumes are predicted whole."""
    axes: Axes = "zyx"
    """Planes are cut along each of these axes."""
    slices: tuple[int, int] | None = None
    """Use the planes from the first (inclusive) to the second (exclusive) along z only."""
    voxel_size_um: float | None = Field(None, gt=0)
    """Micrometres a pixel of the planes; absent: as the file tells, else as the whole run says."""
    label_fraction: float = Field(1.0, gt=0, le=1)
    """Which share of the true vessel voxels is labelled: 1 for dense labels. Thresholds of pseudo-labels aim at it."""
    pseudo_labels: bool = False
    """Voxels with the label 2 are pseudo-labels and count as vessels. Without this the label 2 is an error."""
    name: str | None = Field(None, min_length=1)
    """Names the volume in scores; absent: after its files."""
    weight: float = Field(1.0, gt=0)
    """How often crops are drawn from this volume, relative to the other training volumes."""
    invert: bool = False
    """Invert the grey levels after windowing, for modalities with bright vessels."""
    allow_empty: bool = False
    """A volume without a labelled voxel is meant: a hard negative."""

    @model_validator(mode="after")
    def _fits_together(self) -> "VolumeSettings":
        if self.labels is None and not self.allow_empty:
            raise ValueError("labels are missing; give labels, or allow_empty = true where all is background")
        if self.allow_empty and self.role == "validation":
            raise ValueError("a validation volume needs labelled vessels; use allow_empty on training volumes only")
        if self.slices is not None and not 0 <= self.slices[0] < self.slices[1]:
            raise ValueError(f"slices: got {list(self.slices)}, expected [first, end] with 0 <= first < end")
        return self
