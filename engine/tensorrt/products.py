"""The two products that build engines, TensorRT and TensorRT for RTX: one API, and the few places where they differ.

They differ in these ways, seen in 10.x, 11.x and RTX 1.7 or stated by their documentation:
- TensorRT times kernels on the GPU that is there and builds for it alone. RTX compiles for any list of GPUs, without
  one, and finishes its kernels on the GPU when the engine is loaded; weights are stored once, so that an engine for
  four kinds of GPU has the size of an engine for one.
- TensorRT has a timing cache; in RTX its functions are deprecated and do nothing.
- Networks are strongly typed only on request in TensorRT 10. RTX and 11 have nothing else; they keep the flag for the
  sake of old code, ignore it, and may drop it.
"""

import importlib
from dataclasses import dataclass
from typing import Any, Literal

from sennet_engine.engine_file import ProductName
from sennet_engine.errors import ConfigError, MissingExtraError
from sennet_engine.gpu.present import present_compute_capability

EngineTarget = Literal["tensorrt", "rtx"]
PRESENT = "current"


@dataclass(frozen=True)
class ProductKind:
    """What is known of a product before its module is imported.

    Attributes:
        usual_capabilities: the GPUs that are built for where nobody names others; empty: the one that is there.
    """

    name: ProductName
    title: str
    module: str
    extra: str
    usual_capabilities: tuple[str, ...]
    has_timing_cache: bool


PRODUCTS: dict[EngineTarget, ProductKind] = {
    "tensorrt": ProductKind("tensorrt", "TensorRT", "tensorrt", "gpu", (), has_timing_cache=True),
    "rtx": ProductKind(
        "tensorrt-rtx", "TensorRT for RTX", "tensorrt_rtx", "rtx", ("8.0", "8.6", "8.9", "12.0"), has_timing_cache=False
    ),
}


@dataclass(frozen=True)
class Product:
    """An imported product. `module` has the API of `tensorrt`; it ships no types."""

    kind: ProductKind
    module: Any
    version: str

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The compute capabilities that can be built for, ascending."""
        if not self.kind.usual_capabilities:
            present = present_compute_capability()
            return (present,) if present else ()
        members = self.module.ComputeCapability.__members__
        return tuple(sorted((_dotted(name) for name in members if name.startswith("SM")), key=as_numbers))

    def resolved(self, asked: tuple[str, ...]) -> tuple[str, ...]:
        """`asked`, each once and ascending; where nothing is asked for the product's usual ones.

        Raises:
            ConfigError: one of them cannot be built for.
        """
        can = self.capabilities
        usual = tuple(capability for capability in self.kind.usual_capabilities if capability in can)
        chosen = asked or usual or can
        if unknown := [capability for capability in chosen if capability not in can]:
            raise ConfigError(
                f"compute capability: got {', '.join(unknown)}, expected some of {', '.join(can)}, those that "
                f"{self.kind.title} {self.version} builds for here"
            )
        return tuple(sorted(set(chosen), key=as_numbers))


def open_product(target: EngineTarget) -> Product:
    """Import the module of `target`.

    Raises:
        ConfigError: TensorRT is asked for where there is no GPU.
        MissingExtraError: the module is not installed.
    """
    kind = PRODUCTS[target]
    if not kind.usual_capabilities and present_compute_capability() is None:
        raise ConfigError(
            f"--target {target}: {kind.title} builds on the GPU that will run the engine, and none was found here; "
            f"build there, or take --target rtx, which builds without a GPU"
        )
    try:
        module = importlib.import_module(kind.module)
    except ImportError as error:
        raise MissingExtraError(
            f"--target {target}: {kind.title} is not installed ({error}); run: pip install 'sennet[{kind.extra}]', "
            f"or leave engines out by --target onnx"
        ) from error
    return Product(kind, module, str(module.__version__))


def as_numbers(capability: str) -> tuple[int, ...]:
    """ "12.0" as (12, 0): sorts after (8, 6)."""
    return tuple(int(part) for part in capability.split("."))


def member_name(capability: str) -> str:
    """The member of `ComputeCapability`: "12.0" as SM120."""
    return "SM" + capability.replace(".", "")


def _dotted(member: str) -> str:
    digits = member.removeprefix("SM")
    return f"{digits[:-1]}.{digits[-1]}"
