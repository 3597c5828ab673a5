"""Run folders of the four networks of the third-place solution, at their real size, with random weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sennet_bench.calm_weights import Calmness, calm
from sennet_engine.card import TileNormalisation
from sennet_engine.errors import ConfigError
from sennet_engine.storage.output_folder import FolderKind, output_folder
from sennet_engine.volumes.open import open_volume
from sennet_engine.window import surveyed_window
from sennet_export.calibration import read_calibration
from sennet_trainer.network import build_segmenter
from sennet_trainer.network_settings import NetworkSettings
from sennet_trainer.phantom import PhantomSettings, make_phantom, write_phantom
from sennet_trainer.run_folder import NETWORK, RECORD, begin_run, new_record, save_network
from sennet_trainer.settings import CropSettings, FitSettings
from sennet_trainer.volume_settings import VolumeSettings

PHANTOM = PhantomSettings((4, 896, 896), 1, seed=0)
"""What the runs name as their volume; its planes hold a tile of 832."""
CALM_CORNERS = ((0.5, 0.5), (0.0, 0.0), (0.0, 0.5))
"""Where the tiles lie in a plane, of the room that there is above and left of them: tissue, gel, and what is between.
Statistics of tissue alone would not bound what a tile with the edge of the organ becomes."""
SEED = 0
RUN = FolderKind(marker=RECORD, others=(NETWORK,))


@dataclass(frozen=True)
class SeedNetwork:
    """One of the four, and the tile that it is trained with."""

    network: NetworkSettings
    side: int


def _network(encoder: str, **options: Any) -> NetworkSettings:
    return NetworkSettings(encoder=encoder, normalisation=TileNormalisation(), **options)


# As in recipes/sennet_hoa.toml. SE-ResNeXt runs on tiles of 384 too, EfficientNetV2-S on tiles of 832.
SEED_NETWORKS = {
    "random_maxvit": SeedNetwork(_network("tu-maxvit_large_tf_512"), 512),
    "random_seresnext": SeedNetwork(_network("tu-seresnext101d_32x8d"), 512),
    "random_efficientnet_s": SeedNetwork(_network("tu-tf_efficientnetv2_s"), 448),
    "random_efficientnet_l": SeedNetwork(_network("tu-tf_efficientnetv2_l", decoder="UnetPlusPlus"), 512),
}
"""The four, by the name of their run's folder."""


@dataclass(frozen=True)
class SeedRun:
    """A run that was written."""

    folder: Path
    parameters: int
    calmness: Calmness


def chosen_names(known: Sequence[str], only: Sequence[str]) -> list[str]:
    """`only`, or all of `known` where that is empty. Raises ConfigError for a name that is not known."""
    if unknown := sorted(set(only) - set(known)):
        raise ConfigError(f"--only {', '.join(unknown)}: expected some of {', '.join(known)}")
    return [name for name in known if name in only or not only]


def write_seed_run(name: str, out: Path, *, overwrite: bool = False) -> SeedRun:
    """Write the run OUT/NAME of SEED_NETWORKS[name], as `sennet-train fit` would leave it before its first epoch.

    Its weights are random and calm (see `calm_weights`), it has no scores, and its record says that it is not complete.
    The phantom that it names as its volume is written beside it if it is not there.

    Raises:
        OutputError: the folder exists, or cannot be written.
    """
    seed = SEED_NETWORKS[name]
    phantom = out.resolve() / "phantom"
    with output_folder(out / name, RUN, overwrite=overwrite) as run:
        if not phantom.exists():
            write_phantom(make_phantom(PHANTOM), PHANTOM, phantom)
        settings = FitSettings(
            name=name,
            seed=SEED,
            voxel_size_um=PHANTOM.voxel_size_um,
            network=seed.network,
            volumes=[VolumeSettings(images=phantom / "image.tif", labels=phantom / "labels.tif", axes="z")],
            crops=CropSettings(side=seed.side),
        )
        torch.manual_seed(settings.seed)
        segmenter = build_segmenter(settings.network).eval()
        # What an export is measured on by default.
        typical = torch.from_numpy(read_calibration(phantom / "image.tif").squares(seed.side)[:1]).float()
        found = calm(segmenter, _tiles(phantom / "image.tif", seed.side), typical=typical)
        begin_run(run, new_record(settings, {}))
        save_network(run, segmenter, epoch=0, score=None)
    return SeedRun(out / name, sum(parameter.numel() for parameter in segmenter.parameters()), found)


def _tiles(images: Path, side: int) -> torch.Tensor:
    """A tile of the first plane for each of CALM_CORNERS, float32 [B, 1, side, side] in 0..255."""
    with open_volume(images) as volume:
        plane = surveyed_window(volume).to_uint8(volume.read_planes(0, 1))[0]
    height, width = (size - side for size in plane.shape)
    corners = [(round(down * height), round(right * width)) for down, right in CALM_CORNERS]
    tiles = [plane[None, top : top + side, left : left + side].astype("float32") for top, left in corners]
    return torch.stack([torch.from_numpy(tile) for tile in tiles])
