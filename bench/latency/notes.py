"""What a table of latencies says below it: what a call is, how it was waited for, and where not to trust it."""

import statistics
from collections.abc import Mapping
from itertools import chain

from sennet_bench.latency.measurement import Latency, LatencyMeasurement

# Beyond one of these, figures that lie close together are not told apart.
WIDEST_VARIATION = 0.10
WIDEST_ROUNDS = 0.05
MOST_OF_OTHERS = 0.05
ON_PROCESSORS = (
    "Nothing is copied on processors: a call is from one array of the host to another, and all of it is compute. "
    "onnxruntime's workers sleep while they wait (session.intra_op.allow_spinning is 0), as sennet-infer runs them; "
    "openvino waits as it does by itself."
)
ON_GPU = (
    "Percentiles, mean and tiles/s are of calls from one array of the host to another: copied into pinned memory, to "
    "the GPU, computed, copied back, waited for; transfers are included. Copy in, compute and copy out are those of as "
    "many other calls, on a stream with timed events between the parts, by the GPU's clock; compute excludes "
    "transfers. Enqueue is the host's time to hand the network over; where it is about as long as compute, the GPU "
    "waits for the host. The host does not spin: it sleeps until the last event (blocking_sync), and its waking up is "
    "in each call. Loading counts what the engine does with a model that it never ran there: to build, and to prove it."
)


def variation(entry: Latency) -> float:
    """The coefficient of variation of all counted calls: their standard deviation over their mean."""
    calls = list(chain.from_iterable(entry.warm_seconds))
    return statistics.pstdev(calls) / statistics.fmean(calls)


def spread_problems(entry: Latency) -> list[str]:
    """Why the figures of an entry are too uncertain to conclude from; empty where they are not."""
    medians = [statistics.median(one) for one in entry.warm_seconds]
    problems = []
    if (found := variation(entry)) > WIDEST_VARIATION:
        problems.append(f"a coefficient of variation of {found:.0%}")
    if (apart := max(medians) / min(medians) - 1) > WIDEST_ROUNDS:
        problems.append(f"medians of rounds that differ by {apart:.0%}")
    return problems


def latency_notes(measured: LatencyMeasurement, named: Mapping[str, Latency]) -> tuple[str, ...]:
    """A line each; the last has the circumstances."""
    on_gpu = any(entry.part_seconds for entry in measured.entries)
    versions = ", ".join(dict.fromkeys(entry.computed_by for entry in measured.entries))
    threads = "" if on_gpu else f", {measured.threads} threads a call"
    calls = measured.calls * measured.rounds
    notes = [
        f"{measured.device}, {versions}{threads}; {calls} calls of each with one context, in "
        f"{measured.rounds} rounds in turns, after {measured.warm_up_calls} calls at the beginning of each round that "
        f"are not counted. Tiles are noise.",
        "Loading is of a predictor of its own, from the file to the first call, with the runtime's library in memory "
        "already; the first call is its first. What a process does only once, the first row of a runtime pays for. "
        "Warm calls of all tiles and batches of a file share a predictor.",
        ON_GPU if on_gpu else ON_PROCESSORS,
    ]
    if on_gpu:
        heard = f": {'; '.join(measured.told)}" if measured.told else ""
        notes.append(
            f"CUDA graphs: {measured.cuda_graphs}, by runtimes of TensorRT alone{heard}. onnxruntime's providers use "
            "none."
        )
    if measured.contexts > 1:
        notes.append(
            f"The predictors were opened for {measured.contexts} contexts, and a call that is alone may have the help "
            f"of the others' threads. The last column keeps all of them at work, whose calls begin together."
        )
    notes.append(_peak(measured))
    return (*notes, *_warnings(measured, named), str(measured.circumstances))


def _peak(measured: LatencyMeasurement) -> str:
    if not any(measured.peak_gflops.values()):
        return f"The machine's peak was not measured: {measured.no_peak}."
    peaks = "; ".join(
        f"{runtime} {' and '.join(f'{one:.0f}' for one in found)}" for runtime, found in measured.peak_gflops.items()
    )
    how = "float16 by onnxruntime's CUDA provider" if measured.peak_dtype == "float16" else "float32 by the runtime"
    more = (
        "networks in float32 come nowhere near it, and int8 against float16 can exceed 100 %."
        if measured.peak_dtype == "float16"
        else "int8 against float32 can exceed 100 %."
    )
    return (
        f"The peak is the faster of two products of {how} itself, with as many threads, before and after, in GFLOP/s: "
        f"{peaks}. Operations are those of the graph's convolutions and matrix products in float32, 2 for a "
        f"multiply-add; {more}"
    )


def _warnings(measured: LatencyMeasurement, named: Mapping[str, Latency]) -> list[str]:
    found = [f"{name} has {' and '.join(why)}" for name, one in named.items() if (why := spread_problems(one))]
    share = measured.circumstances.others_share
    if share is not None and share > MOST_OF_OTHERS:
        found.append(f"others took {share:.0%} of the processors")
    if not found:
        return []
    return [
        f"Too uncertain to conclude from, where a coefficient of variation is over {WIDEST_VARIATION:.0%}, medians of "
        f"rounds differ by more than {WIDEST_ROUNDS:.0%}, or others took more than {MOST_OF_OTHERS:.0%} of the "
        f"processors: {'; '.join(found)}."
    ]
