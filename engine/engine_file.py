"""The facts of an engine file: what it was built from, with what, for which GPU; kept as JSON beside the raw engine.

The engine itself stays as the builder wrote it, so that other tools load it; `model.fp16.rtx-sm86.engine` has its facts
in `model.fp16.rtx-sm86.engine.json`.
"""

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from sennet_engine.card import Precision
from sennet_engine.config import Config, validated
from sennet_engine.errors import ConfigError, ModelError
from sennet_engine.storage.durable import write_durably

ProductName = Literal["tensorrt", "tensorrt-rtx"]
Float32 = Literal["ieee", "tf32"]

SUFFIX, FACTS_SUFFIX = ".engine", ".json"
TARGET_BY_PRODUCT: dict[ProductName, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "rtx"}


class Profile(Config):
    """One optimization profile: tiles [batch, 1, side, side], and the batches it takes and is tuned for."""

    side: int = Field(ge=1)
    batch_smallest: int = Field(ge=1)
    batch_usual: int = Field(ge=1)
    batch_largest: int = Field(ge=1)

    @model_validator(mode="after")
    def _ascends(self) -> "Profile":
        batches = (self.batch_smallest, self.batch_usual, self.batch_largest)
        if list(batches) != sorted(batches):
            raise ValueError(f"got batches {batches}, expected smallest <= usual <= largest")
        return self


class BuilderOptions(Config):
    """The builder's options that change the engine.

    Attributes:
        workspace_mb: memory that a layer may use on the GPU besides weights and activations; absent: all there is.
        level: how long the builder searches, 0 to 5; absent: the product's default.
        float32: whether what stays in float32 is computed as such, or may be rounded to the 10 bits of TF32.
    """

    workspace_mb: int | None = Field(None, ge=1)
    level: int | None = Field(None, ge=0, le=5)
    float32: Float32 = "ieee"


class EngineIdentity(Config):
    """What decides an engine: one that differs in any of this is another engine.

    Attributes:
        compute_capabilities: of the GPUs it was built for, ascending: "8.6".
        profiles: one for every tile side, in the engine's order.
    """

    onnx_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    product: ProductName
    product_version: str
    compute_capabilities: list[str] = Field(min_length=1)
    profiles: list[Profile] = Field(min_length=1)
    options: BuilderOptions = BuilderOptions()

    @property
    def key(self) -> str:
        """sha256 over the canonical JSON of all fields."""
        table = self.model_dump(mode="json")
        return hashlib.sha256(json.dumps(table, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class EngineFacts(Config):
    """All that is known of an engine file.

    Attributes:
        identity, key: what decides the engine, and the sha256 over it.
        onnx: the name of the ONNX file that it was built from, in the same folder.
        precision: what was asked for, and proven by the shares below.
        inspected: where the precision of the layers was read: in the engine, or, where no GPU could load it, in the
            strongly typed network that the builder was given.
        multiply_adds: of one tile of the first profile.
        share_by_precision: of the multiply-adds: {"fp16": 0.998, "fp32": 0.002}.
        layers_by_precision: the number of layers with multiply-adds.
        verified: whether a GPU answered the golden tiles with it.
        verified_on: the compute capabilities of the GPUs that did: TensorRT for RTX compiles for each GPU anew.
        sha256, bytes: of the engine file.
    """

    format_version: Literal[1] = 1
    identity: EngineIdentity
    key: str = Field(pattern="^[0-9a-f]{64}$")
    onnx: str = Field(pattern=r"^[^/\\]+$")
    precision: Precision
    inspected: Literal["engine", "network"]
    multiply_adds: int = Field(ge=1)
    share_by_precision: dict[str, float]
    layers_by_precision: dict[str, int]
    build_seconds: float = Field(ge=0)
    verified: bool
    verified_on: list[str] = []
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=1)

    @model_validator(mode="after")
    def _has_its_own_key(self) -> "EngineFacts":
        if self.key != self.identity.key:
            raise ValueError(
                f"the key {self.key[:12]}... is not that of the identity, {self.identity.key[:12]}...; build the "
                f"engine again with sennet-export"
            )
        return self


def engine_file_name(onnx: str, identity: EngineIdentity) -> str:
    """`model.fp16.rtx-sm80-sm86.engine` for `model.fp16.onnx`."""
    gpus = "-".join(f"sm{capability.replace('.', '')}" for capability in identity.compute_capabilities)
    return f"{onnx.removesuffix('.onnx')}.{TARGET_BY_PRODUCT[identity.product]}-{gpus}{SUFFIX}"


def facts_path(engine: Path) -> Path:
    """Where the facts of the engine file `engine` lie."""
    return engine.with_name(engine.name + FACTS_SUFFIX)


def text_from_facts(facts: EngineFacts) -> str:
    """The facts as JSON."""
    return json.dumps(facts.model_dump(mode="json"), indent=2) + "\n"


def mark_verified(engine: Path, facts: EngineFacts, *, compute_capability: str) -> None:
    """Write into the facts beside `engine` that such a GPU answered the golden tiles with it.

    `facts` are those of the engine that did; where another one lies there by now, nothing is written.

    Raises:
        OSError: the facts cannot be written.
        ModelError: they are missing by now, or cannot be used.
    """
    present = read_facts(engine)
    if present.sha256 != facts.sha256:
        return
    gpus = sorted({*present.verified_on, compute_capability})
    marked = present.model_copy(update={"verified": True, "verified_on": gpus})
    write_durably(facts_path(engine), text_from_facts(marked).encode())


def read_facts(engine: Path) -> EngineFacts:
    """The facts beside the engine file `engine`.

    Raises:
        ModelError: they are missing, or cannot be used. Whether the engine file has their sha256 is not looked at.
    """
    path = facts_path(engine)
    try:
        return validated(json.loads(path.read_text(encoding="utf-8")), EngineFacts, source=str(path))
    except FileNotFoundError as error:
        raise ModelError(
            f"{path}: is missing, expected the facts of {engine.name}; build the engine again with sennet-export"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path}: cannot be read: {error}; build the engine again with sennet-export") from error
    except ConfigError as error:
        raise ModelError(str(error)) from error
