"""onnxruntime bare, as its documentation has it: a session, and a call for each tile or plane."""

from collections.abc import Iterable, Iterator

import onnxruntime

from sennet_bench.peers.contestant import Job, Outcome
from sennet_bench.peers.graph_job import Answers, run_graph
from sennet_bench.peers.in_memory import Grey


def run(job: Job, *, whole_planes: bool = False) -> Outcome:
    """The CPU provider with all graph optimizations, its default, and the job's threads within an operator."""

    def load(path: str, _sides: tuple[int, int]) -> Answers:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job.threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name

        def answers(shown: Iterable[Grey]) -> Iterator[Grey]:
            return (session.run(None, {name: one})[0] for one in shown)

        return answers

    return run_graph(job, load, whole_planes=whole_planes)
