"""What keeps float32, and where the seams run."""

import itertools

import numpy as np
import pytest

from sennet_export.half.cast import cast_count, half_model
from sennet_export.half.graph import FLOAT, HALF, half_ports, prepared, tensor_types
from sennet_export.half.ranges import Activations, measured_activations
from sennet_export.half.seams import CAST_BYTES, with_fewer_casts
from sennet_export.half.sensitive import PRODUCTS, sensitive_nodes

SAME = "<pads = [1, 1, 1, 1]>"


def test_sensitive_nodes_are_named_with_their_reason(network, weight, tiles):
    """By place, by operator, by measured range, by weight and by constant; what half bears is not among them."""
    lines = f"""a = Conv {SAME} (x, w0)
        b = Softmax <axis = 1> (a)
        c = Mul (b, large)
        d = Mul (c, small)
        e = Add (d, tiny)
        f = Mul (e, huge)
        g = Mul (f, inverse)
        h = Relu (g)
        gate = Sigmoid (h)
        logits = Conv {SAME} (gate, w1)"""
    weights = {
        "w0": weight(8, 1, 3, 3), "w1": weight(1, 8, 3, 3), "large": 3e4, "small": 1e-4, "tiny": 1e-12,
        "huge": 1e5, "inverse": 1e-5,
    }  # fmt: skip
    model = prepared(network(lines, weights))
    reasons = sensitive_nodes(model, measured_activations(model, tiles))
    ahead, after = (f"{where} convolution or matrix product" for where in ("ahead of the first", "after the last"))
    assert reasons.pop("Softmax b") == "Softmax does not bear half"
    assert "above 65504 / 4" in reasons.pop("Mul c")
    assert "above 65504 / 4" in reasons.pop("Mul d")
    assert reasons.pop("Add e") == "its constant 1e-12 is zero in half"
    assert "above 65504 / 4" in reasons.pop("Mul f")
    assert "above 65504 / 4" in reasons.pop("Mul g")
    assert [name for name, reason in reasons.items() if reason == ahead] == ["Cast grey", "Mul x"]
    assert [name for name, reason in reasons.items() if reason == after] == [
        "Sigmoid shares", "Mul levels", "Round whole", "Clip clipped", "Cast probabilities",
    ]  # fmt: skip
    assert len(reasons) == 7


def test_a_weight_beyond_half_keeps_its_node_in_float(network, weight, tiles):
    """Whatever the activations are."""
    weights = {"w0": weight(8, 1, 3, 3) * 1e-6, "w1": weight(8, 8, 3, 3) * 1e6, "w2": weight(1, 8, 3, 3)}
    lines = f"a = Conv {SAME} (x, w0) b = Conv {SAME} (a, w1) logits = Conv {SAME} (b, w2)"
    model = prepared(network(lines, weights))
    reasons = sensitive_nodes(model, measured_activations(model, tiles))
    assert "its weight 'w1' reaches" in reasons["Conv b"]
    assert reasons.keys() & {"Conv a", "Conv logits"} == set()
    assert tensor_types(half_model(model, fp32=reasons))["b"] == FLOAT


def test_a_norm_written_out_is_one_island(network, weight, tiles):
    """Between mean, power and mean again, the cheap nodes compute in float32 too: two casts instead of four."""
    lines = f"""a = Conv {SAME} (x, w0)
        mean = ReduceMean (a, channels)
        centred = Sub (a, mean)
        squared = Pow (centred, two)
        variance = ReduceMean (squared, channels)
        safe = Add (variance, epsilon)
        deviation = Sqrt (safe)
        normed = Div (centred, deviation)
        logits = Conv {SAME} (normed, w1)"""
    weights = {
        "w0": weight(8, 1, 3, 3), "w1": weight(1, 8, 3, 3), "two": 2.0, "epsilon": 1e-5,
        "channels": np.array([1], np.int64),
    }  # fmt: skip
    model = prepared(network(lines, weights))
    activations = measured_activations(model, tiles)
    sensitive = sensitive_nodes(model, activations)
    kept = with_fewer_casts(model, sensitive, activations)
    assert kept.items() >= sensitive.items()
    assert kept.keys() - sensitive.keys() == {"Sub centred", "Add safe", "Sqrt deviation", "Div normed"}
    ends = 2
    assert cast_count(half_model(model, fp32=kept)) == ends + 2
    assert cast_count(half_model(model, fp32=sensitive)) == ends + 4


@pytest.mark.parametrize("seed", range(12))
def test_no_choice_moves_fewer_bytes(network, seed):
    """On random graphs the cut is as cheap as the best of all choices, priced on the graph that the cast writes."""
    draw = np.random.default_rng(seed)
    names, lines, elements = ["x"], [], {}
    for number in range(11):
        operator = draw.choice(["Exp", "MatMul", "Add", "Add", "Mul", "Neg"])
        count = 2 if operator in ("Add", "Mul") else 1
        reads = [str(name) for name in draw.choice(names[-4:], count)] + (["square"] if operator == "MatMul" else [])
        names.append(f"t{number}")
        lines.append(f"{names[-1]} = {operator} ({', '.join(reads)})")
        elements[names[-1]] = int(draw.integers(1, 50))
    model = network(
        " ".join(lines), {"square": np.eye(4)}, ends=False, inputs="float[4, 4] x", outputs=f"float[4, 4] {names[-1]}"
    )
    fixed = {node.name: "fixed" for node in model.graph.node if node.op_type == "Exp"}
    activations = Activations(dict.fromkeys(elements, 1.0), elements)
    free = [node.name for node in model.graph.node if node.op_type not in (*PRODUCTS, "Exp")]
    choices = itertools.chain.from_iterable(itertools.combinations(free, size) for size in range(len(free) + 1))
    best = min(price(model, {*fixed, *choice}, elements) for choice in choices)
    assert price(model, with_fewer_casts(model, fixed, activations), elements) == best


def price(model, fp32, elements):
    """Bytes of the casts in the graph that is written."""
    half = half_model(model, fp32=fp32)
    casts = [node.input[0].removesuffix("_half") for node in half.graph.node if node.op_type == "Cast"]
    return CAST_BYTES * sum(elements.get(name, 0) for name in casts)


def test_casting_names_what_the_standard_lets_be_half(network):
    """The scales of a Resize and integers stay as they are; the data become half."""
    lines = """size = Shape (x) y = Resize (x, , scales)"""
    model = network(lines, {"scales": np.ones(2)}, ends=False, inputs="float[n, m] x",
                    outputs="float[a, b] y, int64[r] size")  # fmt: skip
    ports = half_ports(model, tensor_types(model))["Resize y"]
    assert (ports.inputs, ports.outputs) == ({0}, {0})
    assert tensor_types(half_model(model, fp32=[]))["y_half"] == HALF
