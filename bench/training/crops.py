"""What both contestants of `sennet-bench train` are given: the cached volumes, and crops that lie in memory."""

from torch import Tensor
from torch.utils.data import Dataset

from sennet_bench.training.job import HELD_BATCHES, Job
from sennet_trainer.crops import EpochCrops
from sennet_trainer.labelled_volume import LabelledVolume, cached_volume

Crop = tuple[Tensor, Tensor]


class HeldCrops(Dataset[Crop]):
    """Crops in memory; after the last one comes the first one again."""

    def __init__(self, held: list[Crop]) -> None:
        self._held = held

    def __getitem__(self, index: int) -> Crop:
        return self._held[index % len(self._held)]


def volumes_of(job: Job) -> list[LabelledVolume]:
    """Found in the cache."""
    return [cached_volume(volume, job.cache) for volume in job.settings.volumes]


def held_crops(job: Job) -> HeldCrops:
    """The trainer's first crops, uint8 [1, side, side] and labels 0/1, augmented."""
    count = job.settings.training.batch * min(HELD_BATCHES, job.steps_in_all)
    settings = job.settings_with(crops=count, workers=0, augmented=True)
    crops = EpochCrops(volumes_of(job), settings, epoch=0)
    return HeldCrops([crops[index] for index in range(count)])
