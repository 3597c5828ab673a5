"""From a float32 graph to one in integers that its judge accepts, with as few layers as possible left in float."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from sennet_export.errors import GateError
from sennet_export.half.graph import prepared
from sennet_export.int8.effects import ordered_by_effect
from sennet_export.int8.layout import CPU, Layout, weighted_layers
from sennet_export.int8.quantise import quantised_model
from sennet_export.int8.ranges import tensor_ranges
from sennet_export.search import smallest_passing
from sennet_export.trial import Judge, Trial, refusal

MOST_TRIALS = 24
# Runs to order the layers by, each of EFFECT_TILES tiles; they are made only where the gate refused two graphs.
MOST_EFFECT_RUNS = 64
EFFECT_TILES = 2


@dataclass(frozen=True)
class Int8:
    """A graph in integers that its judge accepted.

    Attributes:
        model: uint8 in and out.
        kept: the reason by name of every layer with weights that stays in float.
        quantised_layers: how many layers with weights are in integers.
        trials: all that was judged, in order; the model's own is among them.
    """

    model: onnx.ModelProto
    kept: dict[str, str]
    quantised_layers: int
    trials: tuple[Trial, ...]


def int8_from_onnx(
    model: onnx.ModelProto, *, tiles: npt.NDArray[np.uint8], judge: Judge, layout: Layout = CPU,
    most_trials: int = MOST_TRIALS, on_step: Callable[[str], None] = lambda _step: None,
) -> Int8:  # fmt: skip
    """Quantise `model` and keep more of it in float until `judge` accepts it.

    First all layers are in integers, then all but the first and the last. Where both are refused, the layers are
    ordered by what they alone do to the answers, and by bisection as few of them as possible are kept in float.
    Scales come from the smallest and the largest value of each tensor, which did better than percentiles (99.99 % and
    99.9 %) and averages of the tiles' extremes on the trained built-in model.

    Args:
        model: float32, uint8 in and out. It is not changed.
        tiles: uint8 [n, 1, S, S], on which ranges and effects are measured.
        judge: says what is wrong with a graph, None where nothing is.
        layout: for whom the graph is.
        most_trials: graphs that are judged at most.

    Raises:
        ModelError: values that are not finite, or a graph whose types cannot be inferred.
        GateError: nothing in integers was accepted, or the graph has no layer with weights.
    """
    search = _Search(layout.adapted(prepared(model)), tiles, judge, layout, on_step)
    if not search.layers:
        raise GateError("the graph has no layer with weights, so nothing can be computed in integers; leave out --int8")
    kept: dict[str, str] = {}
    fault = search.fault_of(kept)
    if fault is not None and len(search.layers) > 2 and most_trials > 1:
        kept = dict.fromkeys((search.layers[0], search.layers[-1]), f"first or last layer; all in int8: {fault}")
        fault = search.fault_of(kept)
    if fault is not None:
        found = search.fewest_in_float(most_trials=most_trials - len(search.trials))
        if found is None:
            raise GateError(refusal("int8", search.trials))
        in_order = [layer for layer in search.layers if layer in found]  # a set's changes from run to run
        kept = dict.fromkeys(in_order, f"refused in int8: {fault}")
    return Int8(search.made(kept), kept, len(search.layers) - len(kept), tuple(search.trials))


class _Search:
    """One graph, its ranges, and what has been judged of it so far."""

    def __init__(
        self, graph: onnx.ModelProto, tiles: npt.NDArray[np.uint8], judge: Judge, layout: Layout,
        on_step: Callable[[str], None],
    ) -> None:  # fmt: skip
        on_step("measuring the range of every tensor")
        self._graph, self._tiles, self._judge, self._layout, self._on_step = graph, tiles, judge, layout, on_step
        self._ranges = tensor_ranges(graph, tiles)
        self._best: tuple[frozenset[str], onnx.ModelProto] | None = None
        self.layers = weighted_layers(graph)
        self.trials: list[Trial] = []

    def fault_of(self, kept: Iterable[str]) -> str | None:
        names = frozenset(kept)
        self._on_step(f"int8, trial {len(self.trials) + 1}: {len(names)} of {len(self.layers)} layers in float")
        model = self._quantised(names)
        fault = self._judge(model)
        self.trials.append(Trial(tuple(name for name in self.layers if name in names), fault))
        if fault is None:
            self._best = names, model
        return fault

    def made(self, kept: Mapping[str, str]) -> onnx.ModelProto:
        """The graph with `kept` in float: the one that was judged, where it was the last to pass."""
        if self._best is not None and self._best[0] == kept.keys():
            return self._best[1]
        return self._quantised(kept)

    def fewest_in_float(self, *, most_trials: int) -> frozenset[str] | None:
        """A small set of layers that passes in float; None where only the float graph does."""
        if most_trials < 1:
            return None
        order, everything = self._most_suspicious_first(), frozenset(self.layers)

        def passes(kept: frozenset[str]) -> bool:
            # Without a layer in integers it is the float graph, which is what the judge compares with.
            return kept == everything or self.fault_of(kept) is None

        found = smallest_passing(order, passes, most_trials=1 + most_trials)
        return None if found == everything else found

    def _most_suspicious_first(self) -> list[str]:
        tiles = self._tiles[:: max(1, len(self._tiles) // EFFECT_TILES)][:EFFECT_TILES]
        expected = _answers(self._graph, tiles)
        everything = frozenset(self.layers)

        def effect(layers: Sequence[str]) -> float:
            self._on_step(f"int8: the effect of {len(layers)} of {len(self.layers)} layers")
            moved = _answers(self._quantised(everything.difference(layers)), tiles) - expected
            return float(np.mean(moved**2))

        return ordered_by_effect(self.layers, effect, most_runs=MOST_EFFECT_RUNS)

    def _quantised(self, kept: Iterable[str]) -> onnx.ModelProto:
        return quantised_model(self._graph, self._ranges, layout=self._layout, kept=frozenset(kept))


def _answers(model: onnx.ModelProto, tiles: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Grey levels [n, 1, S, S] on onnxruntime, integers emulated in float: its kernels do not take every layout."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    entry = model.graph.input[0].name
    return np.concatenate([session.run(None, {entry: tile[None]})[0] for tile in tiles]).astype(np.float32)
