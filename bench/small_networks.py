"""Small trained members of the families of the four networks: what accuracy figures of exported files are from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sennet_engine.card import TileNormalisation
from sennet_trainer.augmentation_settings import AugmentationSettings
from sennet_trainer.fit import Observer, fit
from sennet_trainer.network_settings import NetworkSettings
from sennet_trainer.phantom import PhantomSettings, make_phantom, write_phantom
from sennet_trainer.progress import Progress
from sennet_trainer.settings import CropSettings, FitSettings, TrainingSettings, ValidationSettings
from sennet_trainer.volume_settings import VolumeSettings

SIDE = 128
CROPS_PER_EPOCH = 240
PHANTOMS = {"trained": PhantomSettings((32, 256, 256), 2, seed=3), "unseen": PhantomSettings((8, 256, 256), 2, seed=4)}
"""What all of them are trained and validated on, by the name of its folder."""


@dataclass(frozen=True)
class SmallNetwork:
    """A small member of a family and how it is trained, on one core in a few minutes.

    Attributes:
        epochs: of CROPS_PER_EPOCH crops each, in steps of 8.
        learning_rate: the peak of its schedule.
    """

    network: NetworkSettings
    epochs: int
    learning_rate: float


def _network(encoder: str, **options: Any) -> NetworkSettings:
    return NetworkSettings(encoder=encoder, normalisation=TileNormalisation(), **options)


SMALL_NETWORKS = {
    # A MaxViT-tiny of half the width; one of random weights learns too slowly at its full width.
    "small_maxvit": SmallNetwork(
        _network(
            "tu-maxvit_tiny_tf_512",
            decoder_options={"img_size": SIDE, "embed_dim": [32, 64, 128, 256], "stem_width": 32},
        ),
        epochs=8,
        learning_rate=1e-3,
    ),
    "small_seresnext": SmallNetwork(_network("tu-seresnext26d_32x4d"), epochs=8, learning_rate=2e-3),
    "small_efficientnet": SmallNetwork(_network("tu-tf_efficientnetv2_b0"), epochs=10, learning_rate=3e-3),
    "small_unetplusplus": SmallNetwork(
        _network("tu-tf_efficientnetv2_b0", decoder="UnetPlusPlus"), epochs=10, learning_rate=3e-3
    ),
}
"""The four, by the name of their run's folder."""


def train_small_network(name: str, out: Path, *, observer: Observer, overwrite: bool = False) -> Progress:
    """Train SMALL_NETWORKS[name] in the folder OUT/NAME, on phantoms that are made beside it if they are not there.

    A training that was interrupted goes on; one that is complete is left as it is. Raises as `fit`.
    """
    for phantom, settings in PHANTOMS.items():
        if not (out / "phantoms" / phantom).exists():
            write_phantom(make_phantom(settings), settings, out / "phantoms" / phantom)
    return fit(
        small_settings(name, out), out / name, device=torch.device("cpu"), observer=observer, overwrite=overwrite
    )


def small_settings(name: str, out: Path) -> FitSettings:
    """The training of SMALL_NETWORKS[name] with its phantoms in `out`."""
    small = SMALL_NETWORKS[name]
    folders = {phantom: out.resolve() / "phantoms" / phantom for phantom in PHANTOMS}
    return FitSettings(
        name=name,
        voxel_size_um=50.0,
        network=small.network,
        volumes=[
            VolumeSettings(
                images=folders[phantom] / "image.tif", labels=folders[phantom] / "labels.tif", role=role, axes="z"
            )
            for phantom, role in (("trained", "train"), ("unseen", "validation"))
        ],
        crops=CropSettings(side=SIDE, per_epoch=CROPS_PER_EPOCH, vessel_share=0.7),
        augmentation=AugmentationSettings(scale=(0.8, 1.2), distortion=0.2),
        training=TrainingSettings(
            epochs=small.epochs, batch=8, learning_rate=small.learning_rate, loss={"bce_dice": 1.0}, threads=1
        ),
        # The tile is that of the network which takes one side only; the others are judged alike.
        validation=ValidationSettings(every=2, tile=SIDE),
    )
