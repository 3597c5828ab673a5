"""Where a run keeps what is done until its result is whole, so that an interrupted run can go on."""

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from sennet_engine.errors import ConfigError, OutputError
from sennet_engine.storage.durable import sync_folder, write_durably
from sennet_engine.storage.journal import Journal
from sennet_engine.storage.output_folder import beside, remove_empty

try:
    import fcntl
except ImportError:  # only Unix has it
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None"

FORMAT = "sennet work folder"
VERSION = 2
PLAN, JOURNAL, LOCK = "plan.json", "journal", "lock"
# Of facts that differ, a person is told so many, each value with so many characters.
FACTS_TOLD = 4
CHARACTERS_TOLD = 60


@dataclass(frozen=True)
class WorkFolder:
    """The scratch folder of one run.

    Attributes:
        path: for whatever the run keeps. The names plan.json, journal and lock are taken.
        journal: which units are finished.
        units: how many there are.
    """

    path: Path
    journal: Journal
    units: int


@contextmanager
def work_folder(
    out: Path, facts: Mapping[str, JSON], *, units: int, resume: bool, discard: bool
) -> Iterator[WorkFolder]:
    """Yield the work folder `.NAME.work` beside the result `out`, locked against other runs.

    Left without an exception, it is removed. Left with one, it is kept if a unit is finished, and removed otherwise.
    With neither `resume` nor `discard`, work of an earlier run is not touched; with both, it is resumed.

    Args:
        facts: all that the finished units depend on; kept readable in plan.json. A resume asks for the same.
        units: how many units the run has, for people.
        resume: go on with what an interrupted run left; starts anew where there is nothing.
        discard: start anew, whatever an interrupted run left.

    Raises:
        ConfigError: what is to be resumed was made from other facts.
        OutputError: an interrupted run is there and nothing was said of it, another run is at work, the place cannot
            be written, or something stands there that is not ours.
    """
    out = out.resolve()
    path = _path_beside(out)
    missing_parents = [parent for parent in path.parents if not parent.exists()]
    asked: dict[str, Any] = json.loads(json.dumps(facts, allow_nan=False))
    with ExitStack() as held:
        try:
            _make_way(path, asked, held, resume=resume, discard=discard)
            if not path.exists():
                _start(path, asked, units, held)
                if resume:
                    logger.info("%s: no interrupted run to go on with; starts anew", path)
        except OSError as error:
            remove_empty(missing_parents)
            raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
        except BaseException:
            remove_empty(missing_parents)
            raise
        journal = held.enter_context(Journal.open(path / JOURNAL, _hash(asked)))
        try:
            yield WorkFolder(path, journal, units)
        except BaseException:
            if journal.done:
                logger.warning(
                    "%d of %d parts are done and kept in %s; go on with --resume", len(journal.done), units, path
                )
            else:
                _remove(path)
                remove_empty(missing_parents)
            raise
        _remove(path)


def interrupted_facts(out: Path) -> dict[str, Any]:
    """The facts of the interrupted run beside the result `out`; none where there is none, or of another version.

    Raises:
        OutputError: what is there does not tell.
    """
    plan = _path_beside(out.resolve()) / PLAN
    stored = _stored_plan(plan) if plan.is_file() else {}
    facts: dict[str, Any] = stored["facts"] if stored.get("version") == VERSION else {}
    return facts


def _path_beside(out: Path) -> Path:
    return out.with_name(f".{out.name}.work")


def _make_way(path: Path, facts: dict[str, Any], held: ExitStack, *, resume: bool, discard: bool) -> None:
    """Lock what an earlier run left at `path`, and remove it unless it is to be resumed."""
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not (path / PLAN).is_file():
        raise OutputError(f"{path}: is no work folder of this command; move it away, or choose another place")
    with ExitStack() as lock:
        _lock(path, lock)
        stored = _stored_plan(path / PLAN)
        known = stored.get("version") == VERSION
        if discard and not resume:
            _remove(path)
            return
        if not known:
            raise OutputError(
                f"{path}: an interrupted run of another version of this program is there (format "
                f"{stored.get('version')!r}, expected {VERSION}); go on with that one, or start anew with --overwrite"
            )
        with Journal.open(path / JOURNAL, _hash(stored["facts"])) as journal:
            done = len(journal.done)
        if not done:
            _remove(path)
            return
        if not resume:
            raise OutputError(
                f"{path}: an interrupted run is there, {done} of {stored['units']} parts done; go on with --resume, or "
                f"start anew with --overwrite"
            )
        _refuse_other_facts(path, stored["facts"], facts)
        logger.info("%s: goes on with %d of %d parts done", path, done, stored["units"])
        held.push(lock.pop_all())


def _start(path: Path, facts: dict[str, Any], units: int, held: ExitStack) -> None:
    """Make the folder under another name, so that it appears at `path` whole and locked."""
    partial = beside(path.with_name(path.name.removeprefix(".").removesuffix(".work")), "partial")
    partial.mkdir(parents=True)
    try:
        _lock(partial, held)
        plan = {"format": FORMAT, "version": VERSION, "units": units, "facts": facts}
        write_durably(partial / PLAN, json.dumps(plan, indent=2).encode())
        Journal.create(partial / JOURNAL, _hash(facts)).close()
        try:
            partial.rename(path)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise OutputError(f"{path}: another run has just begun there; choose another place") from error
            raise
        sync_folder(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _lock(folder: Path, held: ExitStack) -> None:
    """Lock `folder` until `held` ends; a killed process loses its locks with its life."""
    name = folder / LOCK
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
    held.callback(os.close, descriptor)
    if fcntl is None:
        logger.warning("%s: cannot be locked on this system; see to it that no other run writes there", folder)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        free = True
    except BlockingIOError:
        free = False
    except OSError as error:  # some network disks have no locks
        logger.warning("%s: cannot be locked (%s); see to it that no other run writes there", folder, error.strerror)
        return
    # Who removes a folder renames it first: the lock may be that of a folder that has just gone.
    if not free or not name.exists() or not os.path.samestat(os.fstat(descriptor), name.stat()):
        raise OutputError(f"{folder}: another run is at work there; wait for it, or choose another place")


def _stored_plan(path: Path) -> dict[str, Any]:
    try:
        plan = json.loads(path.read_bytes())
    except ValueError:
        plan = None
    whole = isinstance(plan, dict) and plan.get("format") == FORMAT
    if whole and plan.get("version") == VERSION:
        whole = isinstance(plan.get("facts"), dict) and isinstance(plan.get("units"), int)
    if not whole:
        raise OutputError(f"{path}: does not tell what was done here; delete the folder if it is of no use to you")
    checked: dict[str, Any] = plan
    return checked


def _refuse_other_facts(path: Path, stored: dict[str, Any], present: dict[str, Any]) -> None:
    former, now = dict(_flat(stored)), dict(_flat(present))
    differing = [name for name in former | now if former.get(name) != now.get(name)]
    if not differing:
        return
    told = [f"{name} was {_short(former, name)}, is {_short(now, name)}" for name in differing[:FACTS_TOLD]]
    if more := len(differing) - len(told):
        told.append(f"and {more} more")
    raise ConfigError(
        f"{path}: the interrupted run differs in {'; '.join(told)}. Go on with what it was started with, or start anew "
        f"with --overwrite and without --resume"
    )


def _flat(facts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names, and values as JSON."""
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, json.dumps(value, sort_keys=True, ensure_ascii=False)


def _short(flat: dict[str, str], name: str) -> str:
    text = flat.get(name, "not given")
    return text if len(text) <= CHARACTERS_TOLD else f"{text[:CHARACTERS_TOLD]}…"


def _hash(facts: dict[str, Any]) -> str:
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _remove(path: Path) -> None:
    """Remove a folder that is locked by us. Renamed first: nobody takes what is half gone for a work folder."""
    former = beside(path.with_name(path.name.removeprefix(".").removesuffix(".work")), "former")
    with suppress(OSError):
        path.rename(former)
        path = former
    shutil.rmtree(path, ignore_errors=True)
