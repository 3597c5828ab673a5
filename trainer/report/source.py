"""What a report is about: the stages of a recipe's run, or one training, labelling or evaluation that ran by itself."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from sennet_engine.errors import ModelError
from sennet_trainer.recipe.folders import Folders
from sennet_trainer.recipe.record import STAGE, StageRecord, read_stage
from sennet_trainer.report.results import (
    EVALUATION,
    NETWORK,
    PSEUDO_LABELS,
    RUN,
    EvaluationResult,
    FitResult,
    PseudoLabelResult,
    Result,
    read_json,
    read_result,
)

RECIPE = "recipe.json"
ROLES = ("train", "validation")


class State(StrEnum):
    """How far a stage is."""

    DONE = "done"
    OUTDATED = "out of date"
    UNFINISHED = "unfinished"
    NOT_RUN = "not run yet"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Use:
    """A stage uses `what` (images, labels, network, ...) of the volume or stage `name`; `role` may be empty."""

    what: str
    name: str
    role: str = ""


@dataclass(frozen=True)
class ReportedStage:
    """One stage as its folder tells it.

    Attributes:
        record: what it was made from; None where it was not begun or its file is damaged.
        result: what it found; None where that is not there or damaged.
        problems: what a reader must know: damage, and results that are not up to date.
    """

    name: str
    folder: Path
    state: State
    record: StageRecord | None = None
    result: Result | None = None
    problems: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """fit, pseudo_label or evaluate; empty where that is not known."""
        return self.record.kind if self.record else ""

    @property
    def uses(self) -> list[Use]:
        """What goes into the stage, in the order of its inputs."""
        return [_use(key) for key in (self.record.inputs if self.record else ())]


@dataclass(frozen=True)
class Source:
    """All that is reported. `of_recipe`: whether it is a recipe's run, rather than a single stage."""

    name: str
    of_recipe: bool
    stages: tuple[ReportedStage, ...]
    problems: tuple[str, ...] = ()


def read_source(run: Path) -> Source:
    """Read the folder `run`; what is missing or damaged in it is told in the problems.

    Raises:
        ModelError: the folder is none that a recipe, a training, a labelling or an evaluation has written.
    """
    for marker, read in ((RECIPE, _recipe), *_SINGLE.items()):
        if (run / marker).exists():
            return read(run)
    expected = ", ".join((RECIPE, *_SINGLE))
    raise ModelError(f"{run}: holds none of {expected}; give the --out of `sennet-train run` or `sennet-train fit`")


def _recipe(run: Path) -> Source:
    folders, problems = Folders(run), []
    there = sorted(path.parent.name for path in folders.stages.glob(f"*/{STAGE}"))
    try:
        facts = read_json(run / RECIPE)
        name, names = str(facts["name"]), [str(stage) for stage in facts["stages"]]
        left = [stage for stage in there if stage not in names]
        if left:
            problems.append(f"Not shown, since the recipe has no such stage any more: {', '.join(left)}.")
    except (OSError, ValueError, KeyError, TypeError) as error:
        problems.append(f"{RECIPE} is damaged ({error}). Shown are the stages that were begun, by name.")
        name, names = run.resolve().name, there
    stages = _with_outdated([_stage(stage, folders.stage(stage)) for stage in names])
    return Source(name, True, tuple(stages), tuple(problems))


def _stage(name: str, folder: Path) -> ReportedStage:
    try:
        record = read_stage(folder)
    except ModelError:
        problem = f"{STAGE} is damaged. Delete the folder {folder.name} and run the recipe again."
        return ReportedStage(name, folder, State.DAMAGED, problems=(problem,))
    if record is None:
        return ReportedStage(name, folder, State.NOT_RUN)
    return _with_result(ReportedStage(name, folder, State.DONE if record.complete else State.UNFINISHED, record))


def _with_result(stage: ReportedStage) -> ReportedStage:
    result, problems = read_result(stage.kind, stage.folder)
    if result is None and not problems and stage.state is State.DONE:
        problems = ["The files with its result are not there."]
    return replace(stage, result=result, problems=tuple(problems))


def _with_outdated(stages: Sequence[ReportedStage]) -> list[ReportedStage]:
    """Mark the stages that were made from something that has changed or is being made anew."""
    seen: dict[str, ReportedStage] = {}
    hashes: dict[Path, str] = {}
    for stage in stages:
        if stage.state is State.DONE:
            changed = [use.name for use in stage.uses if use.name in seen and _has_changed(use, stage, seen, hashes)]
            if changed:
                names = ", ".join(dict.fromkeys(changed))
                problem = f"Made from an earlier result of {names}. Run the recipe again to bring it up to date."
                stage = replace(stage, state=State.OUTDATED, problems=(*stage.problems, problem))
        seen[stage.name] = stage
    return list(seen.values())


def _has_changed(use: Use, by: ReportedStage, seen: dict[str, ReportedStage], hashes: dict[Path, str]) -> bool:
    source = seen[use.name]
    if source.state in (State.OUTDATED, State.UNFINISHED, State.NOT_RUN):
        return True
    path = source.folder / NETWORK
    if use.what != "network" or not path.exists() or by.record is None:
        return False
    if path not in hashes:
        with path.open("rb") as file:
            hashes[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return by.record.inputs[f"network {use.name}"] != hashes[path]


def _use(key: str) -> Use:
    what, _, rest = key.partition(" ")
    name, _, role = rest.rpartition(" ")
    return Use(what, name, role) if role in ROLES and name else Use(what, rest)


def _single_fit(run: Path) -> Source:
    try:
        facts = read_json(run / RUN)
        settings: dict[str, Any] = dict(facts["settings"])
        record = StageRecord(
            str(settings["name"]), "fit", settings, dict(facts.get("inputs") or {}), complete=bool(facts["complete"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{run / RUN}: is damaged ({error}); train again with --overwrite") from error
    state = State.DONE if record.complete else State.UNFINISHED
    stage = _with_result(ReportedStage(record.name, run, state, record))
    if isinstance(stage.result, FitResult):
        seconds = sum(row.seconds for row in stage.result.rows)
        stage = replace(stage, record=replace(record, seconds=seconds))
    return Source(record.name, False, (stage,))


def _single_prediction(kind: str) -> Callable[[Path], Source]:
    def read(run: Path) -> Source:
        name = run.resolve().name
        stage = _with_result(ReportedStage(name, run, State.DONE, StageRecord(name, kind, {}, {}, complete=True)))
        networks: dict[str, str] = {}
        if isinstance(stage.result, PseudoLabelResult):
            networks = stage.result.teachers
        if isinstance(stage.result, EvaluationResult):
            networks = stage.result.networks
        inputs = {f"network {network}": sha256 for network, sha256 in networks.items()}
        return Source(name, False, (replace(stage, record=StageRecord(name, kind, {}, inputs, complete=True)),))

    return read


# What ran by itself, by the file that its folder has.
_SINGLE: dict[str, Callable[[Path], Source]] = {
    RUN: _single_fit,
    PSEUDO_LABELS: _single_prediction("pseudo_label"),
    EVALUATION: _single_prediction("evaluate"),
}
