"""How a training begins: anew, in another's place, where it was interrupted, or not at all since it is complete."""

from dataclasses import dataclass, field
from pathlib import Path

from sennet_engine.errors import SennetError
from sennet_trainer.checkpoint import read_progress
from sennet_trainer.inputs import check_inputs, input_fingerprints
from sennet_trainer.labelled_volume import LabelledVolume, cached_volume
from sennet_trainer.network import Segmenter
from sennet_trainer.progress import Progress
from sennet_trainer.run_folder import (
    CACHE,
    CHECKPOINT,
    RECORD,
    RunRecord,
    abandon_run,
    begin_run,
    keep_caches,
    new_record,
    run_to_go_on_with,
)
from sennet_trainer.settings import FitSettings
from sennet_trainer.starting_weights import load_starting_weights, start_fingerprint
from sennet_trainer.trial import check_plane


@dataclass(frozen=True)
class Beginning:
    """Where a training stands before its next step.

    Attributes:
        run: its folder.
        record: of the run; `record.complete` says that there is nothing left to do.
        resumes: whether there is a checkpoint to go on from.
        progress: of a complete run; else that of a run without a finished epoch.
        volumes: cached; none where there is nothing left to do.
    """

    run: Path
    record: RunRecord
    resumes: bool = False
    progress: Progress = field(default_factory=Progress)
    volumes: tuple[LabelledVolume, ...] = ()

    def of_role(self, role: str) -> list[LabelledVolume]:
        """The volumes that are used for `role`."""
        return [volume for volume in self.volumes if volume.settings.role == role]


@dataclass(frozen=True)
class SharedInputs:
    """What a recipe tells the trainings that share its volumes.

    Attributes:
        cache: the folder of the cached volumes, of which a training deletes nothing.
        content: sha256 of all that the training reads, by what it is. A training goes on although its files were moved
            or touched, if their content is the same.
    """

    cache: Path
    content: dict[str, str]


def begin(
    segmenter: Segmenter, settings: FitSettings, run: Path, *, overwrite: bool, shared: SharedInputs | None
) -> Beginning:
    """Look at all that the training reads, fill `segmenter` with what it starts from, cache the volumes.

    A run in the folder is replaced with `overwrite`, but not before nothing can go wrong any more.

    Raises:
        SennetError: as `fit`.
    """
    inputs = input_fingerprints(settings) | start_fingerprint(settings)
    new = new_record(settings, inputs, shared.content if shared else {})
    there = run_to_go_on_with(run, new, overwrite=overwrite)
    if there is not None and there.complete:
        return Beginning(run, there, progress=read_progress(run / CHECKPOINT))
    resumes = there is not None and (run / CHECKPOINT).exists()
    for shape_yx in check_inputs(settings):
        check_plane(segmenter, shape_yx, settings)
    if not resumes:
        load_starting_weights(segmenter, settings)
    volumes = _cached_volumes(run, new, cache=shared.cache if shared else None, overwrite=overwrite)
    return Beginning(run, there or new, resumes=resumes, volumes=tuple(volumes))


def _cached_volumes(run: Path, new: RunRecord, *, cache: Path | None, overwrite: bool) -> list[LabelledVolume]:
    """All volumes, cached. `run` is begun if it was not; a run to be replaced stands until they all are."""
    begun, replaces = (run / RECORD).exists(), (run / RECORD).exists() and overwrite
    if not begun:
        begin_run(run, new)
    try:
        volumes = [cached_volume(volume, cache or run / CACHE) for volume in new.settings.volumes]
    except (SennetError, OSError):
        if not (run / CHECKPOINT).exists() and not replaces:
            abandon_run(run)
        raise
    if replaces:
        begin_run(run, new)
    if cache is None:
        keep_caches(run, [folder for volume in volumes for folder in volume.folders])
    return volumes
