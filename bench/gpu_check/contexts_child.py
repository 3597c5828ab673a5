"""A process that sends tiles through some contexts of one model on the first GPU: how fast, and what it answers."""

import hashlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import cast

import numpy as np

from sennet_engine.bundle import open_bundle
from sennet_engine.device.cuda import CudaDevice
from sennet_engine.gpu.open import open_on_gpu
from sennet_engine.gpu.predictor import CudaGraphs
from sennet_engine.gpu.present import census
from sennet_engine.predictor import Predictor, Tiles

BATCH, BATCHES, SEED = 4, 48, 0
# The first calls of a context allocate, and record graphs.
WARM_UP = 3


def main(model: Path, runtime: str, side: int, contexts: int, graphs: CudaGraphs, answer: Path) -> None:
    """Write the megapixels a second, and the sha256 of the answers in the order of the tiles."""
    gpu = census().gpus[0]
    opened = open_on_gpu(
        open_bundle(model), "fp16", gpu, CudaDevice(gpu.index), runtime=runtime, cuda_graphs=graphs, cache=None,
        on_step=lambda step: print(step, file=sys.stderr), contexts=contexts,  # noqa: T201 - a program of its own
    )  # fmt: skip
    batch = min(BATCH, opened.largest_batch)
    tiles = np.random.default_rng(SEED).integers(0, 256, (BATCHES, batch, 1, side, side), dtype=np.uint8)
    with opened.predictor as predictor, ThreadPoolExecutor(contexts) as threads:
        for context in range(contexts):
            for _ in range(WARM_UP):
                predictor.predict(tiles[0], context=context)
        began = perf_counter()
        shares = [tiles[context::contexts] for context in range(contexts)]
        parts = list(threads.map(_answers, [predictor] * contexts, shares, range(contexts)))
        seconds = perf_counter() - began
    digest = hashlib.sha256()
    for number in range(BATCHES):
        digest.update(parts[number % contexts][number // contexts].tobytes())
    told = {
        "mpixels_per_second": tiles.size / seconds / 1e6,
        "answers_sha256": digest.hexdigest(),
    }
    answer.write_text(json.dumps(told), encoding="utf-8")


def _answers(predictor: Predictor, batches: Tiles, context: int) -> list[Tiles]:
    return [predictor.predict(tiles, context=context).copy() for tiles in batches]


if __name__ == "__main__":
    _, model, runtime, side, contexts, graphs, answer = sys.argv
    main(Path(model), runtime, int(side), int(contexts), cast("CudaGraphs", graphs), Path(answer))
