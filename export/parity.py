"""The gate: an exported file is kept only if it answers as the trained network does, on real tiles."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
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
    segmenter: Segmenter, onnx_path: Path, calibration: Calibration, *, sides: list[int], trained_side: int,
    threshold: float,
) -> Parity:  # fmt: skip
    """Compare the file with the network in torch: on a tile of the training side from every plane, and on one tile of
    every side in `sides`.

    Raises:
        GateError: the network answers the same everywhere, so that nothing is proven.
    """
    answers = _Answers(segmenter, onnx_path)
    exported, trained = answers.of(calibration.squares(trained_side))
    if trained.min() == trained.max():
        raise GateError(
            f"the network answers {trained.min()} of 255 everywhere on {calibration.source}, so nothing can be proven; "
            f"train it longer, or name planes with vessels by --calibration"
        )
    difference = np.abs(exported - trained)
    cutoff = threshold * 255
    by_side = {side: int(np.abs(np.subtract(*answers.of(calibration.squares(side)[:1]))).max()) for side in sides}
    return Parity(
        against=f"torch {torch.__version__}, fp32, CPU",
        tiles=f"{calibration.source}, {trained_side} pixels",
        tile_count=len(exported),
        largest_difference=max(int(difference.max()), *by_side.values()),
        mean_difference=float(difference.mean()),
        flipped_share=float(np.mean((exported >= cutoff) != (trained >= cutoff))),
        largest_by_side=by_side,
    )


class _Answers:
    """What the exported file and the network in torch answer to the same tiles."""

    def __init__(self, segmenter: Segmenter, onnx_path: Path) -> None:
        self._session = onnxruntime.InferenceSession(onnx_path, providers=["CPUExecutionProvider"])
        self._network = Uint8Ends(segmenter).eval()

    def of(self, tiles: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Grey levels [n, 1, S, S] of the file and of the network; `tiles` are uint8 [n, 1, S, S]."""
        exported = [self._session.run(None, {"tiles": tile[None]})[0] for tile in tiles]
        with torch.inference_mode():
            trained = [self._network(torch.from_numpy(tile[None])).numpy() for tile in tiles]
        return np.concatenate(exported).astype(np.int64), np.concatenate(trained).astype(np.int64)


def refuse_unequal(parity: Parity, name: str) -> None:
    """Raise GateError where `parity` is worse than the gate allows."""
    if parity.largest_difference > LARGEST_DIFFERENCE or parity.flipped_share > FLIPPED_SHARE:
        raise GateError(
            f"{name}: differs from the trained network by up to {parity.largest_difference} grey levels and flips "
            f"{parity.flipped_share:.2e} of the pixels, expected at most {LARGEST_DIFFERENCE} and {FLIPPED_SHARE:.0e}; "
            f"nothing was written"
        )
