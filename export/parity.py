"""The gate: an exported file is kept only if it answers as the trained network does, on real tiles."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch

from sennet_engine.card import Parity
from sennet_engine.errors import SennetError
from sennet_export.calibration import Calibration
from sennet_export.graph import Uint8Ends
from sennet_trainer.network import Segmenter

# One grey level is what rounding to uint8 can turn a difference of 1e-7 into.
LARGEST_DIFFERENCE = 1
FLIPPED_SHARE = 1e-4


class GateError(SennetError):
    """An exported file that does not answer as its network does; nothing is written."""

    exit_code = 1


def measured_parity(
    segmenter: Segmenter, onnx_path: Path, calibration: Calibration, *, side: int, threshold: float
) -> Parity:
    """Compare the file with the network in torch on one tile of `side` pixels a plane; differences in grey levels."""
    tiles = calibration.squares(side)
    session = onnxruntime.InferenceSession(str(onnx_path), providers=["CPUExecutionProvider"])
    exported = np.concatenate([session.run(None, {"tiles": tile[None]})[0] for tile in tiles]).astype(int)
    with torch.inference_mode():
        network = Uint8Ends(segmenter).eval()
        trained = np.concatenate([network(torch.from_numpy(tile[None])).numpy() for tile in tiles]).astype(int)
    difference = np.abs(exported - trained)
    cutoff = threshold * 255
    return Parity(
        against=f"torch {torch.__version__}, fp32, CPU",
        tiles=f"{calibration.source}, {side} pixels",
        tile_count=len(tiles),
        largest_difference=int(difference.max()),
        mean_difference=float(difference.mean()),
        flipped_share=float(np.mean((exported >= cutoff) != (trained >= cutoff))),
    )


def refuse_unequal(parity: Parity, name: str) -> None:
    """Raise GateError where `parity` is worse than the gate allows."""
    if parity.largest_difference > LARGEST_DIFFERENCE or parity.flipped_share > FLIPPED_SHARE:
        raise GateError(
            f"{name}: differs from the trained network by up to {parity.largest_difference} grey levels and flips "
            f"{parity.flipped_share:.2e} of the pixels, expected at most {LARGEST_DIFFERENCE} and {FLIPPED_SHARE:.0e}; "
            f"nothing was written"
        )
