"""Which of the engine files of a bundle fits: this product, its version, this GPU, and the ONNX file of the card."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sennet_engine.bundle import Bundle, read_card
from sennet_engine.card import Precision
from sennet_engine.engine_file import EngineFacts, read_facts
from sennet_engine.errors import ModelError
from sennet_engine.gpu.present import Gpu
from sennet_engine.tensorrt.products import PRODUCTS, Product

TITLES = {kind.name: kind.title for kind in PRODUCTS.values()}


@dataclass(frozen=True)
class Wanted:
    """What an engine has to be so that it may run here; `onnx` is the file of the bundle that it is built from."""

    product: Product
    gpu: Gpu
    precision: Precision
    onnx: str
    onnx_sha256: str


@dataclass(frozen=True)
class EngineFile:
    """An engine that fits and that the card or the user's own folder vouches for.

    Attributes:
        content: the bytes of the file, of the sha256 that was expected. What is deserialised is these: the file may be
            another by then.
        reason: for people: why this file, and what was done to get it.
    """

    path: Path
    facts: EngineFacts
    content: bytes
    reason: str


@dataclass(frozen=True)
class Candidates:
    """What a bundle holds: an engine that fits, and the others.

    Attributes:
        others: the facts of engines that do not fit.
        misfits: why each of those does not that were looked at, facts or no facts.
    """

    fitting: EngineFile | None
    others: tuple[EngineFacts, ...]
    misfits: tuple[str, ...]


def wanted_engine(bundle: Bundle, precision: Precision, product: Product, gpu: Gpu) -> Wanted:
    """What is wanted of an engine of `bundle`. Raises ModelError where it has no ONNX file that one is built from."""
    onnx = _int8_for_engines(bundle) if precision == "int8" else bundle.onnx_name(precision)
    return Wanted(product, gpu, precision, onnx, bundle.card.files[onnx].sha256)


def engines_of_bundle(bundle: Bundle, wanted: Wanted) -> Candidates:
    """What the bundle's folder holds now; another process may have added to it since `bundle` was opened.

    Of several that fit, one that such a GPU has proven.

    Raises:
        ModelError: an engine that would fit is not the file that the card describes. It is not replaced: somebody
            should know of it.
    """
    present = Bundle(bundle.path, read_card(bundle.path))
    fitting: list[tuple[str, EngineFacts]] = []
    others: list[EngineFacts] = []
    misfits: list[str] = []
    for name, facts, why_not in _looked_at(present, wanted):
        if why_not is not None:
            misfits.append(f"{name} {why_not}")
            others += [facts] if facts else []
        elif facts:
            fitting.append((name, facts))
    if not fitting:
        return Candidates(None, tuple(others), tuple(misfits))
    here = wanted.gpu.compute_capability
    name, facts = min(fitting, key=lambda one: (here not in one[1].verified_on, one[0]))
    reason = f"{name} of the bundle, built for {_listed(facts)}"
    try:
        content = present.verified_bytes(name)
    except ModelError as error:
        raise ModelError(f"{error}, or delete this file: the engine is then built again") from error
    return Candidates(EngineFile(bundle.path / name, facts, content, reason), tuple(others), tuple(misfits))


def misfit(facts: EngineFacts, wanted: Wanted) -> str | None:
    """Why an engine with such facts is not what is wanted, or None where it is."""
    identity, kind, here = facts.identity, wanted.product.kind, wanted.gpu.compute_capability
    if facts.precision != wanted.precision:
        return f"is {facts.precision}, expected {wanted.precision}"
    if identity.onnx_sha256 != wanted.onnx_sha256:
        return f"was built from another file than this {wanted.onnx}"
    if identity.product != kind.name:
        return f"is for {TITLES[identity.product]}, this is {kind.title}"
    if identity.product_version != wanted.product.version:
        return f"was built by {kind.title} {identity.product_version}, this is {wanted.product.version}"
    # An engine of TensorRT is for one kind of GPU; one of RTX is for all that it lists.
    runs = here in identity.compute_capabilities if kind.usual_capabilities else identity.compute_capabilities == [here]
    return None if runs else f"was built for {_listed(facts)}, this GPU is {here}"


def content_of(path: Path, sha256: str) -> bytes:
    """The bytes of `path`, read once. Raises ModelError unless they have the sha256; OSError where there is none."""
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ModelError(f"{path}: got sha256 {found[:12]}..., expected {sha256[:12]}..., that of its facts")
    return content


def _looked_at(bundle: Bundle, wanted: Wanted) -> Iterator[tuple[str, EngineFacts | None, str | None]]:
    """Each engine in the wanted precision: its name, its facts if any, and why it does not fit if so."""
    for name, entry in bundle.card.files.items():
        if entry.kind != "engine" or entry.precision != wanted.precision:
            continue
        path = bundle.path / name
        try:
            facts = read_facts(path)
        except ModelError as error:
            yield name, None, f"has no facts that can be used ({str(error).splitlines()[0]})"
            continue
        if facts.sha256 != entry.sha256:
            yield name, None, "lies beside the facts of another engine"
        elif why_not := misfit(facts, wanted):
            yield name, facts, why_not
        else:
            yield name, facts, None if path.exists() else "is missing"


def _int8_for_engines(bundle: Bundle) -> str:
    """Engines take integers from a graph of their own."""
    for name, file in bundle.card.files.items():
        if file.kind == "engine-onnx" and file.precision == "int8":
            return name
    raise ModelError(
        f"{bundle.path}: holds no int8 ONNX file for engines; export the model again with sennet-export --int8 "
        f"--target rtx"
    )


def _listed(facts: EngineFacts) -> str:
    return ", ".join(facts.identity.compute_capabilities)
