"""The inputs and outputs of an engine, and what its product answers to calls."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sennet_engine.errors import DeviceError, ModelError
from sennet_engine.tensorrt.loaded import LoadedEngine


@dataclass(frozen=True)
class Ends:
    """Names of an engine's tensors.

    Attributes:
        tiles: the input, uint8 [B, 1, H, W].
        probabilities: the output, uint8 [B, 1, H, W].
        overflowed: the output uint8 [B] that tells of tiles with NaN or infinity, where there is one.
    """

    tiles: str
    probabilities: str
    overflowed: str | None


def ends_of(loaded: LoadedEngine) -> Ends:
    """Read the tensors of an engine.

    Raises:
        ModelError: they are others than those of an engine for uint8 tiles, or its profiles are not those of its facts.
    """
    trt, engine = loaded.product.module, loaded.engine
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    outputs = [name for name in names if name not in inputs]
    ranks = [len(engine.get_tensor_shape(name)) for name in (*inputs, *outputs)]
    in_bytes = all(engine.get_tensor_dtype(name) == trt.DataType.UINT8 for name in names)
    if not in_bytes or len(inputs) != 1 or ranks not in ([4, 4], [4, 4, 1]):
        found = ", ".join(f"{name} {engine.get_tensor_dtype(name)} {engine.get_tensor_shape(name)}" for name in names)
        raise ModelError(
            f"{loaded.path}: got {found}, expected an input of uint8 [B, 1, H, W], an output like it and at most one "
            f"more of uint8 [B]; build the engine again with sennet-export"
        )
    profiles = loaded.facts.identity.profiles
    if engine.num_optimization_profiles != len(profiles):
        raise ModelError(
            f"{loaded.path}: got {engine.num_optimization_profiles} optimization profiles, expected {len(profiles)} as "
            f"its facts say; build the engine again with sennet-export"
        )
    return Ends(inputs[0], outputs[0], outputs[1] if outputs[1:] else None)


def ask(loaded: LoadedEngine, wanted: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call of the product answers.

    Raises:
        DeviceError: it answers False or None, which is how the product refuses; with what it logged meanwhile.
    """
    errors = loaded.log.errors
    said_before = len(errors)
    try:
        answer = call(*arguments)
    except RuntimeError as error:
        raise _refused(loaded, wanted, [*errors[said_before:], str(error)]) from error
    if answer is None or answer is False:
        # The log keeps what is said again only once, so that the last thing said may be of an earlier call.
        raise _refused(loaded, wanted, errors[said_before:] or errors[-1:] or ["it gave no reason"])
    return answer


def _refused(loaded: LoadedEngine, wanted: str, said: list[str]) -> DeviceError:
    product = loaded.product
    return DeviceError(
        "\n  ".join(
            [
                f"{loaded.path.name}: {product.kind.title} {product.version} refuses, expected {wanted}; build the "
                f"engine again with sennet-export, or take another runtime. It said:",
                *said,
            ]
        )
    )
