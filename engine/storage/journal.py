"""Which parts of a run are finished, in a file that a kill at any moment leaves readable."""

import os
import re
import threading
import zlib
from pathlib import Path
from types import TracebackType
from typing import Self

from sennet_engine.errors import OutputError
from sennet_engine.storage.durable import fdatasync, naming, write_at, write_durably

FORMAT = "sennet journal 1"
_LINE = re.compile(rb"([0-9a-f]{8}) ([^\n]*)\n")


class Journal:
    """An append-only file: a line with the plan's hash, then a line for each finished unit, each with its checksum.

    A context manager, made by `Journal.create` or `Journal.open`. Units are marked from any thread.
    """

    def __init__(self, path: Path, descriptor: int, end: int, done: frozenset[str]) -> None:
        self._path = path
        self._descriptor = descriptor
        self._end = end
        self._done = done
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: Path, plan_hash: str) -> Self:
        """A journal in which nothing is finished, at `path`; `plan_hash` tells the plan by which the units were made.

        Raises:
            OSError: the disk says no.
        """
        write_durably(path, _line(f"{FORMAT} {plan_hash}"))
        return cls.open(path, plan_hash)

    @classmethod
    def open(cls, path: Path, plan_hash: str) -> Self:
        """The journal of an earlier run. Lines from the first that is not whole on are cut off: their units are redone.

        Raises:
            OutputError: there is none at `path`, or it is of another plan or version.
        """
        try:
            descriptor = os.open(path, os.O_RDWR)
        except OSError as error:
            raise OutputError(f"{path}: cannot be opened ({error.strerror}); start anew with --overwrite") from error
        try:
            with naming(path):
                lines, end = _whole_lines(_content(descriptor))
                if lines[:1] != [f"{FORMAT} {plan_hash}"]:
                    raise OutputError(
                        f"{path}: begins with {lines[:1]}, expected {FORMAT!r} and this plan's hash; start anew with "
                        f"--overwrite"
                    )
                os.ftruncate(descriptor, end)
                fdatasync(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor, end, frozenset(lines[1:]))

    @property
    def done(self) -> frozenset[str]:
        """The finished units."""
        return self._done

    def is_done(self, unit: str) -> bool:
        """Whether `unit` was marked, by this run or by one before."""
        return unit in self._done

    def mark_done(self, unit: str) -> None:
        """Note that `unit` is finished, and return when that is on the disk. What it made has to be there already.

        Raises:
            OSError: the disk is full, or fails; the unit is then not finished.
        """
        if "\n" in unit:
            raise ValueError(f"a unit's name is one line, got {unit!r}")
        with self._lock, naming(self._path):
            if unit in self._done:
                return
            # At a place of its own rather than appended: half a line that a full disk left is written over.
            end = write_at(self._descriptor, _line(unit), self._end)
            fdatasync(self._descriptor)
            self._end, self._done = end, self._done | {unit}

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _line(text: str) -> bytes:
    data = text.encode()
    return b"%08x %s\n" % (zlib.crc32(data), data)


def _whole_lines(content: bytes) -> tuple[list[str], int]:
    """The lines up to the first whose checksum is wrong, and how many bytes they take."""
    lines, end = [], 0
    while (match := _LINE.match(content, end)) and zlib.crc32(match[2]) == int(match[1], 16):
        lines.append(match[2].decode())
        end = match.end()
    return lines, end


def _content(descriptor: int) -> bytes:
    content = b""
    while more := os.pread(descriptor, 1 << 20, len(content)):
        content += more
    return content
