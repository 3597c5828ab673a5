"""Several devices share the slabs of one axis; one that fails leaves its slabs to the others.

Each device has a thread, which runs the pipeline over slabs that are dealt out on demand. A slab is with one device at
a time, from when it is dealt out until the sink has taken it over. A device that waits for others has nothing in hand,
so none ever waits for one that cannot tell that it has failed.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter

from sennet_engine.device.meter import Meter
from sennet_engine.device.stream import Device, Stream
from sennet_engine.device.streams import Streams
from sennet_engine.errors import ConfigError, DeviceError
from sennet_engine.pipeline.overflow import OverflowWatch
from sennet_engine.pipeline.plane_source import PlaneSource
from sennet_engine.pipeline.slab_deal import SlabDeal, StoppedError
from sennet_engine.pipeline.slab_result import Sink, SlabResult
from sennet_engine.pipeline.stage_times import StageTimes, stage_times
from sennet_engine.pipeline.stream_pipeline import CellAnswers, run_axis
from sennet_engine.pipeline.worker import Worker
from sennet_engine.planning.passes import AxisPlan, Slab
from sennet_engine.volumes.volume import Planes

# Called with a worker that is given up, its error, and how many slabs it leaves to the others.
OnLost = Callable[[Worker, BaseException, int], None]


def run_axis_on(
    source: PlaneSource,
    plan: AxisPlan,
    workers: Sequence[Worker],
    sink: Sink,
    *,
    slabs: Sequence[Slab],
    ring: int,
    first_pass_cells: CellAnswers | None,
    overflows: OverflowWatch | None,
    on_lost: OnLost,
) -> StageTimes:
    """`run_axis` on all of `workers` at once; with one of them it is nothing else, in the calling thread.

    With several, slabs come to the sink in any order, each once. Memory holds `ring` slabs for each worker.

    Args:
        source: its `read` is called by one thread at a time.
        plan: see `run_axis`.
        workers: at least one. Those that fail with DeviceError are given up, as long as there is another.
        sink: called by one thread at a time. What it did not return from is not done; its own error ends the run.
        slabs: those to do, none thicker than the plan's.
        ring, first_pass_cells: see `run_axis`.
        overflows: asked by all workers.
        on_lost: called by one thread at a time, and never during a call of the sink. Not told of the last worker.

    Returns:
        Busy seconds of all workers together, also of those that failed, and the clock; see `StageTimes`.

    Raises:
        ConfigError: there is no worker, or `ring` is less than 1.
        DeviceError: of the last worker, when it failed as well.
        Exception: whatever else was raised first. All workers stop then: no slab is dealt out any more, and those in
            hand are abandoned. All threads have ended.
    """
    if not workers:
        raise ConfigError("workers: got none, expected at least one device, or the host")
    if len(workers) == 1:
        (worker,) = workers
        return run_axis(
            source, plan, worker.predictors, sink, slabs=slabs, overflows=overflows, device=worker.device, ring=ring,
            first_pass_cells=first_pass_cells,
        )  # fmt: skip
    if not slabs:
        return StageTimes()
    began = perf_counter()
    shared = _SharedAxis(source, workers, sink, slabs, on_lost)

    def run_on(worker: Worker, share: "_Share") -> None:
        run_axis(
            share, plan, worker.predictors, share.hand_over, slabs=share.slabs(), overflows=overflows,
            device=worker.device, streams=share.streams, ring=ring, first_pass_cells=first_pass_cells,
        )  # fmt: skip

    shared.run(run_on)
    return stage_times(shared.meters, wall=perf_counter() - began)


class _SharedAxis:
    """What the workers have in common.

    Attributes:
        meters: by stage, over the streams of all workers.
    """

    def __init__(
        self, source: PlaneSource, workers: Sequence[Worker], sink: Sink, slabs: Sequence[Slab], on_lost: OnLost
    ) -> None:
        self.source, self.sink = source, sink
        self.meters: dict[str, Meter] = {}
        self.deal = SlabDeal(slabs, holders=len(workers))
        # A volume may hold one file open and seek in it, and what takes over the slabs counts them.
        self.reading, self.handing_over = threading.Lock(), threading.Lock()
        self._on_lost = on_lost
        self._shares = [(worker, _Share(self, holder, worker.device)) for holder, worker in enumerate(workers)]

    def run(self, run_on: Callable[[Worker, "_Share"], None]) -> None:
        """Call `run_on` for each worker, in a thread of its own, until all slabs are done. Raises the first error."""
        threads = {
            share: threading.Thread(target=self._work, args=(run_on, worker, share), name=f"sennet {worker.name}")
            for worker, share in self._shares
        }
        try:
            for thread in threads.values():
                thread.start()
            _wait_for(threads)
        except BaseException as error:  # Ctrl-C; a second one leaves threads behind that end by themselves
            self.stop(error)
            _wait_for({share: thread for share, thread in threads.items() if thread.is_alive()})
            raise
        if self.deal.error is not None:
            raise self.deal.error

    def stop(self, error: BaseException) -> None:
        """Let all workers end: they begin no other piece of work."""
        self.deal.stop(error)
        for _, share in self._shares:
            share.streams.abandon()

    @contextmanager
    def turn(self, lock: threading.Lock) -> Iterator[None]:
        """Around what is done by one thread at a time, and whose error ends the run for all at once."""
        with lock:
            self.deal.refuse_if_stopped()
            try:
                yield
            except BaseException as error:
                self.stop(error)
                raise

    def _work(self, run_on: Callable[[Worker, "_Share"], None], worker: Worker, share: "_Share") -> None:
        try:
            try:
                run_on(worker, share)
            except DeviceError as error:
                left = self.deal.lost(share.holder, error)
                if left is not None:
                    with self.turn(self.handing_over):
                        self._on_lost(worker, error, left)
        except StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 (whatever it is, it belongs to the caller's thread)
            self.stop(error)
        finally:
            share.ended.set()


class _Share:
    """What one worker sees: a source of planes, a sink, slabs, and streams that others can end."""

    def __init__(self, shared: _SharedAxis, holder: int, device: Device) -> None:
        self.holder, self._shared = holder, shared
        self.streams = _EndableStreams(device, shared.meters)
        self.ended = threading.Event()

    def slabs(self) -> Iterator[Slab | None]:
        return self._shared.deal.dealt_to(self.holder)

    def read(self, start: int, stop: int) -> Planes:
        with self._shared.turn(self._shared.reading):
            return self._shared.source.read(start, stop)

    def windowed(self, planes: Planes) -> Planes:
        return self._shared.source.windowed(planes)

    def hand_over(self, result: SlabResult) -> None:
        with self._shared.turn(self._shared.handing_over):
            self._shared.sink(result)
            self._shared.deal.done(self.holder)


def _wait_for(threads: Mapping[_Share, threading.Thread]) -> None:
    for share, thread in threads.items():
        # A thread whose `join` is interrupted by Ctrl-C counts as ended in Python 3.11, though it is not.
        share.ended.wait()
        thread.join()


class _EndableStreams(Streams):
    """Streams that share their meters with others, and that another thread can end."""

    def __init__(self, device: Device, meters: dict[str, Meter]) -> None:
        super().__init__(device)
        self.meters = meters
        self._kept: list[Stream] = []

    def on_host(self, stage: str) -> Stream:
        return self._keep(super().on_host(stage))

    def on_device(self, stage: str, *, number: int | None = None) -> Stream:
        return self._keep(super().on_device(stage, number=number))

    def abandon(self) -> None:
        """Begin no other piece of work. Streams that are opened later are not meant."""
        for stream in tuple(self._kept):
            stream.abandon(StoppedError())

    def _keep(self, stream: Stream) -> Stream:
        self._kept.append(stream)
        return stream
