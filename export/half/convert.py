"""From a float32 graph to one in half that its judge accepts, with as little as possible left in float32."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from sennet_export.errors import GateError
from sennet_export.half.cast import cast_count, half_model
from sennet_export.half.emulation import emulated
from sennet_export.half.graph import half_ports, prepared, tensor_types
from sennet_export.half.overflow import with_overflow_output
from sennet_export.half.ranges import measured_activations
from sennet_export.half.seams import with_fewer_casts
from sennet_export.half.sensitive import sensitive_nodes
from sennet_export.search import smallest_passing
from sennet_export.trial import Judge, Trial, refusal

MOST_TRIALS = 40
# Mending one overflow may let the next be seen.
MOST_OVERFLOW_ROUNDS = 8


@dataclass(frozen=True)
class Half:
    """A graph in half that its judge accepted.

    Attributes:
        model: uint8 in and out, with the output `overflowed` (see `with_overflow_output`).
        kept: the reason by name of every node that computes in float32 though it could compute in half.
        at_fault: the nodes among them that were not known to be sensitive: the judge had refused the graph.
        largest: the tensor of the float32 graph with the largest value on the tiles, and that value.
        casts: Cast nodes between half and float32.
        trials: all that was judged, in order; the model's own is among them.
    """

    model: onnx.ModelProto
    kept: dict[str, str]
    at_fault: tuple[str, ...]
    largest: tuple[str, float]
    casts: int
    trials: tuple[Trial, ...]


def half_from_onnx(
    model: onnx.ModelProto, *, tiles: npt.NDArray[np.uint8], judge: Judge, most_trials: int = MOST_TRIALS,
    on_step: Callable[[str], None] = lambda _step: None,
) -> Half:  # fmt: skip
    """Cast `model` to half, and keep more of it in float32 until `judge` accepts it.

    First the nodes that are known to be sensitive keep float32. Where that is refused, those at which a value leaves
    half's range on `tiles`, with half emulated, are added; then, by bisection, as few of all others as possible, those
    with the largest values first.

    Args:
        model: float32, uint8 in and out. It is not changed.
        tiles: uint8 [n, 1, S, S], on which activations are measured.
        judge: says what is wrong with a graph in half, which has both outputs; None where nothing is. Since a CPU
            computes half in float32, it ought to run `emulated` of it.
        most_trials: graphs that are judged at most, 2 or more.

    Raises:
        ModelError: the graph cannot be cast.
        GateError: nothing was accepted; the trials are listed.
    """
    search = _Search(prepared(model), tiles, judge, on_step)
    fault, more = search.fault_of({}), dict[str, str]()
    if fault is not None and (overflowing := search.overflowing()):
        more = overflowing
        fault = search.fault_of(more)
    if fault is not None:
        reason = f"refused in half: {fault}"
        left = most_trials - len(search.trials)
        found = left > 0 and smallest_passing(
            search.suspects(more),
            lambda kept: search.fault_of(more | dict.fromkeys(kept, reason)) is None,
            most_trials=left,
        )
        if not found:
            raise GateError(refusal("fp16", search.trials))
        more |= dict.fromkeys(found, reason)
    return search.result(more)


class _Search:
    """One graph, its measured values, and what has been judged of it so far."""

    def __init__(
        self, graph: onnx.ModelProto, tiles: npt.NDArray[np.uint8], judge: Judge, on_step: Callable[[str], None]
    ) -> None:
        on_step("measuring the range of every tensor")
        self._graph, self._tiles, self._judge, self._on_step = graph, tiles, judge, on_step
        self._activations = measured_activations(graph, tiles)
        self._sensitive = sensitive_nodes(graph, self._activations)
        self._castable = half_ports(graph, tensor_types(graph)).keys()
        self.trials: list[Trial] = []

    def fault_of(self, more: Mapping[str, str]) -> str | None:
        """Judge the graph that keeps `more` in float32 beside what is sensitive."""
        self._on_step(f"fp16, trial {len(self.trials) + 1}: {len(more)} more operators in float32")
        fault = self._judge(with_overflow_output(self._cast(more)))
        self.trials.append(Trial(self._in_order(more), fault))
        return fault

    def overflowing(self) -> dict[str, str]:
        """The nodes at which a value leaves half's range on the tiles, and those that read it."""
        more: dict[str, str] = {}
        for _round in range(MOST_OVERFLOW_ROUNDS):
            self._on_step("looking for values beyond half")
            half = self._cast(more)
            found = measured_activations(emulated(half), self._tiles).maxima
            lost = {name for name, largest in found.items() if not np.isfinite(largest)}
            lost -= {name for name, largest in self._activations.maxima.items() if not np.isfinite(largest)}
            # What is lost already where it is read says nothing of the node that reads it.
            first = {
                name for node in half.graph.node if not lost.intersection(node.input)
                for name in node.output if name in lost
            }  # fmt: skip
            at_fault = self._around(first, half) - more.keys()
            if not at_fault:
                break
            more |= dict.fromkeys(at_fault, "leaves the range of half on the tiles")
        return more

    def suspects(self, more: Mapping[str, str]) -> list[str]:
        """All nodes that compute in half, those that read or write the largest values first."""
        kept, maxima = self._kept(more), self._activations.maxima
        largest = {
            node.name: max((maxima.get(name, 0.0) for name in (*node.input, *node.output)), default=0.0)
            for node in self._graph.graph.node
            if node.name in self._castable - kept.keys()
        }
        return sorted(largest, key=lambda name: -largest[name])

    def result(self, more: Mapping[str, str]) -> Half:
        """The graph that keeps `more`, which was accepted."""
        model, kept = self._cast(more), self._kept(more)
        return Half(
            model=with_overflow_output(model),
            kept=kept,
            at_fault=self._in_order(more),
            largest=self._activations.largest,
            casts=cast_count(model),
            trials=tuple(self.trials),
        )

    def _in_order(self, names: Collection[str]) -> tuple[str, ...]:
        """In the order of the graph: that of a set changes from run to run."""
        return tuple(node.name for node in self._graph.graph.node if node.name in names)

    def _kept(self, more: Mapping[str, str]) -> dict[str, str]:
        return with_fewer_casts(self._graph, {**more, **self._sensitive}, self._activations)

    def _cast(self, more: Mapping[str, str]) -> onnx.ModelProto:
        return half_model(self._graph, fp32=self._kept(more))

    def _around(self, tensors: set[str], half: onnx.ModelProto) -> set[str]:
        """The nodes of the float32 graph that write or read one of `tensors`, which may be a Cast's in `half`."""
        around = {node.name for node in half.graph.node if tensors.intersection([*node.input, *node.output])}
        return around & self._castable
