"""The kernels that TensorRT for RTX compiles when an engine runs, kept so that the next start is fast.

An engine of RTX holds no finished kernels: they are compiled on the GPU for the shapes that it is shown, and batches
wait for them. They are code for the GPU, so they are taken from a folder of the user's own alone, whole as they were
written; RTX itself refuses those of another version, GPU or driver.
"""

import hashlib
import logging
from pathlib import Path
from typing import Any

from sennet_engine.errors import OutputError
from sennet_engine.gpu.present import Gpu
from sennet_engine.storage.durable import write_durably
from sennet_engine.tensorrt.folders import is_own, private_folder
from sennet_engine.tensorrt.loaded import LoadedEngine

logger = logging.getLogger(__name__)

DIGEST_BYTES = hashlib.sha256().digest_size


class CompiledKernels:
    """The kernels of `loaded` on `gpu`, which is the current device of this thread.

    Args:
        folder: the user's, for engines; None keeps nothing.

    Attributes:
        runtime_cache: RTX's `IRuntimeCache` for the engine's execution contexts, with what an earlier run kept; None
            for TensorRT, whose engines hold finished kernels.
    """

    def __init__(self, loaded: LoadedEngine, gpu: Gpu, *, folder: Path | None) -> None:
        self.runtime_cache: Any = None
        self._folder = folder
        self._path = folder and folder / f"{loaded.facts.sha256}-{gpu.compute_capability}.kernels"
        self._kept = b""
        if loaded.product.kind.name == "tensorrt-rtx":
            self.runtime_cache = loaded.engine.create_runtime_config().create_runtime_cache()
            self._kept = self._read()

    def keep(self) -> None:
        """Keep the kernels that were compiled so far for the next run; worth it once tiles have been answered.

        A folder that cannot be written to is a warning: they are then compiled again.
        """
        if self.runtime_cache is None or self._folder is None or self._path is None:
            return
        serialized = self.runtime_cache.serialize()
        kernels = b"" if serialized is None else bytes(serialized)
        if kernels in (b"", self._kept):
            return
        try:
            private_folder(self._folder)
            write_durably(self._path, hashlib.sha256(kernels).digest() + kernels)
            self._kept = kernels
        except (OSError, OutputError) as error:
            logger.warning("%s: compiled kernels are not kept (%s)", self._path, error)

    def _read(self) -> bytes:
        """The kernels of an earlier run, which have been given to RTX; empty where there are none that it takes."""
        if self._folder is None or self._path is None or not self._path.exists():
            return b""
        try:
            content = self._path.read_bytes()
        except OSError as error:
            logger.warning("%s: cannot be read (%s); kernels are compiled again", self._path, error)
            return b""
        digest, kernels = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if not all(map(is_own, (self._folder, self._path))) or hashlib.sha256(kernels).digest() != digest:
            logger.warning("%s: is damaged or another user's; kernels are compiled again", self._path)
            return b""
        if not self.runtime_cache.deserialize(kernels):
            logger.info("%s: is of another version, GPU or driver; kernels are compiled again", self._path)
            return b""
        return kernels
