"""A plugin of pytest that writes a line of JSON as each test begins and ends: what is told outlives a crash."""

import json
from pathlib import Path

import pytest

OPTION = "--told-tests"


class Teller:
    """Appends to the file `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins."""
        self._tell({"test": nodeid, "told": "begun"})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A part of a test has ended: its setup, its call or its teardown."""
        self._tell(
            {
                "test": report.nodeid, "told": report.outcome, "part": report.when, "seconds": report.duration,
                "reason": _reason(report), "error": report.longreprtext if report.failed else "",
            }
        )  # fmt: skip

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """A test has come to its end."""
        self._tell({"test": nodeid, "told": "ended"})

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file of tests that cannot be imported stands for all of its tests."""
        if report.failed:
            reason, error = _last_line(report.longreprtext), report.longreprtext
            facts = {"told": "failed", "part": "collect", "seconds": 0.0, "reason": reason, "error": error}
            self._tell({"test": report.nodeid} | facts)

    def _tell(self, facts: dict[str, object]) -> None:
        with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(json.dumps(facts) + "\n")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where to write."""
    parser.addoption(OPTION, type=Path, help="append what is known of each test to this file, a line of JSON each")


def pytest_configure(config: pytest.Config) -> None:
    """Tell, where a file was named."""
    if (path := config.getoption(OPTION)) is not None:
        config.pluginmanager.register(Teller(path))


def _reason(report: pytest.TestReport) -> str:
    """Why a test failed or was skipped; empty where it passed."""
    if report.skipped and isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    message = crash.message if crash else report.longreprtext
    return message.strip().partition("\n")[0]


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].removeprefix("E").strip()
