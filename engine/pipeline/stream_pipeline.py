"""The way of the data along one axis: read, window, resize, tiles through the networks, sums; slab by slab on streams.

    read -> window -> resize -> cut -> copy in -> compute (a stream for each context) -> copy out -> accumulate -> write

Each stage is a stream. Slabs go through a ring of buffers, and so do batches of tiles; a stage waits, by an event, for
the one before it, and until the last user of the buffer that it writes to is done. The calling thread hands out work.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from time import perf_counter

import numpy as np
import numpy.typing as npt

from sennet_engine.device.host import HostDevice
from sennet_engine.device.stream import Device, Event
from sennet_engine.device.streams import Streams
from sennet_engine.errors import ConfigError
from sennet_engine.pipeline.batch_way import BatchWay
from sennet_engine.pipeline.overflow import OverflowWatch
from sennet_engine.pipeline.pass_canvas import PassCanvas, PassSlab, Scratch, pass_canvas
from sennet_engine.pipeline.plane_source import PlaneSource
from sennet_engine.pipeline.slab_buffers import SlabBuffers
from sennet_engine.pipeline.slab_result import Sink, SlabResult
from sennet_engine.pipeline.stage_times import StageTimes, stage_times
from sennet_engine.pipeline.tile_work import Chooser, chooser_by_answers, chooser_by_cells, tile_work
from sennet_engine.planning.passes import AxisPlan, Slab
from sennet_engine.predictor import Predictor

__all__ = ["RING", "Sink", "SlabResult", "StageTimes", "run_axis"]

RING = 2

# [Z, Y, X] in cells of the volume: the largest answer of a cascade's first pass in each of them.
CellAnswers = npt.NDArray[np.uint8]


def run_axis(
    source: PlaneSource,
    plan: AxisPlan,
    predictors: Mapping[str, Predictor],
    sink: Sink,
    *,
    slabs: Iterable[Slab | None] | None = None,
    overflows: OverflowWatch | None = None,
    device: Device | None = None,
    streams: Streams | None = None,
    ring: int = RING,
    first_pass_cells: CellAnswers | None = None,
) -> StageTimes:
    """Run all passes of `plan` over its planes, and hand each slab to `sink`, in order, in a thread of its own.

    Memory holds `ring` slabs, and `ring` batches for each context, whatever the size of the volume.

    Args:
        source: of planes along `plan.axis`.
        plan: of one axis. With a cascade, its first pass decides where the others look; or `first_pass_cells` do,
            for all of its passes.
        predictors: by the passes' `model`.
        sink: takes over what is done; an error that it raises ends the run.
        slabs: only these; by default all of the plan. Of an iterator none may be thicker than those. None among them
            says that the next one may be long in coming: it is asked for when the sink has taken over all before it.
        overflows: answers in place of networks that overflow; by default that is an error.
        device: by default the host.
        streams: of `device`, not entered yet; by default new ones. Who keeps them can look into them meanwhile.
        ring: buffers for slabs, and for batches of each context; at least 1. With 1 nothing is read ahead.
        first_pass_cells: [Z, Y, X] uint8 in cells of the volume: the largest answer of the cascade's first pass, where
            that was along another axis.

    Raises:
        ConfigError: `ring` is less than 1.
        Exception: whatever the source, a predictor or the sink raised first. All threads have ended then.
    """
    if ring < 1:
        raise ConfigError(f"ring: got {ring}, expected at least 1")
    slabs = plan.slabs if slabs is None else slabs
    device = HostDevice() if device is None else device
    began = perf_counter()
    with streams or Streams(device) as opened:
        batches = BatchWay(
            device, opened, plan.passes, predictors, ring=ring, overflows=overflows or OverflowWatch(), axis=plan.axis
        )
        _AxisRun(source, plan, sink, opened, batches, first_pass_cells).run(slabs, ring=ring)
    return stage_times(opened.meters, wall=perf_counter() - began)


@dataclass
class _Begun:
    """A slab whose first work is handed out.

    Attributes:
        decided: when the answers are there by which a cascade goes on; None where there is none.
    """

    slab: Slab
    buffers: SlabBuffers
    tiles_done: int = 0
    tiles_not_gone_on: int = 0
    decided: Event | None = None


class _AxisRun:
    """Hands out the work of slab after slab."""

    def __init__(
        self,
        source: PlaneSource,
        plan: AxisPlan,
        sink: Sink,
        streams: Streams,
        batches: BatchWay,
        first_pass_cells: CellAnswers | None,
    ) -> None:
        self._source, self._plan, self._sink = source, plan, sink
        self._batches, self._first_pass_cells = batches, first_pass_cells
        self._read = streams.on_host("read")
        self._window = streams.on_host("window")
        self._resize = streams.on_host("resize")
        self._write = streams.on_host("write")
        self._first_decides = plan.cascade is not None and first_pass_cells is None
        scratch = Scratch()
        self._canvases: list[PassCanvas] = [
            pass_canvas(one, plan, scratch, keeps_answers=self._first_decides and index == 0)
            for index, one in enumerate(plan.passes)
        ]

    def run(self, slabs: Iterable[Slab | None], *, ring: int) -> None:
        known = slabs if isinstance(slabs, Sequence) else ()
        most_planes = max((len(slab) for slab in (*self._plan.slabs, *known) if slab), default=0)
        at_rest = self._write.record()
        places = [
            SlabBuffers(self._plan, most_planes=most_planes, keeps_answers=self._first_decides, written=at_rest)
            for _ in range(ring)
        ]
        # While a cascade decides about a slab, the first pass of the next one keeps the network busy.
        ahead = 1 if self._first_decides and ring > 1 else 0
        begun: deque[_Begun] = deque()
        written: deque[Event] = deque(maxlen=ring + 1)
        place = cycle(places)
        for slab in slabs:
            if slab is None:
                while begun:
                    written.append(self._finish(begun.popleft()))
                if written:
                    written[-1].synchronize()
                continue
            if len(written) == written.maxlen:
                written[0].synchronize()  # only so that the streams' queues do not grow with the volume
            begun.append(self._begin(slab, next(place)))
            if len(begun) > ahead:
                written.append(self._finish(begun.popleft()))
        while begun:
            written.append(self._finish(begun.popleft()))
        if written:
            written[-1].synchronize()

    def _begin(self, slab: Slab, buffers: SlabBuffers) -> _Begun:
        """Hand out what comes before a cascade's decision."""
        begun = _Begun(slab, buffers)
        accumulate = self._batches.accumulate
        self._read.wait(buffers.written)
        self._read.enqueue(lambda: buffers.read(self._source, slab))
        read = self._read.record()
        self._window.wait(read)
        self._window.enqueue(lambda: buffers.window(self._source))
        windowed = self._window.record()
        self._resize.wait(windowed)
        self._resize.enqueue(lambda: buffers.prepare(slab))
        prepared = self._resize.record()
        self._batches.cut.wait(prepared)
        # Which tells that the sums of the slab before are written. A slab of which no tile goes on gives its place to
        # another one as soon as its sums are cleared, which must not be before its planes are prepared.
        accumulate.wait(prepared)
        accumulate.enqueue(lambda: buffers.clear(slab))
        if self._first_decides:
            self._send(0, begun, chooser=None)
            begun.decided = accumulate.record()
        return begun

    def _finish(self, begun: _Begun) -> Event:
        """Hand out all the rest. The event tells that the sink is done with the slab."""
        chooser = self._chooser(begun)
        for index in range(int(self._first_decides), len(self._plan.passes)):
            self._send(index, begun, chooser=chooser)
        settled = self._batches.accumulate.record()
        self._write.wait(settled)
        self._write.enqueue(lambda: self._hand_over(begun))
        begun.buffers.written = self._write.record()
        return begun.buffers.written

    def _chooser(self, begun: _Begun) -> Chooser | None:
        """Waits until a cascade can decide."""
        cascade, answers = self._plan.cascade, begun.buffers.first_answers(begun.slab)
        if begun.decided is not None:
            begun.decided.synchronize()
        if cascade is not None and answers is not None:
            return chooser_by_answers(answers, cascade.level)
        if cascade is not None and self._first_pass_cells is not None:
            return chooser_by_cells(self._first_pass_cells, self._plan, begun.slab, cascade.level)
        return None

    def _send(self, index: int, begun: _Begun, *, chooser: Chooser | None) -> None:
        """Let the tiles of a pass go through its network."""
        slab, buffers, canvas = begun.slab, begun.buffers, self._canvases[index]
        work = tile_work(self._plan.passes[index], slab, chooser=chooser)
        begun.tiles_done += len(work.tiles)
        begun.tiles_not_gone_on += work.left_out
        if not work.tiles:
            return
        first = buffers.first_answers(slab) if index == 0 else None
        target = PassSlab(slab, work.layouts, buffers.canvas(slab), first)
        self._batches.accumulate.enqueue(lambda: canvas.begin(target))
        for tiles in work.batches():
            self._batches.send(work.plan, tiles, buffers.network, canvas, slab=slab)
        self._batches.accumulate.enqueue(canvas.settle)

    def _hand_over(self, begun: _Begun) -> None:
        slab, buffers = begun.slab, begun.buffers
        self._sink(
            SlabResult(
                slab=slab,
                grey=buffers.grey,
                canvas=buffers.canvas(slab),
                first_answers=buffers.first_answers(slab),
                tiles_done=begun.tiles_done,
                tiles_not_gone_on=begun.tiles_not_gone_on,
            )
        )
