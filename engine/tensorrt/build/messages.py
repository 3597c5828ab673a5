"""What passes between the process that asks for an engine and the one that builds it, as JSON."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from sennet_engine.tensorrt.build.settings import BuildSettings
from sennet_engine.tensorrt.products import EngineTarget


@dataclass(frozen=True)
class BuildRequest:
    """What the building process is asked for: the engine of the file `onnx`, to be written to `engine`."""

    target: EngineTarget
    compute_capabilities: tuple[str, ...]
    onnx: Path
    engine: Path
    settings: BuildSettings

    @property
    def json(self) -> str:
        """This request as one line of JSON."""
        return REQUEST.dump_json(self).decode()


@dataclass(frozen=True)
class Built:
    """What is known of an engine that was built. The attributes are those of `EngineFacts`.

    Attributes:
        warnings: what a person should know.
        said: what the product warned of.
    """

    onnx_sha256: str
    inspected: Literal["engine", "network"]
    multiply_adds: int
    share_by_precision: dict[str, float]
    layers_by_precision: dict[str, int]
    build_seconds: float
    warnings: tuple[str, ...]
    said: tuple[str, ...]

    @property
    def message(self) -> dict[str, Any]:
        """This as a message."""
        message: dict[str, Any] = BUILT.dump_python(self, mode="json")
        return {"kind": "built"} | message


REQUEST: TypeAdapter[BuildRequest] = TypeAdapter(BuildRequest)
BUILT: TypeAdapter[Built] = TypeAdapter(Built)


def request_from_json(text: str) -> BuildRequest:
    """The request that `BuildRequest.json` gave."""
    return REQUEST.validate_json(text)


def built_from_message(message: dict[str, Any]) -> Built:
    """What `Built.message` gave."""
    return BUILT.validate_python({name: value for name, value in message.items() if name != "kind"})
