"""The folder of a training run: its settings, its state, its weights.

run.json                resolved settings, versions, fingerprints of the inputs, whether the training is complete
checkpoint.safetensors  everything needed to go on
network.safetensors     the network of the best validated epoch (of the last one without validation), with its scores
metrics.csv, curve.png  one row, one point an epoch
tensorboard/            the same for TensorBoard, where the settings ask for it
threshold.json          written by `sennet-train threshold`: takes the place of the threshold in network.safetensors
cache/                  volumes windowed to uint8, unless they lie in a cache that is shared
stage.json              belongs to the recipe that the run is a stage of
"""

import json
import logging
import platform
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sennet_engine import __version__
from sennet_engine.card import Threshold
from sennet_engine.config import validated
from sennet_engine.errors import ConfigError, ModelError, OutputError
from sennet_trainer.checkpoint import load_tensors, save_tensors
from sennet_trainer.folder_lock import LOCK
from sennet_trainer.network import Segmenter, build_segmenter
from sennet_trainer.settings import FitSettings
from sennet_trainer.validation import ValidationScore
from sennet_trainer.whole_file import write_whole

RECORD, CHECKPOINT, NETWORK = "run.json", "checkpoint.safetensors", "network.safetensors"
METRICS, CURVE, TENSORBOARD = "metrics.csv", "curve.png", "tensorboard"
CACHE, THRESHOLD, STAGE = "cache", "threshold.json", "stage.json"

# What may lie in a folder where no run has begun: the recipe's file, and what a kill leaves of a first file.
BEFORE_A_RUN = (LOCK, STAGE, f"{STAGE}.partial", f"{RECORD}.partial")
# Settings that do not change the result, and may differ when a run is resumed.
# Settings that say where something lies. Where the content is known to be the same, they may differ too.
PLACES = re.compile(r"volumes\.\d+\.(images|labels)|start_from|network\.encoder_weights")
FREE_SETTINGS = ("training.workers", "training.tensorboard")
PACKAGES = ("torch", "segmentation-models-pytorch", "timm", "albumentations", "numpy")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunRecord:
    """What run.json holds.

    Attributes:
        settings: those that the run was started with.
        versions: of python and of the packages that decide the result.
        inputs: fingerprints by `images PATH`, `labels PATH` and `start_from PATH`; empty in runs of before they were
            kept.
        complete: whether the training has reached its last epoch.
        content: sha256 of what is in the inputs, by what they are; empty where nobody has told.
    """

    settings: FitSettings
    versions: dict[str, str]
    inputs: dict[str, str]
    complete: bool
    content: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainedRun:
    """A trained network with all that its model card needs.

    Attributes:
        segmenter: in evaluation mode, on the CPU.
        threshold: the best validated one with its stable range, or that of threshold.json; 0.5 without a range where
            there is neither.
        epoch: the epoch that the weights are of, counted from 1.
        scores: {"surface_dice", "dice"} by validation volume and axis; empty where nothing was validated.
        complete: whether the training has reached its last epoch.
    """

    name: str
    settings: FitSettings
    segmenter: Segmenter
    voxel_size_um: float
    threshold: Threshold
    epoch: int
    scores: dict[str, dict[str, float]]
    versions: dict[str, str]
    complete: bool


def load_run(run: Path) -> TrainedRun:
    """The trained network of the run folder `run`. Nothing is downloaded and nothing is executed from it.

    Raises:
        ModelError: the folder is not a run, has no trained network yet, or its files do not belong together.
    """
    record = read_record(run)
    segmenter = build_segmenter(record.settings.network)
    tensors, facts = load_tensors(run / NETWORK)
    try:
        segmenter.load_state_dict(tensors)
        epoch, scores, validated_one = facts["epoch"], facts["scores"], Threshold(**facts["threshold"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise ModelError(f"{run / NETWORK}: does not belong to {run / RECORD}: {error}; train again") from error
    return TrainedRun(
        name=record.settings.name,
        settings=record.settings,
        segmenter=segmenter.eval(),
        voxel_size_um=record.settings.voxel_size_um,
        threshold=_swept_threshold(run) or validated_one,
        epoch=epoch,
        scores=scores,
        versions=record.versions,
        complete=record.complete,
    )


def save_network(
    run: Path, segmenter: Segmenter, *, epoch: int, score: ValidationScore | None, threshold_without: float = 0.5
) -> None:
    """Keep the weights of `epoch` with what its validation found, or without one with `threshold_without`.

    A threshold of other weights is deleted.
    """
    (run / THRESHOLD).unlink(missing_ok=True)
    threshold = score.threshold if score else Threshold(value=threshold_without)
    facts = {"epoch": epoch, "scores": score.volumes if score else {}, "threshold": threshold.model_dump()}
    save_tensors(run / NETWORK, segmenter.state_dict(), facts)


def new_record(settings: FitSettings, inputs: dict[str, str], content: dict[str, str] | None = None) -> RunRecord:
    """The record of a run that has not begun; `inputs` and `content` as in `RunRecord`."""
    return RunRecord(settings=settings, versions=_versions(), inputs=inputs, complete=False, content=content or {})


def run_to_go_on_with(run: Path, new: RunRecord, *, overwrite: bool) -> RunRecord | None:
    """The record of the run in the folder `run`, or None where `new` begins there. Nothing is written.

    Args:
        overwrite: `new` shall take the place of the run that is there.

    Raises:
        OutputError: the folder holds something else, or a run of other settings or inputs (says which).
    """
    if run.is_file():
        raise OutputError(f"{run}: is a file, expected a folder; choose another --out")
    if not run.is_dir() or all(path.name in BEFORE_A_RUN for path in run.iterdir()):
        return None
    if not (run / RECORD).exists():
        raise OutputError(f"{run}: holds files but no {RECORD}, so it is not a run; choose another --out")
    return None if overwrite else _record_to_resume(run, new)


def begin_run(run: Path, record: RunRecord) -> None:
    """Write `record` into the folder `run`, in place of the run that may be there. Cached volumes stay.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        _clear(run)
        _write_record(run, record)
    except OSError as error:
        raise OutputError(f"{run}: cannot be written ({error.strerror}); choose another --out") from error


def complete_run(run: Path, record: RunRecord) -> RunRecord:
    """Note that the run has reached its last epoch."""
    done = replace(record, complete=True)
    _write_record(run, done)
    return done


def abandon_run(run: Path) -> None:
    """Take back a run that could not begin: delete its files, and the folder where nothing else lies in it."""
    _clear(run)
    keep_caches(run, [])
    if not any(run.iterdir()):
        run.rmdir()


def keep_caches(run: Path, folders: Sequence[Path]) -> None:
    """Delete the cached volumes that are not among `folders`, and the cache where it is empty then."""
    for folder in (run / CACHE).glob("*"):
        if folder not in folders:
            shutil.rmtree(folder)
    if not folders and (run / CACHE).exists():
        (run / CACHE).rmdir()


def read_record(run: Path) -> RunRecord:
    """Read run.json. Raises ModelError where the folder is not a run or the file is damaged."""
    path = run / RECORD
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        settings, versions, complete = facts["settings"], facts["versions"], facts["complete"]
        inputs, content = facts.get("inputs", {}), facts.get("content", {})
    except OSError as error:
        raise ModelError(f"{run}: is not a run folder ({RECORD}: {error.strerror}); give the --out of a fit") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: is damaged ({error}); train again with --overwrite") from error
    return RunRecord(validated(settings, FitSettings, source=str(path)), versions, inputs, complete, content)


def _swept_threshold(run: Path) -> Threshold | None:
    """The threshold of threshold.json, where there is one."""
    path = run / THRESHOLD
    if not path.exists():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return validated({key: facts[key] for key in Threshold.model_fields}, Threshold, source=THRESHOLD)
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise ModelError(
            f"{path}: cannot be read ({error}); delete it, or write it again: `sennet-train threshold {run} --write`"
        ) from error


def _record_to_resume(run: Path, new: RunRecord) -> RunRecord:
    there = read_record(run)
    before, now = (_flat(record.settings.model_dump(mode="json")) for record in (there, new))
    same_content = bool(new.content) and new.content == there.content
    free = [key for key in {*before, *now} if key in FREE_SETTINGS or (same_content and PLACES.fullmatch(key))]
    changed = [key for key in sorted({*before, *now} - {*free}) if before.get(key) != now.get(key)]
    if changed:
        lines = [f"{key}: {before.get(key)!r} there, {now.get(key)!r} now" for key in changed]
        raise OutputError(
            "\n  ".join([f"{run}: holds a run of other settings; choose another --out or give --overwrite", *lines])
        )
    dated = {} if same_content else new.inputs
    inputs = [key for key, fingerprint in dated.items() if there.inputs.get(key, fingerprint) != fingerprint]
    if inputs and not there.complete:
        raise OutputError(f"{run}: {' and '.join(inputs)} changed since the run was begun; --overwrite starts anew")
    if inputs:
        logger.warning("%s: %s changed since the run was begun; --overwrite starts anew", run, " and ".join(inputs))
    if there.versions != new.versions:
        other = [f"{name} {there.versions.get(name)} then, {new.versions[name]} now" for name in new.versions
                 if there.versions.get(name) != new.versions[name]]  # fmt: skip
        logger.warning("%s goes on with other versions, so its bits may differ: %s", run, "; ".join(other))
    return replace(there, settings=new.settings, inputs=new.inputs)


def _clear(run: Path) -> None:
    """Delete the files of a run, and nothing else that may lie there."""
    if (run / TENSORBOARD).exists():
        shutil.rmtree(run / TENSORBOARD)
    # The record last: without it what is left would be nobody's.
    for name in (CHECKPOINT, NETWORK, METRICS, CURVE, THRESHOLD, RECORD):
        (run / name).unlink(missing_ok=True)


def _write_record(run: Path, record: RunRecord) -> None:
    facts = asdict(record) | {"settings": record.settings.model_dump(mode="json")}
    write_whole(run / RECORD, json.dumps(facts, indent=2).encode())


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Nested tables and lists as one table with dotted keys."""
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for name, item in items for k, v in _flat(item, f"{key}.{name}" if key else str(name)).items()}
    return {key: value}


def _versions() -> dict[str, str]:
    found = {package: version(package) for package in PACKAGES}
    return {"sennet": __version__, "python": platform.python_version(), **found}
