"""Where a recipe keeps things: its record, its stages, the former results of stages that changed, its cached volumes.

RUN/recipe.json     the resolved recipe
RUN/stages/NAME/    one stage: stage.json, and what the stage writes
RUN/former/NAME-K/  the same of a stage that has changed since; K begins its key. It comes back when the change does
RUN/cache/          volumes windowed to uint8
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from sennet_engine.errors import OutputError
from sennet_trainer.recipe.record import StageRecord, read_stage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Folders:
    """The folders of the run at `root`."""

    root: Path

    @property
    def stages(self) -> Path:
        """Holds a folder for every stage."""
        return self.root / "stages"

    @property
    def cache(self) -> Path:
        """Holds the cached volumes of all stages."""
        return self.root / "cache"

    def stage(self, name: str) -> Path:
        """The folder of a stage."""
        return self.stages / name

    def set_aside(self, record: StageRecord) -> None:
        """Move the folder of a stage that was made from other things out of the way. Nothing of it is lost.

        Raises:
            OutputError: it cannot be moved.
        """
        former, folder = self._former(record), self.stage(record.name)
        kept = read_stage(former)
        try:
            if kept is not None and kept.complete and not record.complete:
                shutil.rmtree(folder)  # the same work, less far
                return
            if former.exists():
                shutil.rmtree(former)
            former.parent.mkdir(exist_ok=True)
            folder.rename(former)
        except OSError as error:
            raise OutputError(f"{former}: cannot be made ({error.strerror}); make room there and run again") from error
        logger.warning("the former result of %s is kept as %s; delete it when it is not needed", record.name, former)

    def brought_back(self, record: StageRecord) -> StageRecord | None:
        """Put a former folder of the same key in its place again; returns its record, or None where there is none."""
        former = self._former(record)
        there = read_stage(former)
        if there is None or there.key != record.key:
            return None
        self.stages.mkdir(exist_ok=True)
        former.rename(self.stage(record.name))
        return there

    def drop_partial_caches(self) -> None:
        """Delete what a killed process has left of volumes that it was caching. No other process is at work here."""
        for left in self.cache.glob("*.partial"):
            shutil.rmtree(left)

    def _former(self, record: StageRecord) -> Path:
        return self.root / "former" / f"{record.name}-{record.key[:8]}"
