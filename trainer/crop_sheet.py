"""A sheet of augmented crops with the outlines of their labels: what the network will be shown."""

from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import binary_erosion

from sennet_engine.errors import OutputError
from sennet_trainer.crops import EpochCrops
from sennet_trainer.whole_file import write_whole

OUTLINE_RGB = (255, 60, 60)
GAP = 4


def write_crop_sheet(crops: EpochCrops, path: Path, *, columns: int = 6) -> None:
    """All crops of `crops` as one PNG picture, row by row: bare above, with the labels' outlines in red below.

    Raises:
        OutputError: the file cannot be written.
    """
    pairs = [tuple(tensor[0].numpy() for tensor in crops[index]) for index in range(len(crops))]
    rows = [pairs[start : start + columns] for start in range(0, len(pairs), columns)]
    strips = []
    for row in rows:
        blank = [np.zeros((*row[0][0].shape, 3), np.uint8)] * (columns - len(row))
        strips.append(_strip([_rgb(grey) for grey, _ in row] + blank))
        strips.append(_strip([_outlined(grey, labels) for grey, labels in row] + blank))
    picture = BytesIO()
    Image.fromarray(np.concatenate(strips)).save(picture, "png")
    try:
        write_whole(path, picture.getvalue())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from error


def _outlined(grey: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    outline = (labels > 0) & ~binary_erosion(labels > 0)
    picture = _rgb(grey)
    picture[outline] = OUTLINE_RGB
    return picture


def _rgb(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.repeat(grey[..., None], 3, axis=-1)


def _strip(pictures: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    framed = [np.pad(picture, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for picture in pictures]
    return np.concatenate(framed, axis=1)
