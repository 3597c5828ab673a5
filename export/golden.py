"""Golden tiles: what an engine that could not be run where it was built must answer when it first runs."""

import io
from collections.abc import Mapping

import numpy as np

from sennet_export.answers import Answers, Tiles

# Of each side. An engine runs them once, before its first volume.
TILES = 2


def golden_bytes(tiles: Mapping[int, Tiles], answers: Mapping[int, Answers]) -> bytes:
    """An .npz without pickles: `tiles_S` and `probabilities_S`, uint8 [n, 1, S, S], for every tile side S.

    The probabilities are those of the fp32 graph, whatever the precision of the engines.
    """
    arrays = {}
    for side, stack in tiles.items():
        arrays[f"tiles_{side}"] = stack[:TILES]
        arrays[f"probabilities_{side}"] = answers[side].probabilities[:TILES]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
