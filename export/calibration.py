"""Real planes to measure an exported model on: those of the run, of a named volume, or of phantoms."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sennet_engine.volumes.open import open_volume
from sennet_engine.window import CLIP_SHARE, Window, surveyed_window
from sennet_trainer.phantom import PhantomSettings, make_phantom

PLANES = 4
FURTHER_SQUARES = 3
PHANTOM_SHAPE_ZYX = (4, 512, 512)
PHANTOM_SEED = 404


@dataclass(frozen=True)
class Calibration:
    """Windowed uint8 planes, [Y, X] each, and where they are from."""

    source: str
    planes: list[npt.NDArray[np.uint8]]

    def squares(self, side: int) -> npt.NDArray[np.uint8]:
        """One [side, side] square a plane, [n, 1, side, side]: its busiest, mirrored if the plane is small."""
        return np.stack([_by_business(plane, side)[0] for plane in self.planes])[:, None]

    def further_squares(self, side: int) -> npt.NDArray[np.uint8]:
        """Others than `squares`, [n, 1, side, side]: the next FURTHER_SQUARES a plane, or its only one.

        What is measured on these (ranges of activations, scales of int8) is proven on those.
        """
        ranked = [_by_business(plane, side) for plane in self.planes]
        return np.stack([square for one in ranked for square in one[1 : 1 + FURTHER_SQUARES] or one])[:, None]


def read_calibration(path: Path, *, invert: bool = False) -> Calibration:
    """PLANES planes of the volume at `path`, spread over its middle half, inverted where the network was trained so.

    Raises VolumeError as `open_volume`.
    """
    with open_volume(path) as volume:
        window = surveyed_window(volume)
        depth = volume.shape_zyx[0]
        chosen = np.unique(np.linspace(depth * 0.25, max(depth * 0.75 - 1, 0), PLANES).astype(int))
        if depth <= PLANES:
            chosen = np.arange(depth)
        planes = [window.to_uint8(volume.read_planes(int(z), int(z) + 1))[0] for z in chosen]
        return Calibration("/".join(path.parts[-2:]), [255 - plane for plane in planes] if invert else planes)


def phantom_calibration() -> Calibration:
    """The first and the last plane of a phantom of each kidney: for models that come without a volume."""
    planes = []
    for kidney in (1, 2, 3):
        phantom = make_phantom(PhantomSettings(shape_zyx=PHANTOM_SHAPE_ZYX, kidney=kidney, seed=PHANTOM_SEED))
        window = Window(*(float(level) for level in np.quantile(phantom.image, (CLIP_SHARE, 1 - CLIP_SHARE))))
        planes += [window.to_uint8(plane) for plane in phantom.image[[0, -1]]]
    return Calibration(source=f"phantoms of kidneys 1 to 3, seed {PHANTOM_SEED}", planes=planes)


def _by_business(plane: npt.NDArray[np.uint8], side: int) -> list[npt.NDArray[np.uint8]]:
    """Squares at half their side apart, the one with the strongest contrast first."""
    missing = [max(0, side - size) for size in plane.shape]
    plane = np.pad(plane, [(0, size) for size in missing], mode="symmetric")
    tops, lefts = (range(0, size - side + 1, max(1, side // 2)) for size in plane.shape)
    squares = [plane[top : top + side, left : left + side] for top in tops for left in lefts]
    return sorted(squares, key=lambda square: -float(square.std()))
