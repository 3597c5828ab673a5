"""The tests that need a GPU, run by pytest in a process of its own; every one of them is told, also after a crash."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sennet_bench.gpu_check.child import Ended, run_child
from sennet_bench.gpu_check.steps import MarkedTest, Outcome, Step

KEY, TITLE = "tests", "Tests that need a GPU"
FOLDER = "tests/gpu"
PLUGIN = "sennet_bench.gpu_check.told_tests"
# Of one test, with the engines that it builds.
SECONDS_FOR_ONE = 90


def run_marked_tests(checkout: Path, *, seconds: float) -> tuple[Step, list[MarkedTest]]:
    """Run the gpu-marked tests of the checkout for at most that long."""
    if not (checkout / FOLDER).is_dir():
        return Step(
            KEY, TITLE, Outcome.NOT_RUN,
            f"{checkout / FOLDER} is not there: run `make gpu-check` in a checkout, which holds the tests",
        ), []  # fmt: skip
    with TemporaryDirectory() as folder:
        told = Path(folder) / "told.jsonl"
        # Packages that nobody pinned may warn of what is to come, which is no failure of a GPU.
        options = ["-p", "no:cacheprovider", "-o", f"timeout={SECONDS_FOR_ONE}", "-W", "default"]
        command = [sys.executable, "-m", "pytest", FOLDER, "-m", "gpu", *options, "-p", PLUGIN, f"--told-tests={told}"]
        ended = run_child(command, seconds=seconds, environment={}, folder=checkout)
        lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    tests = tests_from_lines(lines, ended)
    return step_from_tests(tests, ended), tests


def tests_from_lines(lines: Sequence[str], ended: Ended) -> list[MarkedTest]:
    """The tests that the plugin told of; one that began and did not end has failed as pytest `ended`."""
    told: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        try:
            facts = json.loads(line)
        except json.JSONDecodeError:
            continue  # the last one, cut short
        told.setdefault(facts["test"], []).append(facts)
    return [_test(name, facts, ended) for name, facts in told.items()]


def step_from_tests(tests: Sequence[MarkedTest], ended: Ended) -> Step:
    """All of them as one step: passed where at least one did, none failed, and pytest came to its end."""
    counts = {outcome: sum(one.outcome is outcome for one in tests) for outcome in Outcome}
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count) or "none was told of"
    if ended.succeeded and counts[Outcome.PASSED] and not counts[Outcome.FAILED]:
        return Step(KEY, TITLE, Outcome.PASSED, told, ended.seconds)
    # By 1 pytest tells that tests failed, which is said already.
    reason = told if counts[Outcome.FAILED] and ended.code == 1 else f"{told}; pytest {ended.how}"
    return Step(KEY, TITLE, Outcome.FAILED, reason, ended.seconds, ended.words)


def _test(node: str, facts: Sequence[dict[str, Any]], ended: Ended) -> MarkedTest:
    file, separator, test = node.partition("::")
    name = f"{Path(file).stem}{separator}{test}"
    parts = [one for one in facts if "part" in one]
    seconds = sum(one["seconds"] for one in parts)
    for outcome, told in ((Outcome.FAILED, "failed"), (Outcome.NOT_RUN, "skipped")):
        if found := [one for one in parts if one["told"] == told]:
            return MarkedTest(name, outcome, found[0]["reason"], seconds, "\n".join(one["error"] for one in found))
    if facts[0]["told"] == "begun" and facts[-1]["told"] != "ended":
        return MarkedTest(name, Outcome.FAILED, f"it did not come to its end: pytest {ended.how}", seconds, ended.words)
    return MarkedTest(name, Outcome.PASSED, "", seconds)
