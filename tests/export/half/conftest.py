"""Small networks written as text, and what they answer."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from sennet_export.half.emulation import emulated


@pytest.fixture(scope="session")
def network():
    """A checked model from the lines between its uint8 ends and from its weights by name; nodes are named in order."""

    def build(
        lines, weights, *, ends=True, outputs="uint8[b, 1, h, w] probabilities", inputs="uint8[b, 1, h, w] tiles"
    ):
        if ends:
            lines = f"""grey = Cast <to = 1> (tiles)
                x = Mul (grey, one_of_255)
                {lines}
                shares = Sigmoid (logits)
                levels = Mul (shares, levels_of_one)
                whole = Round (levels)
                clipped = Clip (whole, zero, levels_of_one)
                probabilities = Cast <to = 2> (clipped)"""
            weights = weights | {"one_of_255": 1 / 255, "levels_of_one": 255.0, "zero": 0.0}
        text = f'<ir_version: 9, opset_import: ["" : 18]> test ({inputs}) => ({outputs}) {{ {lines} }}'
        model = onnx.parser.parse_model(text)
        for node in model.graph.node:
            node.name = f"{node.op_type} {node.output[0]}"
        for name, value in weights.items():
            value = np.asarray(value)
            value = value.astype(np.float32) if value.dtype == np.float64 else value
            model.graph.initializer.append(numpy_helper.from_array(value, name))
        onnx.checker.check_model(model, full_check=True)
        return model

    return build


@pytest.fixture(scope="session")
def answers():
    """What a model answers: its outputs by onnxruntime, exactly as it is written."""

    def run(model, **inputs):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, inputs)

    return run


@pytest.fixture(scope="session")
def judge_on(answers):
    """A judge that accepts a graph in half whose answers to `tiles`, as a GPU gives them, are within two levels."""

    def judging(model, tiles):
        expected = answers(model, tiles=tiles)[0].astype(int)

        def judge(half):
            found = answers(emulated(half), tiles=tiles)[0].astype(int)
            largest = int(np.abs(found - expected).max())
            return None if largest <= 2 else f"differs by {largest} grey levels"

        return judge

    return judging


@pytest.fixture(scope="session")
def tiles():
    """Tiles of smooth noise, uint8 [3, 1, 32, 32], from black to white."""
    draw = np.random.default_rng(2).normal(size=(3, 1, 36, 36))
    smooth = sum(draw[..., y : y + 32, x : x + 32] for y in range(5) for x in range(5))
    return np.clip(128 + smooth * 16, 0, 255).astype(np.uint8)


@pytest.fixture
def weight():
    """Random weights of a convolution [out, in, k, k] that keep the scale of what they read."""
    draw = np.random.default_rng(3)

    def make(*shape):
        return draw.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)

    return make
