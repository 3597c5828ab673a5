"""Which files had never run on a GPU, as docs/gpu.md lists them, and whether a check has now proven them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sennet_bench.gpu_check.steps import Outcome, Step

DOCUMENT = "docs/gpu.md"
BEGIN, END = "<!-- never on a GPU -->", "<!-- /never on a GPU -->"
ROW = re.compile(r"^\| `(?P<path>[^`]+)` \| (?P<without>.*?) \| (?P<steps>[^|]+?) \|$")


@dataclass(frozen=True)
class UntriedFile:
    """A file that needs a GPU.

    Attributes:
        path: within the checkout.
        proven_without: what was proven without a GPU, and how.
        steps: the keys of those that prove it on one.
    """

    path: str
    proven_without: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class ProvenFile:
    """What a check says of such a file: `open_steps` did not pass; it is proven where there are none."""

    path: str
    steps: tuple[str, ...]
    open_steps: tuple[str, ...]

    @property
    def proven(self) -> bool:
        """Whether all of its steps passed."""
        return not self.open_steps


def untried_files(document: str) -> list[UntriedFile]:
    """The rows of the marked table in the text of docs/gpu.md; none where there is no such table."""
    table = document.partition(BEGIN)[2].partition(END)[0]
    rows = filter(None, map(ROW.match, table.splitlines()))
    return [
        UntriedFile(row["path"], row["without"], tuple(key.strip() for key in row["steps"].split(","))) for row in rows
    ]


def proven_files(checkout: Path, steps: Iterable[Step]) -> list[ProvenFile]:
    """What the steps say of every file that the checkout's document lists; none where it is not there."""
    passed = {step.key for step in steps if step.outcome is Outcome.PASSED}
    document = checkout / DOCUMENT
    listed = untried_files(document.read_text(encoding="utf-8")) if document.is_file() else []
    return [
        ProvenFile(one.path, one.steps, tuple(key for key in one.steps if key not in passed)) for one in listed
    ]  # fmt: skip
