"""A network in torch as the engine's Predictor, so that a network is predicted with before it is exported."""

from types import TracebackType
from typing import Self

import torch

from sennet_engine.predictor import Tiles
from sennet_trainer.device import mixed_precision
from sennet_trainer.network import Segmenter


class TorchPredictor:
    """Runs `segmenter` on `device`, in the arithmetic of `mixed_precision` there, and rounds as exported files do."""

    def __init__(self, segmenter: Segmenter, *, device: torch.device) -> None:
        self._segmenter = segmenter.to(device).eval()
        self._device = device
        self.runtime = f"torch {torch.__version__} on {device.type}"
        self.threads = torch.get_num_threads()
        self.contexts = 1
        self.watches_overflow = False

    def predict(self, tiles: Tiles, *, context: int = 0) -> Tiles:
        """uint8 tiles [B, 1, S, S] to uint8 probabilities [B, 1, S, S]."""
        del context  # there is one
        return uint8_probability(self._segmenter, tiles, device=self._device)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._segmenter
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def uint8_probability(segmenter: Segmenter, grey: Tiles, *, device: torch.device) -> Tiles:
    """uint8 planes [B, 1, H, W] to uint8 probabilities [B, 1, H, W]: sigmoid * 255, rounded half to even.

    `segmenter` is on `device` and in evaluation mode.
    """
    with torch.inference_mode(), mixed_precision(device):
        logits = segmenter(torch.from_numpy(grey).to(device).float())
        probability = torch.round(torch.sigmoid(logits.float()) * 255).to(torch.uint8)
    answer: Tiles = probability.cpu().numpy()
    return answer
