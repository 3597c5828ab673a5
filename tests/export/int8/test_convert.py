"""Which layers stay in float: the fewest that the judge asks for."""

import numpy as np
import onnx
import pytest

from sennet_export.gate import GateError
from sennet_export.int8.convert import int8_from_onnx
from sennet_export.int8.effects import ordered_by_effect

from .conftest import accepted, network, on_onnxruntime


def test_first_and_last_layer_are_tried_in_float_before_others(grey_tiles):
    """A judge that wants them in float gets them, after one refusal, with its words as the reason."""

    def judge(model):
        readers = {node.name: node.input[0] for node in model.graph.node}
        return None if readers["first"] == "x0" else "the first layer is in integers"

    made = int8_from_onnx(network(), tiles=grey_tiles, judge=judge)
    assert set(made.kept) == {"first", "last"}
    assert "the first layer is in integers" in made.kept["first"]
    assert made.quantised_layers == 2
    assert [(trial.kept, trial.fault is None) for trial in made.trials] == [((), False), (("first", "last"), True)]


def test_the_layers_at_fault_are_found_and_kept_in_float(grey_tiles):
    """One layer writes a channel a thousand times the others: it and its reader stay in float, the others do not."""
    model = network(offset=3000.0)
    expected = on_onnxruntime(model, grey_tiles).astype(int)
    assert np.ptp(expected) > 100

    def judge(candidate):
        mean = np.abs(on_onnxruntime(candidate, grey_tiles) - expected).mean()
        return None if mean < 3 else f"moves by {mean:.1f} grey levels"

    made = int8_from_onnx(model, tiles=grey_tiles, judge=judge)
    assert judge(made.model) is None
    assert set(made.kept) == {"third", "last"}
    assert made.trials[0].kept == ()
    assert "moves by" in made.trials[0].fault
    assert "refused in int8" in made.kept["third"]


def test_what_never_passes_is_refused_with_all_that_was_tried(grey_tiles):
    """Exit code 1, and each trial with what was in float and what was wrong."""
    with pytest.raises(GateError, match=r"no graph passed, 3 were tried(?s:.*)first, last in float: too bad") as caught:
        int8_from_onnx(network(), tiles=grey_tiles, judge=lambda _model: "too bad", most_trials=3)
    assert caught.value.exit_code == 1


def test_a_graph_without_layers_cannot_be_int8(identity_bundle, grey_tiles):
    """Nothing multiplies by weights, so nothing would be in integers."""
    model = onnx.load(identity_bundle / "model.onnx")
    with pytest.raises(GateError, match="no layer with weights"):
        int8_from_onnx(model, tiles=grey_tiles, judge=accepted)


def test_layers_are_ordered_by_effect_in_few_measurements():
    """The two that matter among 64 come first, from far fewer measurements than layers."""
    layers = [f"layer {i}" for i in range(64)]
    weight = dict.fromkeys(layers, 0.01) | {"layer 13": 5.0, "layer 50": 3.0}
    asked = []

    def effect(group):
        asked.append(group)
        return sum(weight[name] for name in group)

    ordered = ordered_by_effect(layers, effect, most_runs=32)
    assert ordered[:2] == ["layer 13", "layer 50"]
    assert sorted(ordered) == sorted(layers)
    assert len(asked) <= 32
