"""The driver of one GPU, by way of cuda.core: which GPU the calling thread works on, and what its errors mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sennet_engine.errors import DeviceError, DeviceMemoryError, MissingExtraError

# Names may change with the next one; those below that are not public may do so at any time.
CORE_MAJOR = "1"


class CudaDriver:
    """One GPU.

    Args:
        index: the driver's, as CUDA_VISIBLE_DEVICES leaves it.
        core: the module `cuda.core`, or what does as it does.

    Attributes:
        core: that.
        name: "cuda:0".

    Raises:
        MissingExtraError: cuda.core is not installed, or of another major version.
        DeviceError: there is no such GPU, or none that this process may use.
    """

    def __init__(self, index: int, *, core: Any = None) -> None:
        self.core = _installed_core() if core is None else core
        self.index, self.name = index, f"cuda:{index}"
        # cuda.core has no public name for the error that it raises, and none for the memory that is free.
        self._error, self._driver = self.core._utils.cuda_utils.CUDAError, self.core._utils.cuda_utils.driver
        try:
            self.make_current()
        except (self._error, RuntimeError, ValueError) as error:
            raise DeviceError(
                f"{self.name}: got no such GPU, expected one that this process may use: {error}; does nvidia-smi list "
                f"it, and CUDA_VISIBLE_DEVICES let it through? --device cpu needs none"
            ) from error

    def make_current(self) -> Any:
        """Let the calling thread work on this GPU: its `cuda.core.Device`, which belongs to the thread."""
        device = self.core.Device(self.index)
        device.set_current()
        return device

    @contextmanager
    def calls(self, wanted: str) -> Iterator[None]:
        """Around calls of the driver, for `wanted`: its errors become ours.

        Raises:
            DeviceMemoryError: there is too little memory.
            DeviceError: anything else that the driver says. As a rule the GPU is of no use to the process from then on.
        """
        try:
            yield
        except self._error as error:
            if "OUT_OF_MEMORY" in str(error):
                raise DeviceMemoryError(
                    f"{self.name}: got no memory for {wanted}, expected enough of it: {error}; try a smaller --batch "
                    f"or fewer contexts, or end other programs that use the GPU"
                ) from error
            raise DeviceError(
                f"{self.name}: failed, expected {wanted}: {error}; see nvidia-smi for its state, or compute with "
                f"--device cpu"
            ) from error

    def free_memory(self) -> int:
        """Bytes that this process could still allocate."""
        self.make_current()
        code, free, _ = self._driver.cuMemGetInfo()
        if int(code):
            raise DeviceError(f"{self.name}: got {code}, expected the memory that is free; see nvidia-smi")
        return int(free)


def _installed_core() -> Any:
    try:
        import cuda.core  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError(
            f"a GPU was asked for, and cuda.core is not installed ({error}); expected it from one of the extras: "
            f"pip install 'sennet[gpu]' or 'sennet[rtx]'"
        ) from error
    version = str(cuda.core.__version__)
    if version.split(".")[0] != CORE_MAJOR:
        raise MissingExtraError(
            f"a GPU was asked for: got cuda.core {version}, expected {CORE_MAJOR}.x; install one of the extras again: "
            f"pip install 'sennet[gpu]' or 'sennet[rtx]'"
        )
    return cuda.core
