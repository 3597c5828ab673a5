"""ONNX from a trained segmenter: uint8 tiles in, uint8 probabilities out, everything between in the graph."""

import logging
import warnings
from pathlib import Path

import torch
from torch import nn

from sennet_trainer.network import Segmenter

logger = logging.getLogger(__name__)

OPSET = 18  # the first with Resize as torch writes it; 17 or later keeps LayerNormalization one operator
CANDIDATE_SIDES = (128, 192, 256, 320, 384, 448, 512, 640, 768, 832, 1024)


class Uint8Ends(nn.Module):
    """uint8 [B, C, H, W] in 0..255 to uint8 probabilities [B, 1, H, W], 0 for 0 and 255 for 1.

    The casts are the first and the last operator: rounding and clipping happen in float, where every runtime has them.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        logits = self.segmenter(tiles.to(torch.float32))
        levels = torch.round(torch.sigmoid(logits) * 255)
        return torch.clamp(levels, 0, 255).to(torch.uint8)


def accepted_sides(segmenter: Segmenter, *, trained_side: int) -> list[int]:
    """The tile sides among CANDIDATE_SIDES and `trained_side` that the network takes, ascending.

    A side is tried by running the network on one tile without computing it (meta tensors): some networks, MaxViT among
    them, are built for one side only.
    """
    stride = segmenter.stride
    sides = sorted({side for side in (*CANDIDATE_SIDES, trained_side) if side % stride == 0})
    return [side for side in sides if side == trained_side or _accepts(segmenter, side)]


def onnx_from_segmenter(segmenter: Segmenter, path: Path, *, sides: list[int]) -> None:
    """Write `path`: input `tiles` uint8 [batch, 1, H, W], output `probabilities` uint8 [batch, 1, H, W].

    The batch is free. H and W are free multiples of the stride where `sides` has several, else they are that side.
    """
    stride = segmenter.stride
    shapes: dict[int, object] = {0: torch.export.Dim("batch", min=1, max=4096)}
    height, width = sides[0], sides[0]
    if len(sides) > 1:
        height, width = sides[-2], sides[-1]  # two numbers, so that the exporter does not take them for one
        largest = 65536 // stride
        shapes |= {axis + 2: stride * torch.export.Dim(name, min=1, max=largest) for axis, name in enumerate("hw")}
    example = torch.zeros((2, 1, height, width), dtype=torch.uint8)
    with warnings.catch_warnings():
        # The exporter warns about its own internals; what counts is checked by the parity gate.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Uint8Ends(segmenter).eval(), (example,), str(path), dynamo=True, opset_version=OPSET, verbose=False,
            input_names=["tiles"], output_names=["probabilities"], dynamic_shapes=(shapes,), external_data=False,
        )  # fmt: skip


def _accepts(segmenter: Segmenter, side: int) -> bool:
    try:
        with torch.device("meta"), torch.no_grad():
            answer = torch.func.functional_call(
                segmenter,
                {name: tensor.to("meta") for name, tensor in segmenter.state_dict().items()},
                (torch.zeros((1, 1, side, side)),),
            )
    except (RuntimeError, AssertionError, ValueError) as error:
        logger.info("the network does not take tiles of %d: %s", side, error)
        return False
    return tuple(answer.shape) == (1, 1, side, side)
