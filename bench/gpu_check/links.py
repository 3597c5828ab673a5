"""What is installed and cannot compute here: a provider linked with another TensorRT, a product for other GPUs."""

import mmap
import re
from importlib.metadata import PackageNotFoundError, distribution, version

from sennet_engine.errors import MissingExtraError
from sennet_engine.gpu.present import Gpu
from sennet_engine.tensorrt.products import PRODUCTS, open_product

LIBRARY = "libonnxruntime_providers_tensorrt.so"
NEEDED = re.compile(rb"libnvinfer\.so\.(\d+)")


def why_not_built_for(package: str, gpu: Gpu) -> str:
    """Why the distribution `package` builds no engine for `gpu`; empty where it does, or is not installed.

    TensorRT for RTX leaves the GPUs of data centres out: its 1.7 knows no compute capability 9.0.
    """
    kind = PRODUCTS["rtx"]
    if package != kind.name:
        return ""
    try:
        product = open_product("rtx")
    except MissingExtraError:
        return ""
    if gpu.compute_capability in product.capabilities:
        return ""
    return (
        f"{kind.title} {product.version} builds for compute capability {', '.join(product.capabilities)}, and "
        f"{gpu.name} is {gpu.compute_capability}"
    )


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
