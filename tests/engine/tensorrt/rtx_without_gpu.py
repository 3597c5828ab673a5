"""TensorRT for RTX, whose engines load without a GPU; run as a program, it loads the engine of a bundle.

python rtx_without_gpu.py BUNDLE COMPUTE_CAPABILITY [CACHE]
"""

import json
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import tensorrt_rtx

from sennet_engine.gpu.present import Gpu
from sennet_engine.tensorrt.products import PRODUCTS, Product


class RtxWithoutGpu:
    """`tensorrt_rtx` itself, but for the runtime, which takes anything, or says `errors` and takes nothing.

    Attributes:
        deserialised: what was given to it, in order.
    """

    def __init__(self, *, errors=(), validity="VALID", flags=()):
        self.errors, self.validity, self.flags, self.deserialised = errors, validity, flags, []

    def __getattr__(self, name):
        return getattr(tensorrt_rtx, name)

    def Runtime(self, logger):
        return SimpleNamespace(
            get_engine_validity=lambda _content: self._judged(),
            deserialize_cuda_engine=lambda content: self._deserialise(content, logger),
        )

    def _judged(self):
        diagnostics = sum(tensorrt_rtx.EngineInvalidityDiagnostics.__members__[flag].value for flag in self.flags)
        return tensorrt_rtx.EngineValidity.__members__[self.validity], diagnostics

    def _deserialise(self, content, logger):
        self.deserialised.append(content)
        for error in self.errors:
            logger.log(tensorrt_rtx.ILogger.Severity.ERROR, error)
        return None if self.errors else SimpleNamespace(content=content)


def gpu_of(compute_capability):
    return Gpu(0, "A GPU", compute_capability, 1 << 34)


def rtx(module):
    return Product(PRODUCTS["rtx"], module, str(tensorrt_rtx.__version__))


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main():
    from sennet_engine.bundle import open_bundle
    from sennet_engine.tensorrt.loading import load_engine

    signal.signal(signal.SIGINT, signal.default_int_handler)
    loaded = load_engine(
        open_bundle(Path(sys.argv[1])), "fp16", rtx(RtxWithoutGpu()), gpu_of(sys.argv[2]),
        on_step=say, cache=Path(sys.argv[3]) if len(sys.argv) > 3 else None,
    )  # fmt: skip
    say(json.dumps({"path": str(loaded.path), "sha256": loaded.facts.sha256}))


if __name__ == "__main__":
    main()
