"""Phantoms on disk: a folder of TIFF volumes that appears whole or not at all."""

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from sennet_engine import __version__
from sennet_engine.errors import OutputError
from sennet_trainer.phantom.phantom import Phantom, PhantomSettings


def write_phantom(phantom: Phantom, settings: PhantomSettings, folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write image.tif, labels.tif, veins.tif, labels_sparse.tif (if there are sparse labels) and phantom.json.

    The TIFF files are multi-page, compressed, and hold the voxel size both as resolution and as OME-XML; masks are 0/1.
    Returns the paths written. With `overwrite` a folder that exists is replaced whole.

    Raises:
        OutputError: `folder` exists and `overwrite` is false, or it cannot be written.
    """
    if folder.exists() and not overwrite:
        raise OutputError(f"{folder}: exists already; give another folder, or --overwrite to replace it")
    volumes: dict[str, npt.NDArray[Any]] = {
        "image.tif": phantom.image,
        "labels.tif": phantom.labels,
        "veins.tif": phantom.veins,
    }
    if phantom.sparse_labels is not None:
        volumes["labels_sparse.tif"] = phantom.sparse_labels
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            whole = Path(temporary) / folder.name
            whole.mkdir()
            for name, volume in volumes.items():
                _write_tiff(whole / name, volume, settings.voxel_size_um)
            (whole / "phantom.json").write_text(
                json.dumps(_facts(phantom, settings), indent=2) + "\n", encoding="utf-8"
            )
            _replace(folder, whole)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); choose a folder that can") from error
    return [folder / name for name in (*volumes, "phantom.json")]


def _write_tiff(path: Path, volume: npt.NDArray[Any], voxel_size_um: float) -> None:
    per_centimetre = 1e4 / voxel_size_um
    size = {f"PhysicalSize{axis}": voxel_size_um for axis in "XYZ"}
    units = {f"PhysicalSize{axis}Unit": "µm" for axis in "XYZ"}
    tifffile.imwrite(
        path,
        volume,
        ome=True,
        metadata={"axes": "ZYX", **size, **units},
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


def _replace(folder: Path, whole: Path) -> None:
    """Move `whole` to `folder`; what stood there goes last, so that no moment passes with half of either."""
    if not folder.exists():
        whole.rename(folder)
        return
    former = whole.with_name(folder.name + ".former")
    folder.rename(former)
    whole.rename(folder)
    shutil.rmtree(former)
