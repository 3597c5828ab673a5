"""Which files had never run on a GPU, as docs/gpu.md lists them, and whether a check has now proven them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sennet_bench.gpu_check.steps import Outcome, Step

DOCUMENT = "docs/gpu.md"
BEGIN, END = "<!-- never on a GPU -->", "<!-- /never on a GPU -->"
OPTIONAL = "*"
ROW = re.compile(r"^\| `(?P<path>[^`]+)` \| (?P<without>.*?) \| (?P<steps>[^|]+?) \|$")


@dataclass(frozen=True)
class UntriedFile:
    """A file that needs a GPU.

    Attributes:
        path: within the checkout.
        proven_without: what was proven without a GPU, and how.
        steps: the keys of those any of which proves it on one.
        optional: those of them that the document marks: a machine may lack what they need.
    """

    path: str
    proven_without: str
    steps: tuple[str, ...]
    optional: tuple[str, ...]


@dataclass(frozen=True)
class ProvenFile:
    """What a check says of such a file.

    Attributes:
        steps: of the file.
        passed_steps: those of them that passed.
        lacking: none passed, and all of them are optional and were not run, since the machine lacks what they need.
    """

    path: str
    steps: tuple[str, ...]
    passed_steps: tuple[str, ...]
    lacking: bool

    @property
    def proven(self) -> bool:
        """Whether any of its steps passed."""
        return bool(self.passed_steps)


def untried_files(document: str) -> list[UntriedFile]:
    """The rows of the marked table in the text of docs/gpu.md; none where there is no such table."""
    table = document.partition(BEGIN)[2].partition(END)[0]
    return [_file(row["path"], row["without"], row["steps"]) for row in map(ROW.match, table.splitlines()) if row]


def proven_files(checkout: Path, steps: Iterable[Step]) -> list[ProvenFile]:
    """What the steps say of every file that the checkout's document lists; none where it is not there."""
    steps = list(steps)
    passed = {step.key for step in steps if step.outcome is Outcome.PASSED}
    lacking = {step.key for step in steps if step.outcome is Outcome.NOT_RUN and step.optional}
    document = checkout / DOCUMENT
    listed = untried_files(document.read_text(encoding="utf-8")) if document.is_file() else []
    return [
        ProvenFile(one.path, one.steps, tuple(key for key in one.steps if key in passed), lacking.issuperset(one.steps))
        for one in listed
    ]


def _file(path: str, without: str, steps: str) -> UntriedFile:
    keys = [key.strip() for key in steps.split(",")]
    optional = tuple(key.removesuffix(OPTIONAL) for key in keys if key.endswith(OPTIONAL))
    return UntriedFile(path, without, tuple(key.removesuffix(OPTIONAL) for key in keys), optional)
