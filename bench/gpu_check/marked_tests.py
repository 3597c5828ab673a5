"""The tests that need a GPU, run by pytest in a process of its own; every one of them is told."""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

from sennet_bench.gpu_check.child import Ended, run_child
from sennet_bench.gpu_check.steps import MarkedTest, Outcome, Step

KEY, TITLE = "tests", "Tests that need a GPU"
FOLDER = "tests/gpu"


def run_marked_tests(checkout: Path, *, seconds: float) -> tuple[Step, list[MarkedTest]]:
    """Run the gpu-marked tests of the checkout for at most that long."""
    if not (checkout / FOLDER).is_dir():
        return Step(
            KEY, TITLE, Outcome.NOT_RUN,
            f"{checkout / FOLDER} is not there: run `make gpu-check` in a checkout, which holds the tests",
        ), []  # fmt: skip
    with TemporaryDirectory() as folder:
        results = Path(folder) / "results.xml"
        options = ["-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={results}"]
        command = [sys.executable, "-m", "pytest", FOLDER, *options]
        ended = run_child(command, seconds=seconds, environment={}, folder=checkout)
        content = results.read_bytes() if results.exists() else b""
    tests = tests_from_junit(content)
    return step_from_tests(tests, ended), tests


def tests_from_junit(content: bytes) -> list[MarkedTest]:
    """The tests in a file that pytest's --junitxml wrote; none where it wrote none, or not to its end."""
    try:
        cases = list(ElementTree.fromstring(content).iter("testcase")) if content else []
    except ElementTree.ParseError:
        return []
    return [_test(case) for case in cases]


def step_from_tests(tests: Sequence[MarkedTest], ended: Ended) -> Step:
    """All of them as one step: passed where at least one did, none failed, and pytest came to its end."""
    counts = {outcome: sum(one.outcome is outcome for one in tests) for outcome in Outcome}
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count) or "none was told of"
    if ended.succeeded and counts[Outcome.PASSED] and not counts[Outcome.FAILED]:
        return Step(KEY, TITLE, Outcome.PASSED, told, ended.seconds)
    reason = told if counts[Outcome.FAILED] else f"{told}; pytest {ended.how}"
    return Step(KEY, TITLE, Outcome.FAILED, reason, ended.seconds, ended.words)


def _test(case: ElementTree.Element) -> MarkedTest:
    name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name', '')}"
    seconds = float(case.get("time", "0"))
    for tag in ("failure", "error"):
        if (found := case.find(tag)) is not None:
            return MarkedTest(name, Outcome.FAILED, _first_line(found), seconds, found.text or "")
    if (skipped := case.find("skipped")) is not None:
        return MarkedTest(name, Outcome.NOT_RUN, _first_line(skipped), seconds)
    return MarkedTest(name, Outcome.PASSED, "", seconds)


def _first_line(told: ElementTree.Element) -> str:
    return (told.get("message") or "").strip().partition("\n")[0]
