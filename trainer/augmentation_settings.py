"""The settings of the augmentation."""

from typing import Annotated

from pydantic import Field, model_validator

from sennet_engine.config import Config
from sennet_engine.errors import ConfigError

SMALLEST_SCALE = 0.05

Share = Annotated[float, Field(ge=0, le=1)]
"""A probability or a share, 0 to 1."""


class AugmentationSettings(Config):
    """The augmentation of the third-place solution, in its order. A probability of 0 turns a step off."""

    flip: Share = 0.5
    """Probability of each of: a horizontal flip, a vertical flip, quarter turns."""
    shift_scale_rotate: Share = 0.95
    """Probability of a shift, a magnification and a rotation, with a reflected border."""
    shift: Share = 0.3
    """Largest shift as a share of the side."""
    scale: tuple[float, float] = (0.55, 1.05)
    """Smallest and largest magnification, of volumes of any voxel size. Not used with `target_voxel_size_um`."""
    target_voxel_size_um: float | None = Field(None, gt=0)
    """The voxel size of the volumes that will be segmented. Given, it centres the magnification of each volume on its
    own voxel size over this one: 50 µm shown as 63 µm is 0.79."""
    scale_spread: float = Field(0.25, ge=0)
    """How far the magnification strays from that centre, to either side."""
    rotate: float = Field(45.0, ge=0, le=180)
    """Largest rotation in degrees."""
    blur_or_noise: Share = 0.1
    """Probability of one of: Gaussian, median or motion blur, Gaussian noise."""
    brightness_contrast: Share = 1.0
    """Probability of a change of brightness and contrast by up to 20 %."""
    gamma: Share = 0.8
    """Probability of a gamma between 0.8 and 1.2."""
    distortion: Share = 0.8
    """Probability of one of: elastic, grid or optical distortion."""
    sharpen_or_clahe: Share = 0.5
    """Probability of one of: sharpening, contrast-limited histogram equalisation."""
    noise: float = Field(0.5, ge=0)
    """White noise at the very end, its sigma this factor times U·U (U uniform in 0..1) times the crop's own sigma."""

    @model_validator(mode="after")
    def _scale_ascends(self) -> "AugmentationSettings":
        if not SMALLEST_SCALE <= self.scale[0] <= self.scale[1]:
            raise ValueError(
                f"scale: got {list(self.scale)}, expected [smallest, largest] with {SMALLEST_SCALE} <= smallest <= "
                f"largest"
            )
        return self

    def scale_for(self, voxel_size_um: float) -> tuple[float, float]:
        """The smallest and largest magnification of a volume of `voxel_size_um`.

        The write-up of the third-place solution, section 3.3: 0.8 ± 0.25 for 50 µm volumes, to be ready for 63 µm.

        Raises:
            ConfigError: the spread reaches below a magnification of 0.05.
        """
        if self.target_voxel_size_um is None:
            return self.scale
        centre = voxel_size_um / self.target_voxel_size_um
        low, high = centre - self.scale_spread, centre + self.scale_spread
        if low < SMALLEST_SCALE:
            raise ConfigError(
                f"augmentation.scale_spread: got {self.scale_spread}, expected at most {centre - SMALLEST_SCALE:.2f} "
                f"for a volume of {voxel_size_um:g} µm shown as {self.target_voxel_size_um:g} µm (magnification "
                f"{centre:.2f}); lower it, or give another target_voxel_size_um"
            )
        return low, high
