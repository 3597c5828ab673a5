"""The ends of a model's graph: tiles in, probabilities out, and, where it watches for it, which tiles overflowed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import ModelError, OverflowedError
from sennet_engine.predictor import Tiles

OVERFLOWED = "overflowed"


@dataclass(frozen=True)
class End:
    """An input or an output, as a runtime tells of it.

    Attributes:
        kind: the element type, as the runtime names it.
        is_uint8: whether it is that.
        shape: for people.
        rank: axes.
    """

    name: str
    kind: str
    is_uint8: bool
    shape: str
    rank: int


def watches_overflow(path: Path, inputs: Sequence[End], outputs: Sequence[End]) -> bool:
    """Whether the graph of the file at `path` has the output `overflowed`.

    Raises:
        ModelError: it has other ends than a model of this project.
    """
    ranks = [end.rank for end in (*inputs, *outputs)]
    fits = (
        len(inputs) == 1
        and ranks in ([4, 4], [4, 4, 1])
        and all(end.is_uint8 for end in (*inputs, *outputs))
        and all(end.name == OVERFLOWED for end in outputs[1:])
    )
    if not fits:
        found = ", ".join(f"{end.name} {end.kind} {end.shape}" for end in (*inputs, *outputs))
        raise ModelError(
            f"{path}: got {found}, expected one input and one output of uint8 [B, 1, H, W], and at most "
            f"{OVERFLOWED}, uint8 [B], as a second output; export the model again"
        )
    return len(outputs) > 1


def refuse_overflowed(path: Path, answers: Tiles, overflowed: npt.NDArray[np.uint8]) -> None:
    """Raise OverflowedError where `overflowed`, [B], says so of any tile."""
    if overflowed.any():
        tiles = tuple(np.flatnonzero(overflowed).tolist())
        raise OverflowedError(
            f"{path}: answers {len(tiles)} of {len(answers)} tiles with NaN or infinity in its precision; use "
            f"--precision fp32",
            tiles=tiles,
            answers=answers,
        )
