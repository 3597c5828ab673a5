"""OpenVINO bare, as its documentation has it: a compiled model with a performance hint, called or fed by a queue."""

from collections.abc import Iterable, Iterator
from typing import Any

from sennet_bench.peers.contestant import Job, Outcome
from sennet_bench.peers.graph_job import Answers, run_graph
from sennet_bench.peers.in_memory import Grey
from sennet_engine.openvino_predictor import openvino_core


def run(
    job: Job, *, whole_planes: bool = False, hint: str = "LATENCY", settings: dict[str, Any] | None = None
) -> Outcome:
    """With the hint THROUGHPUT all tiles or planes go through a queue of requests, with LATENCY one at a time."""

    def load(path: str, _sides: tuple[int, int]) -> Answers:
        core = openvino_core()
        model = core.read_model(path)
        config = {"PERFORMANCE_HINT": hint, "INFERENCE_NUM_THREADS": job.threads, **(settings or {})}
        compiled = core.compile_model(model, "CPU", config)
        return _CALLED[hint](compiled)

    return run_graph(job, load, whole_planes=whole_planes)


def _one_at_a_time(compiled: Any) -> Answers:
    def answers(shown: Iterable[Grey]) -> Iterator[Grey]:
        return (compiled(one)[0] for one in shown)

    return answers


def _by_a_queue(compiled: Any) -> Answers:
    from openvino import AsyncInferQueue

    queue = AsyncInferQueue(compiled)

    def answers(shown: Iterable[Grey]) -> Iterable[Grey]:
        found: dict[int, Grey] = {}
        queue.set_callback(lambda request, number: found.update({number: request.get_output_tensor(0).data.copy()}))
        for number, one in enumerate(shown):
            queue.start_async(one, number)
        queue.wait_all()
        return [found[number] for number in sorted(found)]

    return answers


_CALLED = {"LATENCY": _one_at_a_time, "THROUGHPUT": _by_a_queue}
