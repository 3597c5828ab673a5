"""What a stage was made from and what came out, in its folder: stage.json."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sennet_engine.errors import ModelError
from sennet_trainer.whole_file import write_whole

STAGE = "stage.json"


@dataclass(frozen=True)
class StageRecord:
    """A stage that was begun.

    Attributes:
        name, kind: as in the recipe.
        settings: all that decides the result besides the inputs.
        inputs: sha256 by what it is: `images NAME`, `labels NAME`, `network STAGE`, ...
        complete: whether it is done.
        seconds: how long it took, over all sessions but those that were killed.
        result: its figures.
    """

    name: str
    kind: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    complete: bool = False
    seconds: float = 0.0
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """sha256 of what decides the result. Equal keys mean equal results."""
        # Through JSON, so that a record that was read and one that was made give the same.
        facts = json.dumps([self.kind, self.settings, self.inputs], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()

    def differences(self, other: "StageRecord") -> list[str]:
        """What decides the result and differs, a line each: `training.epochs: 10 there, 12 now`."""
        before, now = (flat({**record.settings, "input": record.inputs}) for record in (self, other))
        keys = sorted({*before, *now})
        return [f"{k}: {before.get(k)!r} there, {now.get(k)!r} now" for k in keys if before.get(k) != now.get(k)]


def write_stage(folder: Path, record: StageRecord) -> None:
    """Write the record into the stage's `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**asdict(record), "key": record.key}, indent=2)
    write_whole(folder / STAGE, text.encode())


def read_stage(folder: Path) -> StageRecord | None:
    """The record in `folder`, or None where no stage was begun.

    Raises:
        ModelError: the file is damaged.
    """
    path = folder / STAGE
    if not path.exists():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        facts.pop("key")
        record = StageRecord(**facts)
        if not all(isinstance(table, dict) for table in (record.settings, record.inputs, record.result)):
            raise ValueError("settings, inputs and result are not tables")
        return replace(record, complete=bool(record.complete), seconds=float(record.seconds))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: is damaged ({error}); delete the folder {folder} to run the stage anew") from error


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Nested tables and lists as one table with dotted keys."""
    if isinstance(value, dict | list | tuple) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for name, item in items for k, v in flat(item, f"{key}.{name}" if key else str(name)).items()}
    return {key: list(value) if isinstance(value, tuple) else value}
