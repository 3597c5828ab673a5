"""What a graph answers to tiles, on the runtimes that a CPU has: probabilities, and the logits before them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as state

from sennet_engine.errors import ModelError
from sennet_engine.openvino_predictor import openvino_core
from sennet_export.graph import Uint8Ends
from sennet_export.half.emulation import emulated
from sennet_trainer.network import Segmenter

# onnxruntime's errors have no base of their own, and OpenVINO's are RuntimeErrors.
ERRORS: tuple[type[Exception], ...] = (
    RuntimeError, state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented,
    state.RuntimeException,
)  # fmt: skip

Tiles = npt.NDArray[np.uint8]
Runtime = Literal["onnxruntime", "half emulated", "integers emulated", "openvino"]


class TileAnswer(NamedTuple):
    """What a graph says of one tile [1, 1, S, S].

    Attributes:
        probabilities: uint8 [1, 1, S, S].
        logits: float32 [1, 1, S, S]; None where the graph has no sigmoid.
        overflowed: whether the graph itself says so; False where it does not watch.
    """

    probabilities: Tiles
    logits: npt.NDArray[np.float32] | None
    overflowed: bool = False


AnswerTile = Callable[[Tiles], TileAnswer]


@dataclass(frozen=True)
class Answers:
    """What was answered to the tiles of one side.

    Attributes:
        probabilities: uint8 [n, 1, S, S].
        logits: float32 [n, 1, S, S]; None where the graph has no sigmoid.
        overflowed: of how many tiles the graph itself says so.
    """

    probabilities: Tiles
    logits: npt.NDArray[np.float32] | None
    overflowed: int = 0


def cpu_runtimes(targets: Collection[str]) -> tuple[Runtime, ...]:
    """What graphs are proven on: onnxruntime always, OpenVINO where it is among the targets."""
    return ("onnxruntime", "openvino") if "openvino" in targets else ("onnxruntime",)


def answers_of_graph(model: onnx.ModelProto, tiles: Mapping[int, Tiles], *, runtime: Runtime) -> dict[int, Answers]:
    """Answers by tile side. Raises ModelError where the runtime cannot compute the graph."""
    try:
        return _all_answers(RUNTIMES[runtime](model), tiles)
    except ERRORS as error:
        raise ModelError(f"{runtime} cannot compute the graph: {error}") from error


def answers_of_segmenter(segmenter: Segmenter, tiles: Mapping[int, Tiles]) -> dict[int, Answers]:
    """Answers of the network in torch, float32, on the CPU, by tile side."""
    network = Uint8Ends(segmenter).eval()
    logits: list[torch.Tensor] = []

    def answer(tile: Tiles) -> TileAnswer:
        probabilities = network(torch.from_numpy(tile)).numpy()
        return TileAnswer(probabilities, logits.pop().numpy())

    keeper = segmenter.register_forward_hook(lambda _module, _inputs, output: logits.append(output))
    try:
        with torch.inference_mode():
            return _all_answers(answer, tiles)
    finally:
        keeper.remove()


def _all_answers(answer: AnswerTile, tiles: Mapping[int, Tiles]) -> dict[int, Answers]:
    found = {}
    for side, stack in tiles.items():
        answers = [answer(tile[None]) for tile in stack]
        logits = [one.logits for one in answers if one.logits is not None]
        found[side] = Answers(
            np.concatenate([one.probabilities for one in answers]),
            np.concatenate(logits) if logits else None,
            overflowed=sum(one.overflowed for one in answers),
        )
    return found


def _onnxruntime(model: onnx.ModelProto) -> AnswerTile:
    return _session(_with_logits(model), onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)


def _integers_emulated(model: onnx.ModelProto) -> AnswerTile:
    # Optimised, onnxruntime looks for its own integer kernels, which take other graphs than TensorRT.
    return _session(_with_logits(model), onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)


def _half_emulated(model: onnx.ModelProto) -> AnswerTile:
    # Optimisation may take out pairs of casts, and they are what rounds to half.
    return _session(_with_logits(emulated(model)), onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)


def _session(content: bytes, optimisation: onnxruntime.GraphOptimizationLevel) -> AnswerTile:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = optimisation
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda tile: _tile_answer(session.run(None, {name: tile}))


def _openvino(model: onnx.ModelProto) -> AnswerTile:
    settings = {"NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}  # as the engine runs it
    core = openvino_core()
    request = core.compile_model(core.read_model(_with_logits(model), b""), "CPU", settings).create_infer_request()
    return lambda tile: _tile_answer([output.copy() for output in request.infer({0: tile}).values()])


RUNTIMES: dict[Runtime, Callable[[onnx.ModelProto], AnswerTile]] = {
    "onnxruntime": _onnxruntime,
    "half emulated": _half_emulated,
    "integers emulated": _integers_emulated,
    "openvino": _openvino,
}


def _tile_answer(outputs: list[npt.NDArray[np.generic]]) -> TileAnswer:
    """From probabilities, then what the graph says of overflow [1] where it does, then logits where it has any."""
    probabilities, *further = outputs
    return TileAnswer(
        probabilities.astype(np.uint8, copy=False),
        logits=next((one.astype(np.float32) for one in further if one.ndim > 1), None),
        overflowed=any(bool(one.any()) for one in further if one.ndim == 1),
    )


def _with_logits(model: onnx.ModelProto) -> bytes:
    """The graph with what its last sigmoid reads as a further output; `model` is as before in the end."""
    outputs = len(model.graph.output)
    sigmoids = [node for node in model.graph.node if node.op_type == "Sigmoid"]
    model.graph.output.extend(onnx.ValueInfoProto(name=sigmoid.input[0]) for sigmoid in sigmoids[-1:])
    try:
        content: bytes = model.SerializeToString()
        return content
    finally:
        del model.graph.output[outputs:]
