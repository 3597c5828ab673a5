"""ONNX from a trained segmenter: uint8 tiles in, uint8 probabilities out, everything between in the graph."""

import logging
import re
import traceback
import warnings
from collections.abc import Iterator, Sequence

import onnx
import onnx_ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from torch import nn

from sennet_engine.errors import ConfigError, ModelError
from sennet_export.batch_norm import fold_batch_norms
from sennet_export.plain_attention import plain_attention
from sennet_export.resize_scale import scale_resizes
from sennet_export.source_lines import innermost_line, stripped
from sennet_trainer.network import Segmenter

logger = logging.getLogger(__name__)

OPSET = 18  # the first with Resize as torch writes it; 17 or later keeps LayerNormalization one operator
CANDIDATE_SIDES = (128, 192, 256, 320, 384, 448, 512, 640, 768, 832, 1024)

# What the exporter says of the node and the operator that it fails at.
FAILED_NODE = re.compile(r"when translating node %(\w+)")
FAILED_OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)'")


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


def accepted_sides(segmenter: Segmenter, *, trained_side: int, asked: Sequence[int] = ()) -> list[int]:
    """The tile sides among CANDIDATE_SIDES, `asked` and `trained_side` that the network takes, ascending.

    A side is tried by running the network on one tile without computing it (meta tensors). A network that does not take
    a stride more than its training side is built for that side (MaxViT): its windows fit into multiples of it too, but
    they would then lie elsewhere than in training, so it takes that side alone.

    Raises:
        ConfigError: one of `asked` is not taken; names those that are.
    """
    stride = segmenter.stride
    wanted = sorted({side for side in (*CANDIDATE_SIDES, *asked, trained_side) if side > 0 and side % stride == 0})
    sides = [trained_side]
    if _accepts(segmenter, trained_side + stride):
        sides = [side for side in wanted if side == trained_side or _accepts(segmenter, side)]
    if refused := [side for side in asked if side not in sides]:
        usual = [side for side in sides if side in (*CANDIDATE_SIDES, trained_side)]
        taken = f"{trained_side} only" if len(sides) == 1 else f"multiples of {stride}, such as {_listed(usual)}"
        raise ConfigError(f"--tile {_listed(refused)}: this network takes tiles of {taken}")
    return sides


def onnx_from_segmenter(segmenter: Segmenter, *, sides: Sequence[int]) -> onnx.ModelProto:
    """A graph: input `tiles` uint8 [batch, 1, H, W], output `probabilities` uint8 [batch, 1, H, W].

    The batch is free. H and W are free multiples of the stride where `sides` has several, else they are that side.
    Every node says which source line it is from (`source_lines`). `segmenter` is in evaluation mode and stays as it is;
    the graph has a copy of its weights.

    Raises:
        ModelError: the network cannot be written as ONNX; names the operator, the node and the source line.
    """
    with warnings.catch_warnings(), plain_attention(segmenter), torch.no_grad():
        # The exporter warns about its own internals; what counts is checked by the gate.
        warnings.simplefilter("ignore")
        graph = _translated(_traced(segmenter, sides))
    fold_batch_norms(graph)
    scale_resizes(graph)
    RemoveUnusedNodesPass()(graph)
    return stripped(onnx_ir.to_proto(graph))


def _traced(segmenter: Segmenter, sides: Sequence[int]) -> torch.export.ExportedProgram:
    stride = segmenter.stride
    shapes: dict[int, object] = {0: torch.export.Dim("batch", min=1, max=4096)}
    height, width = sides[0], sides[0]
    if len(sides) > 1:
        height, width = sides[-2], sides[-1]  # two numbers, so that the exporter does not take them for one
        largest = 65536 // stride
        shapes |= {axis + 2: stride * torch.export.Dim(name, min=1, max=largest) for axis, name in enumerate("hw")}
    example = torch.zeros((2, 1, height, width), dtype=torch.uint8)
    try:
        return torch.export.export(Uint8Ends(segmenter).eval(), (example,), dynamic_shapes=(shapes,), strict=False)
    except (RuntimeError, ValueError, AssertionError) as error:
        line = innermost_line("".join(traceback.format_tb(error.__traceback__)))
        raise ModelError(f"the network cannot be traced for ONNX, at {line}: {_first_line(error)}") from error


def _translated(program: torch.export.ExportedProgram) -> onnx_ir.Model:
    try:
        exported = torch.onnx.export(
            program, (), dynamo=True, opset_version=OPSET, verbose=False,
            input_names=["tiles"], output_names=["probabilities"],
        )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        raise ModelError(_untranslated(error, program)) from error
    assert exported is not None
    return exported.model


def _untranslated(error: BaseException, program: torch.export.ExportedProgram) -> str:
    causes = list(_causes(error))
    text = "\n".join(map(str, causes))
    node, operator = FAILED_NODE.search(text), FAILED_OPERATOR.search(text)
    what = f"the operator {operator[1]} has no translation" if operator else _first_line(causes[-1])
    if node is None:
        return f"the network cannot be written as ONNX: {what}"
    line = _source_line(program, node[1], operator[1] if operator else None)
    return (
        f"the network cannot be written as ONNX: {what}; node {node[1]}, from {line or 'an unknown source line'}. "
        f"Give the network another operator there"
    )


def _source_line(program: torch.export.ExportedProgram, name: str, operator: str | None) -> str | None:
    """That of the node `name`; else of the first that holds `operator`: composite operators are taken apart later."""
    nodes = [node for node in program.graph.nodes if "stack_trace" in node.meta]
    found = [node for node in nodes if node.name == name]
    if operator is not None:
        found += [node for node in nodes if operator.rpartition(".")[2] in str(node.target)]
    return innermost_line(found[0].meta["stack_trace"]) if found else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _listed(sides: Sequence[int]) -> str:
    return ", ".join(map(str, sides))


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
