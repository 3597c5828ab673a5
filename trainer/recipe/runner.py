"""Run the stages of a recipe, each once; what is done stays done, what was interrupted goes on where it was."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from sennet_engine.errors import OutputError
from sennet_trainer.folder_lock import LOCK, alone_in
from sennet_trainer.labelled_volume import cached_volume
from sennet_trainer.processes import only_main
from sennet_trainer.recipe.folders import Folders
from sennet_trainer.recipe.jobs import volume_settings
from sennet_trainer.recipe.record import StageRecord, read_stage, write_stage
from sennet_trainer.recipe.settings import RecipeSettings, Stage
from sennet_trainer.recipe.stages import Observer as StageObserver
from sennet_trainer.recipe.stages import prepared
from sennet_trainer.whole_file import write_whole

RECIPE = "recipe.json"

logger = logging.getLogger(__name__)


class Observer(StageObserver, Protocol):
    """Is told how a recipe goes."""

    def stage(self, name: str, state: str) -> None:
        """A stage is looked at; `state` is one of `done already`, `runs`, `goes on`, `has changed and runs anew`,
        `lacks files and runs anew`."""

    def result(self, record: StageRecord) -> None:
        """A stage is done."""


@dataclass(frozen=True)
class Session:
    """What all stages of one call share."""

    recipe: RecipeSettings
    folders: Folders
    device: torch.device
    observer: Observer
    threads: int


def run_recipe(recipe: RecipeSettings, run: Path, *, device: torch.device, observer: Observer) -> list[StageRecord]:
    """Run all stages of `recipe` in the folder `run`; returns their records.

    A stage is done when its settings and the content of all that goes into it are those that it was done with; it is
    not run again then. A stage that has changed runs anew, and its former folder is kept under `run`/former. On a CPU
    the result does not depend on interruptions, to the bit. Where several processes were started, they train together,
    and the main one does everything else.

    Raises:
        ConfigError, VolumeError, ModelError: settings, a volume or a network cannot be used.
        OutputError: the folder cannot be written, is no run of a recipe, or another process is at work in it.
    """
    with _alone_in(run, recipe):
        session = Session(recipe, Folders(run), device, observer, torch.get_num_threads())
        # All at once, so that labels that cannot be used are found before hours of training.
        only_main(lambda: _cache(recipe, session.folders))
        return [_run_stage(stage, session) for stage in recipe.stages]


def _run_stage(stage: Stage, session: Session) -> StageRecord:
    begun = only_main(lambda: _begun(stage, session))
    if begun.complete:
        return begun
    folder = session.folders.stage(stage.name)
    started = time.monotonic()
    # Stages before this one may have been done by another call, and threads decide the last bits of a prediction.
    torch.set_num_threads(session.recipe.training.threads or session.threads)
    result = prepared(stage, session.recipe, session.folders).run(folder, session.device, session.observer)
    done = replace(begun, complete=True, seconds=begun.seconds + time.monotonic() - started, result=result)
    only_main(lambda: write_stage(folder, done))
    session.observer.result(done)
    return done


def _begun(stage: Stage, session: Session) -> StageRecord:
    """The record of the stage in its folder, after what stood there for another version of it is out of the way."""
    folder = session.folders.stage(stage.name)
    ready = prepared(stage, session.recipe, session.folders)
    wanted, there, state = ready.record, read_stage(folder), "goes on"
    if there is not None and there.key != wanted.key:
        logger.info("%s has changed: %s", stage.name, "; ".join(there.differences(wanted)[:5]))
        session.folders.set_aside(there)
        there, state = session.folders.brought_back(wanted), "has changed and runs anew"
    elif there is None:
        there, state = session.folders.brought_back(wanted), "runs"
    record = there or wanted
    if record.complete and not ready.is_whole(folder):
        record, state = replace(record, complete=False), "lacks files and runs anew"
    session.observer.stage(stage.name, "done already" if record.complete else state)
    write_stage(folder, record)
    return record


def _cache(recipe: RecipeSettings, folders: Folders) -> None:
    folders.drop_partial_caches()
    for name in recipe.volumes:
        cached_volume(volume_settings(recipe, name), folders.cache)


def _facts(recipe: RecipeSettings) -> bytes:
    table = recipe.model_dump(mode="json")
    return json.dumps({**table, "stages": [stage.name for stage in recipe.stages]}, indent=2).encode()


@contextmanager
def _alone_in(run: Path, recipe: RecipeSettings) -> Iterator[None]:
    """The folder is this call's, and holds its recipe."""
    with ExitStack() as stack:
        only_main(lambda: _enter(run, recipe, stack))
        yield


def _enter(run: Path, recipe: RecipeSettings, stack: ExitStack) -> None:
    there = {file.name for file in run.iterdir()} if run.is_dir() else set()
    if run.is_file() or (there and not there & {RECIPE, LOCK}):
        raise OutputError(f"{run}: holds files but no {RECIPE}, so no recipe has run there; choose another --out")
    stack.enter_context(alone_in(run))
    write_whole(run / RECIPE, _facts(recipe))
