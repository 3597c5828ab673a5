"""Which TensorRT onnxruntime's provider was linked with: another major version cannot be loaded."""

import mmap
import re
from importlib.metadata import PackageNotFoundError, distribution, version

LIBRARY = "libonnxruntime_providers_tensorrt.so"
NEEDED = re.compile(rb"libnvinfer\.so\.(\d+)")


def why_provider_cannot_load() -> str:
    """Empty where the installed TensorRT fits, or where this cannot be told."""
    try:
        gpu, tensorrt = distribution("onnxruntime-gpu"), version("tensorrt")
    except PackageNotFoundError:
        return ""
    files = [file for file in gpu.files or () if file.name == LIBRARY]
    linked = _linked(str(gpu.locate_file(files[0]))) if files else None
    if linked is None or linked == tensorrt.partition(".")[0]:
        return ""
    return (
        f"onnxruntime-gpu {gpu.version} links TensorRT {linked}, and {tensorrt} is installed; to check it, run: "
        f"pip install 'tensorrt=={linked}.*'"
    )


def _linked(path: str) -> str | None:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:  # noqa: PTH123 - for mmap
        found = NEEDED.search(content)
        return found[1].decode() if found else None
