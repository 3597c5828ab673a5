"""What a trainer and a plain loop can both be asked: settings without what only the trainer can do."""

from pathlib import Path

from sennet_engine.card import FixedNormalisation
from sennet_trainer.augmentation_settings import AugmentationSettings
from sennet_trainer.network_settings import NetworkSettings
from sennet_trainer.settings import CropSettings, FitSettings, TrainingSettings
from sennet_trainer.volume_settings import VolumeSettings

PHANTOM_SHAPE_ZYX = (32, 384, 384)
PHANTOM_SEED = 1

PLAIN_LOSSES = frozenset({"dice", "bce", "bce_dice"})


def settings_of_the_builtin_model(folder: Path) -> FitSettings:
    """Those of recipes/builtin.toml, from random weights, on a phantom that is made in `folder`."""
    from sennet_trainer.phantom import PhantomSettings, make_phantom, write_phantom

    phantom = PhantomSettings(PHANTOM_SHAPE_ZYX, kidney=1, seed=PHANTOM_SEED, bits=8)
    write_phantom(make_phantom(phantom), phantom, folder / "phantom")
    return FitSettings(
        name="builtin",
        seed=1,
        voxel_size_um=50.0,
        network=NetworkSettings(
            encoder="tu-tf_efficientnet_lite0",
            encoder_depth=4,
            decoder_options={"decoder_channels": [64, 32, 16, 16]},
            normalisation=FixedNormalisation(mean=0.4, std=0.25),
        ),
        volumes=[
            VolumeSettings(
                images=folder / "phantom" / "image.tif", labels=folder / "phantom" / "labels.tif", axes="z"
            )
        ],
        crops=CropSettings(side=256, per_epoch=1000, vessel_share=0.6),
        augmentation=AugmentationSettings(scale=(0.65, 1.2)),
        training=TrainingSettings(batch=8, learning_rate=2e-3, workers=1),
    )  # fmt: skip


def comparable(settings: FitSettings, *, threads: int) -> tuple[FitSettings, list[str]]:
    """`settings` for both, and what of them is left out, for people."""
    training, network = settings.training, settings.network
    left_out = []
    if network.encoder_weights or settings.start_from:
        left_out.append("the weights to start from, random ones instead")
    if training.ema is not None:
        left_out.append(f"ema = {training.ema:g}")
    if training.accumulate > 1:
        left_out.append(f"accumulate = {training.accumulate}")
    if training.precision not in ("auto", "float32"):
        left_out.append(f"precision = {training.precision}, float32 instead")
    loss = training.loss
    if not loss.keys() <= PLAIN_LOSSES:
        left_out.append(f"the loss {' + '.join(loss)}, dice instead")
        loss = {"dice": 1.0}
    alike = training.model_copy(
        update={"ema": None, "accumulate": 1, "precision": "float32", "loss": loss, "threads": threads}
    )
    return settings.model_copy(
        update={
            "training": alike,
            "network": network.model_copy(update={"encoder_weights": None}),
            "start_from": None,
            "volumes": [volume for volume in settings.volumes if volume.role == "train"],
        }
    ), left_out
