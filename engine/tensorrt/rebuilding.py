"""An engine for this GPU where the bundle holds none: built from its ONNX file, and kept where a later run finds it.

It is put beside the ONNX file and into the card; into the user's own folder where the bundle cannot be written to.
"""

import logging
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from sennet_engine.bundle import BUILTIN, Bundle, read_card, update_files
from sennet_engine.card import ModelFile
from sennet_engine.engine_file import (
    BuilderOptions,
    EngineIdentity,
    ProductName,
    engine_file_name,
    facts_path,
    read_facts,
)
from sennet_engine.errors import ConfigError, DeviceError, EngineError, ModelError, OutputError
from sennet_engine.storage.durable import sync_folder
from sennet_engine.tensorrt.build.builder import build_engine
from sennet_engine.tensorrt.build.precision import WrongPrecisionError
from sennet_engine.tensorrt.build.settings import Batch, BuildSettings
from sennet_engine.tensorrt.candidates import (
    Candidates,
    EngineFile,
    Wanted,
    content_of,
    engines_of_bundle,
    misfit,
)
from sennet_engine.tensorrt.folders import OnStep, is_own, is_writable, private_folder, scratch_folder
from sennet_engine.tensorrt.products import PRODUCTS, EngineTarget, Product

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """What is built, and why.

    Attributes:
        identity: that the engine will have, by which the user's own folder knows it.
        why: the engines that do not fit, for people.
    """

    bundle: Bundle
    wanted: Wanted
    settings: BuildSettings
    identity: EngineIdentity
    why: str


def built_engine(
    bundle: Bundle, wanted: Wanted, candidates: Candidates, *, on_step: OnStep, cache: Path | None
) -> EngineFile:
    """The engine that is wanted and that is not among `candidates`: from `cache`, or built.

    It takes the card's sides for engines; its batches and options are those of an engine that does not fit, where there
    is one. Of two processes that want the same one, the second waits for the first.

    Raises:
        DeviceError: the product builds for no such GPU here.
        ModelError, WrongPrecisionError, ConfigError, MissingExtraError: as `build_engine`, and where the ONNX file is
            not that of the card.
        OutputError: there is no place for it.
    """
    recipe = _recipe(bundle, wanted, candidates)
    if cache is not None and (cached := _cached(cache, recipe)):
        return cached
    _refuse_unknown_gpu(wanted)
    try:
        # What was installed with a package is left as it was.
        if bundle.path.resolve() != BUILTIN.resolve() and is_writable(bundle.path):
            return _built_into_bundle(recipe, on_step)
        if cache is None:
            raise OutputError(f"{bundle.path}: cannot be written to, and no other place for its engine was given")
        return _built_into_cache(recipe, cache, on_step)
    except OSError as error:
        raise OutputError(
            f"{error.filename or bundle.path}: the engine cannot be written ({error.strerror}); free some space, or "
            f"make it writable"
        ) from error


def _recipe(bundle: Bundle, wanted: Wanted, candidates: Candidates) -> Recipe:
    batch, options = Batch(), BuilderOptions()
    if candidates.others:
        model = candidates.others[0].identity
        profile = model.profiles[0]
        batch = Batch(profile.batch_smallest, profile.batch_usual, profile.batch_largest)
        options = model.options
    settings = BuildSettings(
        precision=wanted.precision, sides=bundle.card.tiling.engine_sides, batch=batch, options=options,
        compute_capabilities=(wanted.gpu.compute_capability,),
    )  # fmt: skip
    identity = EngineIdentity(
        onnx_sha256=wanted.onnx_sha256, product=wanted.product.kind.name, product_version=wanted.product.version,
        compute_capabilities=[wanted.gpu.compute_capability], profiles=settings.profiles, options=settings.options,
    )  # fmt: skip
    why = "; ".join(candidates.misfits) or f"the bundle holds no {wanted.precision} engine"
    return Recipe(bundle, wanted, settings, identity, why)


def _refuse_unknown_gpu(wanted: Wanted) -> None:
    product, gpu = wanted.product, wanted.gpu
    if gpu.compute_capability not in product.capabilities:
        raise DeviceError(
            f"cuda:{gpu.index} ({gpu.name}): got compute capability {gpu.compute_capability}, expected one of "
            f"{', '.join(product.capabilities) or 'none'}, those that {product.kind.title} {product.version} builds "
            f"for here; {OTHER_WAYS[product.kind.name]}"
        )


def _built_into_bundle(recipe: Recipe, on_step: OnStep) -> EngineFile:
    folder = recipe.bundle.path
    with scratch_folder(folder, on_step) as scratch:
        if fitting := engines_of_bundle(recipe.bundle, recipe.wanted).fitting:
            return fitting  # another process has built it in the meantime
        built = _built(recipe, scratch, on_step)
        path = folder / built.path.name
        # A card never tells of a file that is not there whole: an older engine of this name is taken out of it first.
        if path.name in read_card(folder).files:
            update_files(folder, {path.name: None})
        facts_path(built.path).replace(facts_path(path))
        built.path.replace(path)
        sync_folder(folder)
        facts = built.facts
        update_files(
            folder,
            {path.name: ModelFile(sha256=facts.sha256, bytes=facts.bytes, kind="engine", precision=facts.precision)},
        )
    return replace(built, path=path)


def _built_into_cache(recipe: Recipe, cache: Path, on_step: OnStep) -> EngineFile:
    private_folder(cache)
    with scratch_folder(cache, on_step) as scratch:
        if cached := _cached(cache, recipe):
            return cached
        entry, whole = cache / recipe.identity.key, scratch / "whole"
        whole.mkdir()
        built = _built(recipe, whole, on_step)
        shutil.rmtree(entry, ignore_errors=True)  # what cannot be used
        whole.replace(entry)
        sync_folder(cache)
    return replace(built, path=entry / built.path.name)


def _built(recipe: Recipe, folder: Path, on_step: OnStep) -> EngineFile:
    """The engine with its facts in `folder`; it is not yet where a later run looks."""
    bundle, wanted, gpu = recipe.bundle, recipe.wanted, recipe.wanted.gpu
    here = f"{gpu.name} ({gpu.compute_capability})"
    on_step(f"building the {wanted.precision} engine of {bundle.path.name} for {here}: {recipe.why}")
    bundle.verified_bytes(wanted.onnx)
    try:
        built = build_engine(
            bundle.path / wanted.onnx, folder, target=_target(wanted.product), settings=recipe.settings,
            on_progress=lambda *_: None,
        )  # fmt: skip
    except (ConfigError, ModelError, WrongPrecisionError) as error:
        raise EngineError(str(error)) from error
    # The file is read again by the builder, which tells what it has read.
    if why_not := misfit(built.facts, wanted):
        raise EngineError(f"{bundle.path / wanted.onnx}: the engine that was built {why_not}; run this again")
    with built.path.open("rb") as file:
        os.fsync(file.fileno())
    reason = f"built for {here}: {recipe.why}"
    return EngineFile(built.path, built.facts, content_of(built.path, built.facts.sha256), reason)


def _cached(cache: Path, recipe: Recipe) -> EngineFile | None:
    """The engine in the user's own folder, whose facts vouch for it; None where there is none that can be used."""
    path = cache / recipe.identity.key / engine_file_name(recipe.wanted.onnx, recipe.identity)
    if not path.exists():
        return None
    try:
        if not all(is_own(one) for one in (cache, path.parent, path, facts_path(path))):
            raise ModelError(f"{path}: belongs to another user")
        facts = read_facts(path)
        if facts.key != recipe.identity.key or facts.precision != recipe.wanted.precision:
            raise ModelError(f"{path}: lies beside the facts of another engine")
        content = content_of(path, facts.sha256)
    except (ModelError, OSError) as error:
        logger.warning("%s; not used", error)
        return None
    return EngineFile(
        path, facts, content, f"{path}, built for {recipe.wanted.gpu.compute_capability} by an earlier run"
    )


def _target(product: Product) -> EngineTarget:
    return next(target for target, kind in PRODUCTS.items() if kind.name == product.kind.name)


OTHER_WAYS: dict[ProductName, str] = {
    "tensorrt": "show this program that GPU alone by CUDA_VISIBLE_DEVICES, or take another runtime",
    "tensorrt-rtx": "take another runtime, as TensorRT: pip install 'sennet[gpu]'",
}
