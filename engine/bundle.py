"""A model bundle: a folder NAME.model/ with the card `model.json` and the files that the card vouches for."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sennet_engine.card import ModelCard, ModelFile, Precision
from sennet_engine.config import validated
from sennet_engine.errors import ConfigError, ModelError
from sennet_engine.storage.durable import write_durably

CARD_NAME = "model.json"
BUILTIN = Path(__file__).parent / "models" / "builtin.model"


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its folder and its card. Nothing of it has been executed."""

    path: Path
    card: ModelCard

    def onnx_name(self, precision: Precision = "fp32") -> str:
        """The name of the bundle's ONNX file in `precision`. Raises ModelError where it has none."""
        names = {file.precision: name for name, file in self.card.files.items() if file.kind == "onnx"}
        if precision not in names:
            held = ", ".join(sorted(names)) or "none"
            how = "export the model again with sennet-export" + ("" if precision == "fp32" else f" --{precision}")
            raise ModelError(f"{self.path}: holds no {precision} ONNX file (it holds {held}); {how}")
        return names[precision]

    def verified_bytes(self, name: str) -> bytes:
        """The bytes of one of the bundle's files. Raises ModelError unless they have the sha256 of the card."""
        try:
            content = (self.path / name).read_bytes()
        except OSError as error:
            raise ModelError(f"{self.path / name}: cannot be read ({error.strerror}); copy the bundle again") from error
        found, expected = hashlib.sha256(content).hexdigest(), self.card.files[name].sha256
        if found != expected:
            raise ModelError(
                f"{self.path / name}: got sha256 {found[:12]}..., expected {expected[:12]}...: the file is not the one "
                f"that its card describes; copy the bundle again from its source"
            )
        return content


def open_bundle(path: Path) -> Bundle:
    """Read the card of the bundle at `path` and check its weights and graphs against it.

    Engines, which may be large and of which one at most is used, are checked when they are loaded.

    Raises:
        ModelError: no bundle there, a file is missing or changed, weights that are not safetensors, or a graph that
            would read further files.
    """
    card = read_card(path)
    bundle = Bundle(path, card)
    for name, file in card.files.items():
        if file.kind in CHECKS:
            CHECKS[file.kind](path / name, bundle.verified_bytes(name))
    return bundle


def read_card(path: Path) -> ModelCard:
    """The card of the bundle at `path`. Raises ModelError where there is none that can be used."""
    try:
        table = json.loads((path / CARD_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(f"{path}: is no model bundle, expected a folder that holds {CARD_NAME}") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path / CARD_NAME}: cannot be read: {error}") from error
    try:
        card = validated(table, ModelCard, source=str(path / CARD_NAME))
    except ConfigError as error:
        raise ModelError(str(error)) from error
    outside = [name for name in card.files if Path(name).name != name]
    if outside:
        raise ModelError(f"{path / CARD_NAME}: names files outside the bundle: {', '.join(outside)}; do not use it")
    return card


def update_files(path: Path, files: Mapping[str, ModelFile | None]) -> None:
    """Put `files` into the card of the bundle at `path`, in place of entries of the same names; None takes one out.

    The card is replaced whole. Whoever calls this sees to it that nobody else does so at the same time.

    Raises:
        ModelError: no bundle there.
        OSError: the card cannot be written.
    """
    card = read_card(path)
    kept = {name: entry for name, entry in (card.files | dict(files)).items() if entry is not None}
    table = card.model_dump(mode="json") | {
        "files": {name: entry.model_dump(mode="json") for name, entry in kept.items()}
    }
    text = json.dumps(table, indent=2, ensure_ascii=False)
    write_durably(path / CARD_NAME, (text + "\n").encode())


def _refuse_pickle(path: Path, content: bytes) -> None:
    """safetensors begin with the length of a JSON header, eight bytes, little endian; a pickle never does."""
    length = int.from_bytes(content[:8], "little")
    try:
        if not 2 <= length <= len(content) - 8:
            raise ValueError("no header")
        json.loads(content[8 : 8 + length])
    except ValueError as error:
        raise ModelError(
            f"{path}: is not a safetensors file; a pickle can run code when it is loaded and is never opened: "
            f"convert the weights to safetensors"
        ) from error


def _refuse_external_data(path: Path, content: bytes) -> None:
    """A tensor of an ONNX graph may lie in another file, which no sha256 vouches for: its entry has the key `location`.

    The two bytes before it are the field and the length of a protobuf string.
    """
    if b"\x0a\x08location" in content:
        raise ModelError(f"{path}: keeps weights in other files, expected all in one; export the model again")


CHECKS = {"weights": _refuse_pickle, "onnx": _refuse_external_data, "engine-onnx": _refuse_external_data}
