"""Phantoms on disk: a folder of TIFF volumes that appears whole or not at all."""

import dataclasses
import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from sennet_engine import __version__
from sennet_engine.storage.output_folder import FolderKind, output_folder
from sennet_trainer.phantom.phantom import Phantom, PhantomSettings

FACTS = "phantom.json"
PHANTOM = FolderKind(marker=FACTS, others=("image.tif", "labels.tif", "veins.tif", "labels_sparse.tif"))


def write_phantom(phantom: Phantom, settings: PhantomSettings, folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write image.tif, labels.tif, veins.tif, labels_sparse.tif (if there are sparse labels) and phantom.json.

    The TIFF files are multi-page, compressed, and hold the voxel size both as resolution and as OME-XML; masks are 0/1.
    Returns the paths written. With `overwrite` a folder of another phantom is replaced whole.

    Raises:
        OutputError: `folder` exists and may not be replaced, or it cannot be written.
    """
    volumes: dict[str, npt.NDArray[Any] | None] = {
        "image.tif": phantom.image,
        "labels.tif": phantom.labels,
        "veins.tif": phantom.veins,
        "labels_sparse.tif": phantom.sparse_labels,
    }
    made = {name: volume for name, volume in volumes.items() if volume is not None}
    with output_folder(folder, PHANTOM, overwrite=overwrite) as whole:
        for name, volume in made.items():
            _write_tiff(whole / name, volume, settings.voxel_size_um)
        text = json.dumps(_facts(phantom, settings), indent=2)
        (whole / FACTS).write_text(text + "\n", encoding="utf-8")
    return [folder / name for name in (*made, FACTS)]


def _write_tiff(path: Path, volume: npt.NDArray[Any], voxel_size_um: float) -> None:
    per_centimetre = 1e4 / voxel_size_um
    size = {f"PhysicalSize{axis}": voxel_size_um for axis in "XYZ"}
    units = {f"PhysicalSize{axis}Unit": "µm" for axis in "XYZ"}
    # OME asks for an identifier; tifffile would draw a random one, and equal phantoms would differ in their files.
    identifier = uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(volume.tobytes()).hexdigest())
    tifffile.imwrite(
        path,
        volume,
        ome=True,
        metadata={"axes": "ZYX", "UUID": f"urn:uuid:{identifier}", **size, **units},
        compression="zlib",
        resolution=(per_centimetre, per_centimetre),
        resolutionunit="CENTIMETER",
        photometric="minisblack",
    )


def _facts(phantom: Phantom, settings: PhantomSettings) -> dict[str, object]:
    counted = {"labels": phantom.labels, "veins": phantom.veins, "labels_sparse": phantom.sparse_labels}
    voxels = {name: int(np.count_nonzero(mask)) for name, mask in counted.items() if mask is not None}
    return {
        "settings": dataclasses.asdict(settings),
        "voxels": voxels,
        "shares": {name: count / phantom.image.size for name, count in voxels.items()},
        "version": __version__,
    }
