"""Real planes to measure an exported model on: those that the run was validated or trained with, or a named volume."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sennet_engine.volumes.open import open_volume
from sennet_engine.window import surveyed_window

PLANES = 4


@dataclass(frozen=True)
class Calibration:
    """Windowed uint8 planes, [Y, X] each, and where they are from."""

    source: str
    planes: list[npt.NDArray[np.uint8]]

    def squares(self, side: int) -> npt.NDArray[np.uint8]:
        """One [side, side] square a plane, [n, 1, side, side]: its busiest, mirrored if the plane is small."""
        return np.stack([_busiest(plane, side) for plane in self.planes])[:, None]


def read_calibration(path: Path) -> Calibration:
    """PLANES planes of the volume at `path`, spread over its middle half. Raises VolumeError as `open_volume`."""
    with open_volume(path) as volume:
        window = surveyed_window(volume)
        depth = volume.shape_zyx[0]
        chosen = np.unique(np.linspace(depth * 0.25, max(depth * 0.75 - 1, 0), PLANES).astype(int))
        if depth <= PLANES:
            chosen = np.arange(depth)
        planes = [window.to_uint8(volume.read_planes(int(z), int(z) + 1))[0] for z in chosen]
        return Calibration(source="/".join(path.parts[-2:]), planes=planes)


def _busiest(plane: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    missing = [max(0, side - size) for size in plane.shape]
    plane = np.pad(plane, [(0, size) for size in missing], mode="symmetric")
    tops, lefts = (range(0, size - side + 1, max(1, side // 2)) for size in plane.shape)
    squares = [plane[top : top + side, left : left + side] for top in tops for left in lefts]
    return max(squares, key=lambda square: float(square.std()))
