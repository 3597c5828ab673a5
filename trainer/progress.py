"""How far a training is."""

from dataclasses import dataclass

from sennet_trainer.history import EpochRow


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        rows: one for each finished epoch.
        best_surface_dice: of the epoch whose weights are kept, or None before the first validation.
    """

    rows: tuple[EpochRow, ...] = ()
    best_surface_dice: float | None = None

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return len(self.rows)

    def advanced(self, row: EpochRow) -> "Progress":
        """The progress after one more epoch."""
        scores = [score for score in (self.best_surface_dice, row.surface_dice) if score is not None]
        return Progress((*self.rows, row), max(scores, default=None))
