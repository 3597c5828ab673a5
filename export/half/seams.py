"""Where a graph changes between half and float: the seams whose casts move the fewest bytes, by a minimum cut."""

from collections import defaultdict
from collections.abc import Hashable, Mapping

import numpy as np
import onnx
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from sennet_export.half.graph import Ports, half_ports, tensor_types
from sennet_export.half.ranges import Activations
from sennet_export.half.sensitive import PRODUCTS

REASON = "cheaper in float32 than casts around it"
# Of a Cast, for each number of a tensor: it reads the one type and writes the other.
CAST_BYTES = 6
IN_FLOAT, IN_HALF = "float32", "half"
# Capacities are 32 bit: all prices together are scaled to below the first, and the second is never cut.
LARGEST_TOTAL, NEVER_CUT = 2**29, 2**30


def with_fewer_casts(model: onnx.ModelProto, fp32: Mapping[str, str], activations: Activations) -> dict[str, str]:
    """`fp32` (node name to reason) and the cheap nodes that are to join it, so that casts move the fewest bytes.

    A cheap node is one without multiply-adds; it may compute in either type. Every choice has a price: the bytes of the
    casts at its seams. (That tensors within float32 are wider is not priced: runtimes fuse such chains.) The choice of
    the lowest price is a minimum cut between what must be float32 and the products, which must be half. Each tensor has
    two vertices beside those of the nodes, since one Cast in a direction serves all its readers.

    Args:
        model: float32, as `prepared` gives it.
        activations: of `model`; the sizes of its tensors are used.
    """
    ports = half_ports(model, tensor_types(model))
    sides: dict[str, Hashable] = {
        node.name: IN_FLOAT if node.name in fp32 or node.name not in ports
        else IN_HALF if node.op_type in PRODUCTS
        else ("node", node.name)
        for node in model.graph.node
    }  # fmt: skip
    readers: dict[str, set[Hashable]] = defaultdict(set)
    for value in model.graph.output:
        readers[value.name].add(IN_FLOAT)
    for node in model.graph.node:
        own = ports.get(node.name, Ports())
        for i, name in enumerate(node.input):
            readers[name].add(sides[node.name] if i in own.inputs else IN_FLOAT)
    prices = _Prices()
    for node in model.graph.node:
        own = ports.get(node.name, Ports())
        for i, name in enumerate(node.output):
            if name in activations.elements:
                writer = sides[node.name] if i in own.outputs else IN_FLOAT
                prices.add_tensor(name, writer, readers[name], elements=max(1, activations.elements[name]))
    in_float = prices.float_side()
    cheap = [node.name for node in model.graph.node if ("node", node.name) in in_float]
    return dict(fp32) | dict.fromkeys(cheap, REASON)


class _Prices:
    """A directed graph: an edge is paid for where its start is in float32 and its end in half."""

    def __init__(self) -> None:
        self._edges: dict[tuple[Hashable, Hashable], float] = {}

    def add_tensor(self, name: str, writer: Hashable, readers: set[Hashable], *, elements: int) -> None:
        up, down = ("to float32", name), ("to half", name)
        self._edges[up, writer] = CAST_BYTES * elements
        self._edges[writer, down] = CAST_BYTES * elements
        for reader in readers:
            self._edges[reader, up] = np.inf
            self._edges[down, reader] = np.inf

    def float_side(self) -> set[Hashable]:
        """The vertices in float32 where the least is paid; in doubt, in half."""
        vertices = list(dict.fromkeys([IN_FLOAT, IN_HALF, *(vertex for edge in self._edges for vertex in edge)]))
        number = {vertex: i for i, vertex in enumerate(vertices)}
        starts, ends = (np.array([number[edge[side]] for edge in self._edges], np.int32) for side in (0, 1))
        prices = np.array(list(self._edges.values()))
        finite = np.isfinite(prices)
        unit = max(1.0, float(prices[finite].sum()) / LARGEST_TOTAL)
        capacities = np.where(finite, np.ceil(np.where(finite, prices, 0) / unit), NEVER_CUT).astype(np.int32)
        shape = (len(vertices), len(vertices))
        network = csr_array((capacities, (starts, ends)), shape=shape)
        left = network - maximum_flow(network, number[IN_FLOAT], number[IN_HALF]).flow
        left.data = np.maximum(left.data, 0)
        left.eliminate_zeros()
        reached = breadth_first_order(left, number[IN_FLOAT], return_predecessors=False)
        return {vertices[i] for i in reached}
