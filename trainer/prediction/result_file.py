"""The JSON file in which a stage says what it found, and from what: a stage whose file is current is not run again."""

import hashlib
import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from sennet_engine.config import Config
from sennet_engine.errors import OutputError
from sennet_trainer.whole_file import write_whole


class Result(Config):
    """Base of what a stage found. `key` is the hash of everything that decides it, see `key_of`."""

    key: str


class NetworkName(Config):
    """A network that took part, with the hash of its weights."""

    name: str
    sha256: str


R = TypeVar("R", bound=Result)


def key_of(**facts: Any) -> str:
    """The sha256 of `facts`, which JSON can hold: equal for equal facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def refuse_file(folder: Path) -> None:
    """Raise OutputError where `folder`, in which a stage is to write, is a file."""
    if folder.is_file():
        raise OutputError(f"{folder}: is a file, expected a folder; choose another place")


def current_result(path: Path, kind: type[R], *, key: str) -> R | None:
    """What the file `path` says, or None where there is no such file, or it was found from other facts than `key`."""
    try:
        result = kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return result if result.key == key else None


def write_result(path: Path, result: Result) -> None:
    """Write `result` as JSON; the file appears only when whole."""
    text = json.dumps(result.model_dump(mode="json"), indent=2, ensure_ascii=False)
    write_whole(path, (text + "\n").encode())
