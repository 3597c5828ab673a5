"""The way of a batch of tiles: cut, copy in, compute, copy out, accumulate, over a ring of buffers."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sennet_engine.device.stream import Buffer, Bytes, Device, Event
from sennet_engine.device.streams import Streams
from sennet_engine.pipeline.network_planes import NetworkPlanes
from sennet_engine.pipeline.overflow import OverflowWatch
from sennet_engine.pipeline.pass_canvas import PassCanvas
from sennet_engine.pipeline.tile_work import FLIPPED, TileSlices
from sennet_engine.planning.axes import Axis
from sennet_engine.planning.passes import PassPlan, Slab
from sennet_engine.predictor import Predictor

# Rounds of the ring that may be handed to the streams before the first of them is done, which bounds their queues.
ROUNDS_AHEAD = 4


@dataclass
class _Place:
    """A place in the ring: a batch's buffers, and how far whoever last used them has come."""

    tiles: Bytes
    tiles_on_device: Buffer
    answers_on_device: Buffer
    answers: Bytes
    overflowed_on_device: Buffer
    overflowed: Bytes
    copied_in: Event
    computed: Event
    copied_out: Event
    accumulated: Event


class BatchWay:
    """Sends batches through the predictors; those of several contexts compute side by side.

    Args:
        device: of `streams`.
        streams: opens the streams of the stages; closes them.
        passes: whose tiles will be sent.
        predictors: by the passes' `model`.
        ring: batches under way for each context.
        overflows: answers in place of networks that overflow.
        axis: of the planes.

    Attributes:
        cut: the stream on which tiles are cut out of planes.
        accumulate: the stream on which answers are put together.
    """

    def __init__(
        self,
        device: Device,
        streams: Streams,
        passes: Sequence[PassPlan],
        predictors: Mapping[str, Predictor],
        *,
        ring: int,
        overflows: OverflowWatch,
        axis: Axis,
    ) -> None:
        self._device, self._overflows, self._axis = device, overflows, axis
        self._predictors = {one.model: predictors[one.model] for one in passes}
        self._next_context = dict.fromkeys(self._predictors, 0)
        contexts = max((predictor.contexts for predictor in self._predictors.values()), default=1)
        self.cut = streams.on_host("cut")
        self._copy_in = streams.on_device("copy in")
        self._compute = [streams.on_device("compute", number=number) for number in range(contexts)]
        self._copy_out = streams.on_device("copy out")
        self.accumulate = streams.on_host("accumulate")
        at_rest = self.accumulate.record()
        largest, most_tiles = _largest_batch(passes), max((one.batch for one in passes), default=0)
        self._places = [
            _Place(
                device.pinned(largest), device.buffer(largest), device.buffer(largest), device.pinned(largest),
                device.buffer(most_tiles), device.pinned(most_tiles),
                at_rest, at_rest, at_rest, at_rest,
            )
            for _ in range(ring * contexts)
        ]  # fmt: skip
        self._next_place = 0
        self._under_way: deque[Event] = deque(maxlen=ROUNDS_AHEAD * len(self._places))

    def send(
        self, plan: PassPlan, tiles: Sequence[tuple[int, TileSlices]], planes: NetworkPlanes, canvas: PassCanvas,
        *, slab: Slab,
    ) -> None:  # fmt: skip
        """Let `tiles` (plane within `slab`, tile), at most `plan.batch` and of one shape, go through the network.

        They are cut out of `planes`, and `canvas` is given their answers. Blocks while too much is under way. Raises
        the error of a stream that failed.
        """
        if len(self._under_way) == self._under_way.maxlen:
            self._under_way[0].synchronize()
        place = self._places[self._next_place]
        self._next_place = (self._next_place + 1) % len(self._places)
        predictor = self._predictors[plan.model]
        context = self._next_context[plan.model]
        self._next_context[plan.model] = (context + 1) % predictor.contexts
        device, compute = self._device, self._compute[context]
        shape = (plan.batch, 1, *tiles[0][1].tile.shape)
        size = plan.batch * shape[2] * shape[3]
        batch, answers = (pinned[:size].reshape(shape) for pinned in (place.tiles, place.answers))
        batch_on_device, answers_on_device = place.tiles_on_device.shaped(shape), place.answers_on_device.shaped(shape)

        # Each stage waits for the one before it, and until the one after it has done with the buffer it writes to.
        self.cut.wait(place.copied_in)
        self.cut.enqueue(lambda: _cut(plan, tiles, planes, batch))
        cut = self.cut.record()
        self._copy_in.wait(cut)
        self._copy_in.wait(place.computed)
        device.copy_in(self._copy_in, batch, batch_on_device)
        place.copied_in = self._copy_in.record()
        compute.wait(place.copied_in)
        compute.wait(place.copied_out)
        overflowed = place.overflowed[: plan.batch]
        overflowed_on_device = place.overflowed_on_device.shaped((plan.batch,))
        device.compute(compute, predictor, batch_on_device, answers_on_device, overflowed_on_device, context=context)
        place.computed = compute.record()
        self._copy_out.wait(place.computed)
        self._copy_out.wait(place.accumulated)
        device.copy_out(self._copy_out, answers_on_device, answers)
        device.copy_out(self._copy_out, overflowed_on_device, overflowed)
        place.copied_out = self._copy_out.record()
        self.accumulate.wait(place.copied_out)
        again = partial(self._again, plan, planes, slab)
        self.accumulate.enqueue(lambda: _put_together(plan, tiles, answers, overflowed, again, canvas))
        place.accumulated = self.accumulate.record()
        self._under_way.append(place.accumulated)

    def _again(self, plan: PassPlan, planes: NetworkPlanes, slab: Slab, plane: int, tile: TileSlices) -> Bytes:
        grey = _cut_out(plan, planes, plane, tile)
        return self._overflows.answer(plan, slab.start + plane, tile.tile, grey, axis=self._axis)


def _largest_batch(passes: Sequence[PassPlan]) -> int:
    """In bytes."""
    tiles = ((one.batch, tile) for one in passes for layout in one.layouts for tile in layout)
    return max((batch * tile.shape[0] * tile.shape[1] for batch, tile in tiles), default=0)


def _cut(plan: PassPlan, tiles: Sequence[tuple[int, TileSlices]], planes: NetworkPlanes, batch: Bytes) -> None:
    for target, (plane, tile) in zip(batch, tiles, strict=False):
        target[0] = _cut_out(plan, planes, plane, tile)
    # The last batch is filled up, so that its shape is that of the others.
    batch[len(tiles) :] = batch[0]


def _cut_out(plan: PassPlan, planes: NetworkPlanes, plane: int, tile: TileSlices) -> Bytes:
    cut: Bytes = planes.of(tile.layout)[plane][tile.source][FLIPPED[plan.flip]]
    return cut


def _put_together(
    plan: PassPlan,
    tiles: Sequence[tuple[int, TileSlices]],
    answers: Bytes,
    overflowed: Bytes,
    again: Callable[[int, TileSlices], Bytes],
    canvas: PassCanvas,
) -> None:
    flipped = FLIPPED[plan.flip]
    for answer, bad, (plane, tile) in zip(answers, overflowed, tiles, strict=False):
        canvas.add(plane, tile, (again(plane, tile) if bad else answer[0])[flipped])
