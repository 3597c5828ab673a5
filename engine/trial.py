"""Choose what computes a model, and in how many calls at a time, by a short measured trial that is remembered."""

import logging
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from sennet_engine.bundle import Bundle
from sennet_engine.errors import ConfigError, MissingExtraError, SennetError
from sennet_engine.other_programs import OtherPrograms
from sennet_engine.resident import resident_bytes
from sennet_engine.runtimes import AUTO, RUNTIMES, installed_runtimes, open_predictor, precision_from_text
from sennet_engine.tile_timing import timed_tiles
from sennet_engine.trial_memory import TrialMemory

logger = logging.getLogger(__name__)

# All candidates together are measured for so long, or for two calls of each where that is longer.
TRIAL_SECONDS = 2.0
ROUNDS = 4
# A candidate so much slower than the best so far is not looked at again, nor any with still more contexts.
HOPELESS = 1.25
# Where two are as close as that, the one with fewer contexts needs less memory.
AS_GOOD = 1.02
LEAST_SHARE_OF_THREADS = 0.9
# Work of so many tiles is done before a trial of all candidates would be.
WORTH_A_TRIAL = 24
# What computes then, where it is installed: seldom the slower one.
WITHOUT_A_TRIAL = "openvino"


@dataclass(frozen=True)
class RuntimeChoice:
    """What computes a model, and how.

    Attributes:
        runtime: a name of RUNTIMES.
        threads: of one call.
        contexts: calls at a time.
        seconds_per_tile: as measured, with all contexts at work; None without a trial.
        remembered: whether an earlier trial found it.
        reason: for people: what was measured.
        fingerprint: of what computes, where the runtime's version does not tell it all: two may differ by a grey level.
    """

    runtime: str
    threads: int
    contexts: int
    seconds_per_tile: float | None
    remembered: bool
    reason: str
    fingerprint: str = ""


def chosen_runtime(
    bundle: Bundle,
    precision: str,
    *,
    tile_shape: tuple[int, int],
    batch: int,
    threads: int,
    memory: TrialMemory,
    tiles: float = inf,
    runtime: str = AUTO,
    workspace_bytes: int | None = None,
) -> RuntimeChoice:
    """The fastest way to compute tiles of `tile_shape` in batches of `batch` on `threads` threads in all.

    One model is loaded at a time, and none is when this returns. A candidate that cannot be loaded is left out with a
    warning. What was found while other programs kept the processors busy is not remembered.

    Args:
        tiles: how many there are to compute; for few of them no trial is made: one call at a time takes all threads.
        runtime: `auto` tries those that are installed; a name of RUNTIMES tries threads and contexts alone.
        memory: recalls what was found for the same file, tiles, threads, processor and versions.
        workspace_bytes: more contexts than fit into that, by what one takes, are not tried.

    Raises:
        ConfigError: no such runtime or precision.
        MissingExtraError: no runtime is installed.
        ModelError: no candidate can load the model, or compute such tiles: what the first of them said.
    """
    name = bundle.onnx_name(precision_from_text(precision))
    versions = _versions(runtime)
    facts = {
        "model": bundle.card.files[name].sha256, "tile": list(tile_shape), "batch": batch, "threads": threads,
        "processor": processor_name(), "runtimes": versions, "workspace_bytes": workspace_bytes,
    }  # fmt: skip
    recalled = memory.recalled(facts)
    if recalled is not None and (choice := _choice_from_table(recalled, versions, threads)):
        return choice
    if tiles < WORTH_A_TRIAL:
        return _without_a_trial(list(versions), threads)
    trial = _Trial(bundle, precision, tile_shape, batch, workspace_bytes)
    others = OtherPrograms()
    choice = trial.choice({one: list(splits(threads)) for one in versions})
    if others.were_busy():
        return replace(choice, reason=f"{choice.reason}; not remembered, since other programs kept the processors busy")
    found = {
        "runtime": choice.runtime, "threads": choice.threads, "contexts": choice.contexts,
        "seconds_per_tile": choice.seconds_per_tile, "reason": choice.reason,
    }  # fmt: skip
    memory.remember(facts, found)
    return choice


def _without_a_trial(runtimes: list[str], threads: int) -> RuntimeChoice:
    return RuntimeChoice(
        runtime=WITHOUT_A_TRIAL if WITHOUT_A_TRIAL in runtimes else runtimes[0],
        threads=threads,
        contexts=1,
        seconds_per_tile=None,
        remembered=False,
        reason="not tried against others, which would take longer than the work",
    )


def splits(threads: int) -> Iterator[tuple[int, int]]:
    """(contexts, threads of each): powers of two and all, where they leave hardly a thread idle; fewest first."""
    for contexts in sorted({2**power for power in range(threads.bit_length())} | {threads}):
        each = threads // contexts
        if each and contexts * each >= LEAST_SHARE_OF_THREADS * threads:
            yield contexts, each


def processor_name() -> str:
    """The processor as the system calls it, with family, model and stepping where it tells."""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        facts = dict(re.findall(r"^(model name|cpu family|model|stepping)\s*:\s*(.+)$", text, re.MULTILINE))
        if facts:
            return ", ".join(f"{key} {value}" for key, value in facts.items())
    return platform.processor() or platform.machine()


def _versions(runtime: str) -> dict[str, str]:
    installed = installed_runtimes()
    if runtime != AUTO:
        if runtime not in RUNTIMES:
            raise ConfigError(f"runtime: got {runtime!r}, expected {AUTO} or one of {', '.join(RUNTIMES)}")
        return {runtime: installed.get(runtime, "")}  # where it is not installed, loading it says so
    if not installed:
        raise MissingExtraError(f"none of {', '.join(RUNTIMES)} is installed; run: pip install 'sennet[cpu]'")
    return installed


def _choice_from_table(table: dict[str, Any], versions: dict[str, str], threads: int) -> RuntimeChoice | None:
    """None where somebody has changed the file."""
    try:
        choice = RuntimeChoice(**table, remembered=True)
        fits = choice.runtime in versions and (choice.contexts, choice.threads) in splits(threads)
        return choice if fits and choice.seconds_per_tile else None
    except TypeError:
        return None


@dataclass(frozen=True)
class _Candidate:
    runtime: str
    contexts: int
    threads: int

    def __str__(self) -> str:
        return f"{self.runtime} {self.contexts} x {self.threads}"


class _Trial:
    def __init__(
        self, bundle: Bundle, precision: str, shape: tuple[int, int], batch: int, workspace_bytes: int | None
    ) -> None:
        self._bundle, self._precision, self._shape, self._batch = bundle, precision, shape, batch
        self._workspace_bytes = workspace_bytes
        self._found: dict[_Candidate, float] = {}
        self._grown = 0
        self._seconds = TRIAL_SECONDS
        self._first_error: SennetError | None = None

    def choice(self, splits_by_runtime: dict[str, list[tuple[int, int]]]) -> RuntimeChoice:
        count = sum(map(len, splits_by_runtime.values()))
        self._seconds = TRIAL_SECONDS / (2 * count)
        for runtime, ways in splits_by_runtime.items():
            self._try_runtime(runtime, ways)
        if not self._found:
            raise self._first_error or AssertionError("a trial has candidates")
        # What the machine did in the meantime must not decide: those that are close are measured once more.
        close = [one for one in self._found if self._found[one] <= HOPELESS * min(self._found.values())]
        if len(close) > 1 and max(self._found[one] for one in close) * self._batch < self._seconds:
            for one in reversed(close):
                self._measure(one)
        fastest = min(self._found.values())
        best = min(
            (one for one in self._found if self._found[one] <= AS_GOOD * fastest),
            key=lambda one: (one.contexts, self._found[one]),
        )
        rows, columns = self._shape
        measured = ", ".join(f"{one}: {seconds * 1e3:.1f} ms" for one, seconds in self._found.items())
        return RuntimeChoice(
            runtime=best.runtime,
            threads=best.threads,
            contexts=best.contexts,
            seconds_per_tile=self._found[best],
            remembered=False,
            reason=f"a tile of {rows} x {columns} on runtime, calls x threads: {measured}",
        )

    def _try_runtime(self, runtime: str, ways: list[tuple[int, int]]) -> None:
        best, workspace = inf, 0
        for contexts, threads in ways:
            if self._workspace_bytes is not None and contexts > 1 and contexts * workspace > self._workspace_bytes:
                return
            candidate = _Candidate(runtime, contexts, threads)
            before = resident_bytes()
            try:
                seconds = self._measure(candidate)
            except SennetError as error:
                logger.warning("%s is left out: %s", candidate, error)
                self._first_error = self._first_error or error
                return  # more contexts of it would say the same
            workspace = workspace or self._grown - before
            if seconds > HOPELESS * best:
                return
            best = min(best, seconds)

    def _measure(self, candidate: _Candidate) -> float:
        """The least seconds that it ever took for a tile; notes how much memory is held while it is loaded."""
        known = self._found.get(candidate, inf)
        fastest = min(self._found.values(), default=inf)
        with open_predictor(
            self._bundle, runtime=candidate.runtime, precision=self._precision, threads=candidate.threads,
            contexts=candidate.contexts,
        ) as predictor:  # fmt: skip
            timing = timed_tiles(
                predictor, self._shape, batch=self._batch, rounds=ROUNDS, seconds=self._seconds,
                give_up_above=4 * fastest,
            )  # fmt: skip
            self._grown = resident_bytes()
        self._found[candidate] = min(known, timing.best)
        return self._found[candidate]
