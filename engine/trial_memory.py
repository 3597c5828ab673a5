"""What earlier trials found, in a file of the user's cache folder."""

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

FORMAT = "sennet trials 1"
# The oldest are forgotten then.
MOST_TRIALS = 500

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class TrialMemory:
    """Facts of a trial, and what it found; both are tables of JSON.

    Attributes:
        path: of the file, which need not exist; None remembers nothing.
    """

    path: Path | None

    def recalled(self, facts: Facts) -> dict[str, Any] | None:
        """What `remember` was given last for the same facts."""
        found: list[dict[str, Any]] = [one["found"] for one in self._trials() if one["facts"] == dict(facts)]
        return found[-1] if found else None

    def remember(self, facts: Facts, found: Facts) -> None:
        """Keep it. A folder that cannot be written to is a warning: the trial is then made again next time."""
        if self.path is None:
            return
        trials = [one for one in self._trials() if one["facts"] != dict(facts)]
        trials.append({"facts": dict(facts), "found": dict(found)})
        text = json.dumps({"format": FORMAT, "trials": trials[-MOST_TRIALS:]}, indent=1)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, unfinished = tempfile.mkstemp(dir=self.path.parent, prefix=f"{self.path.name}.")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(text + "\n")
                Path(unfinished).replace(self.path)
            except BaseException:
                Path(unfinished).unlink(missing_ok=True)
                raise
        except OSError as error:
            logger.warning("%s: cannot be written (%s); the trial is not remembered", self.path, error.strerror)

    def _trials(self) -> list[dict[str, Any]]:
        if self.path is None:
            return []
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"got {content['format']!r}, expected {FORMAT!r}")
            trials: list[dict[str, Any]] = content["trials"]
            if not all(isinstance(one["facts"], dict) and isinstance(one["found"], dict) for one in trials):
                raise ValueError("a trial is no table")
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError) as error:
            logger.warning("%s: is not used, it holds no trials (%s)", self.path, error)
            return []
        return trials
