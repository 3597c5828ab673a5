"""From float32 to half, with the gate's refusals mended down to the nodes at fault."""

import numpy as np
import onnx
import pytest

from sennet_export.errors import GateError
from sennet_export.half.convert import half_from_onnx
from sennet_export.half.graph import HALF, tensor_types

SAME = "<pads = [1, 1, 1, 1]>"

ENDS = {
    "Cast grey", "Mul x", "Sigmoid shares", "Mul levels", "Round whole", "Clip clipped", "Cast probabilities",
}  # fmt: skip


@pytest.fixture
def plain(network, weight):
    """Two convolutions and an attention-like middle that half bears."""
    lines = f"""a = Conv {SAME} (x, w0)
        b = Relu (a)
        c = Conv {SAME} (b, w1)
        gate = Sigmoid (c)
        d = Mul (c, gate)
        logits = Conv {SAME} (d, w2)"""
    return network(lines, {"w0": weight(8, 1, 3, 3), "w1": weight(8, 8, 3, 3), "w2": weight(1, 8, 3, 3)})


@pytest.fixture
def overflowing(network, weight):
    """A network that reaches 1e5 on white tiles and scales back: beyond half, harmless in float32."""
    lines = f"""a = Conv {SAME} (x, w0)
        b = Relu (a)
        c = Conv {SAME} (b, w1)
        huge = Conv (c, up)
        kept = Relu (huge)
        d = Conv (kept, down)
        e = Conv {SAME} (d, w2)
        f = Relu (e)
        logits = Conv {SAME} (f, w3)"""
    eye = np.eye(8, dtype=np.float32)[..., None, None]
    return network(
        lines,
        {
            "w0": np.abs(weight(8, 1, 3, 3)), "w1": weight(8, 8, 3, 3), "w2": weight(8, 8, 3, 3),
            "w3": weight(1, 8, 3, 3), "up": eye * 4e4, "down": eye / 4e4,
        },
    )  # fmt: skip


def test_a_network_that_half_bears_passes_at_the_first_trial(plain, judge_on, tiles):
    """Only door and end stay in float32; the rest is in half, with two casts."""
    half = half_from_onnx(plain, tiles=tiles, judge=judge_on(plain, tiles))
    assert [trial.fault for trial in half.trials] == [None]
    assert half.kept.keys() == ENDS
    assert half.casts == 2
    assert half.at_fault == ()
    assert half.largest[1] == 255
    types = tensor_types(half.model)
    assert {name for name in "abcd" if types[name] == HALF} == set("abcd")
    assert {weight.data_type for weight in half.model.graph.initializer if weight.name in ("w0", "w1", "w2")} == {HALF}


def test_an_overflow_that_the_ranges_show_is_kept_from_half_at_once(overflowing, judge_on, tiles):
    """Ranges measured on white tiles name the nodes, and the first trial passes."""
    half = half_from_onnx(overflowing, tiles=tiles, judge=judge_on(overflowing, tiles))
    assert len(half.trials) == 1
    assert half.largest[1] > 65504
    assert "above 65504" in half.kept["Conv huge"]
    assert {"Conv huge", "Relu kept", "Conv d"} <= set(half.kept)


def test_an_overflow_that_the_ranges_do_not_show_is_caught_and_mended(overflowing, judge_on, tiles):
    """Ranges measured on dark tiles show nothing; the gate sees white ones, refuses, and the retry finds the three
    nodes at fault and no others."""
    dark, judge = tiles // 20, judge_on(overflowing, tiles)
    half = half_from_onnx(overflowing, tiles=dark, judge=judge)
    assert half.largest[1] < 16376
    assert half.trials[0].fault is not None
    assert half.kept.keys() - ENDS == {"Conv huge", "Relu kept", "Conv d"}
    assert half.kept["Conv huge"] == half.kept["Conv d"] == f"refused in half: {half.trials[0].fault}"
    assert judge(half.model) is None
    assert tensor_types(half.model)["e"] == HALF
    onnx.checker.check_model(half.model, full_check=True)


def test_a_loss_of_precision_is_mended_where_it_arises(network, weight, judge_on, tiles):
    """An offset of 12000, taken off again two nodes later, costs three digits: these nodes alone keep float32."""
    lines = f"""a = Conv {SAME} (x, w0)
        b = Relu (a)
        far = Add (b, offset)
        halved = Relu (far)
        back = Sub (halved, offset)
        c = Conv {SAME} (back, w1)
        d = Relu (c)
        logits = Conv {SAME} (d, w2)"""
    weights = {"w0": weight(8, 1, 3, 3), "w1": weight(8, 8, 3, 3), "w2": weight(1, 8, 3, 3), "offset": 12000.0}
    model = network(lines, weights)
    half = half_from_onnx(model, tiles=tiles, judge=judge_on(model, tiles))
    assert half.kept.keys() - ENDS == {"Add far", "Relu halved", "Sub back"}
    assert len(half.trials) > 1


def test_a_value_that_leaves_half_on_the_tiles_is_found_without_a_search(network, weight, judge_on, tiles):
    """Divisors of 1e-8 are zero in half: the emulation shows where inf arises, and one more trial is enough."""
    lines = f"""a = Conv {SAME} (x, w0)
        b = Div (a, divisors)
        logits = Conv {SAME} (b, w1)"""
    weights = {
        "w0": weight(8, 1, 3, 3) * 1e-6, "w1": weight(1, 8, 3, 3) / 100,
        "divisors": np.full((8, 1, 1), 1e-8, np.float32),
    }  # fmt: skip
    model = network(lines, weights)
    half = half_from_onnx(model, tiles=tiles, judge=judge_on(model, tiles))
    assert half.trials[0].kept == ()
    assert "Div b" in half.trials[1].kept
    assert "leaves the range" in half.kept["Div b"]


def test_where_nothing_passes_the_trials_are_listed(plain, tiles):
    """A judge that refuses everything ends the export, with exit code 1 and what was tried."""
    with pytest.raises(GateError, match="not today") as refused:
        half_from_onnx(plain, tiles=tiles, judge=lambda _half: "not today")
    assert refused.value.exit_code == 1
    assert "2 were tried" in str(refused.value)
    assert "\n  nothing more in float: not today\n  Conv a, " in str(refused.value)


def test_no_more_graphs_are_judged_than_allowed(overflowing, judge_on, tiles):
    """With few trials more is kept than need be, and what is returned passes."""
    judge, judged = judge_on(overflowing, tiles), []

    def counting(half):
        judged.append(half)
        return judge(half)

    half = half_from_onnx(overflowing, tiles=tiles // 20, judge=counting, most_trials=4)
    assert len(judged) == len(half.trials) == 4
    assert judge(half.model) is None


def test_a_single_trial_that_is_refused_is_the_last(overflowing, judge_on, tiles):
    """There is nothing to search with, and the refusal says what was tried."""
    with pytest.raises(GateError, match=r"nothing more.*differs by"):
        half_from_onnx(overflowing, tiles=tiles // 20, judge=judge_on(overflowing, tiles), most_trials=1)
