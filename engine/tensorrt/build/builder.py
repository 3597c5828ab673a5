"""One builder for TensorRT and TensorRT for RTX: an ONNX file becomes an engine and the facts of it, or nothing.

The engine is built in a process of its own. A builder asks its progress monitor whether to go on after each step only,
and one step is nearly the whole build: 2.3 of 2.5 seconds for a small MaxViT, 79 of 81 for 400 attentions in a row. A
process can be ended at any moment, and takes nothing else with it when the native builder aborts or runs out of memory.
"""

import hashlib
import json
import logging
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sennet_engine.engine_file import (
    EngineFacts,
    EngineIdentity,
    engine_file_name,
    facts_path,
    text_from_facts,
)
from sennet_engine.errors import ConfigError, MissingExtraError, ModelError, SennetError
from sennet_engine.tensorrt.build.messages import BuildRequest, Built, built_from_message
from sennet_engine.tensorrt.build.precision import WrongPrecisionError
from sennet_engine.tensorrt.build.settings import BuildSettings
from sennet_engine.tensorrt.products import EngineTarget, Product, open_product

logger = logging.getLogger(__name__)

OnProgress = Callable[[str, int, int], None]
ERRORS: dict[str, type[SennetError]] = {
    "ConfigError": ConfigError,
    "MissingExtraError": MissingExtraError,
    "ModelError": ModelError,
    "WrongPrecisionError": WrongPrecisionError,
}
PRINTED = "printed.txt"
LAST_WORDS = 2000  # characters of what a process that broke off had printed


@dataclass(frozen=True)
class BuiltEngine:
    """A built engine file and its facts; the facts lie beside it."""

    path: Path
    facts: EngineFacts


def build_engine(
    onnx: Path, folder: Path, *, target: EngineTarget, settings: BuildSettings, on_progress: OnProgress
) -> BuiltEngine:
    """Build the engine of the file `onnx` into `folder`, with its facts beside it, both whole or not at all.

    `on_progress` takes the name of a phase of the build, its steps done and its steps in all; phases lie within phases.

    Raises:
        MissingExtraError: the product of `target` is not installed.
        ConfigError: it needs a GPU that is not there, cannot build for a GPU asked for, or the file does not take the
            tiles or batches asked for.
        ModelError: the parser or the builder refuses the file, or broke off.
        WrongPrecisionError: the network is not in the precision asked for.
        OSError: the disk is full, or a place cannot be read or written.
    """
    product = open_product(target)
    capabilities = product.resolved(settings.compute_capabilities)
    with tempfile.TemporaryDirectory(prefix=".engine-", dir=folder) as scratch:
        partial = Path(scratch, "engine")
        request = BuildRequest(
            target=target, compute_capabilities=capabilities, onnx=onnx.resolve(), engine=partial.resolve(),
            settings=settings,
        )  # fmt: skip
        built = _built(request, Path(scratch), product=product, on_progress=on_progress)
        identity = EngineIdentity(
            onnx_sha256=built.onnx_sha256, product=product.kind.name, product_version=product.version,
            compute_capabilities=list(capabilities), profiles=settings.profiles, options=settings.options,
        )  # fmt: skip
        content = partial.read_bytes()
        facts = EngineFacts(
            identity=identity, key=identity.key, onnx=onnx.name, precision=settings.precision,
            inspected=built.inspected, multiply_adds=built.multiply_adds, share_by_precision=built.share_by_precision,
            layers_by_precision=built.layers_by_precision, build_seconds=built.build_seconds, verified=False,
            sha256=hashlib.sha256(content).hexdigest(), bytes=len(content),
        )  # fmt: skip
        path = folder / engine_file_name(onnx.name, identity)
        _put_in_place(partial, path, facts)
    return BuiltEngine(path, facts)


def _built(request: BuildRequest, scratch: Path, *, product: Product, on_progress: OnProgress) -> Built:
    message = _answer(request, scratch, on_progress=on_progress)
    match message:
        case {"kind": "built"}:
            built = built_from_message(message)
            for said in built.said:
                logger.info("%s: %s", product.kind.title, said)
            for warning in built.warnings:
                logger.warning("%s", warning)
            return built
        case {"kind": "refused", "error": error, "text": text}:
            raise ERRORS[error](text)
        case {"kind": "os", "errno": code, "text": text, "filename": filename}:
            raise OSError(code, text, filename)
        case {"kind": "broken off", "code": code}:
            raise ModelError(f"{request.onnx.name}: {_last_words(product, code, scratch)}")
    raise AssertionError(f"the building process sent {message}")


def _answer(request: BuildRequest, scratch: Path, *, on_progress: OnProgress) -> dict[str, Any]:
    """The last message of a process that was given `request`. It is ended with whatever ends the wait for it."""
    request_path = scratch / "request.json"
    request_path.write_text(request.json, encoding="utf-8")
    # -P: what lies in the working folder is not imported. A session of its own: Ctrl-C reaches this process alone,
    # which then ends the other. Its stdin is never written to: it closes when this process is gone.
    command = [sys.executable, "-P", "-m", "sennet_engine.tensorrt.build.child", str(request_path)]
    answer: dict[str, Any] | None = None
    with (
        (scratch / PRINTED).open("wb") as printed,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=printed, encoding="utf-8",
            start_new_session=True,
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if not line.endswith("\n"):
                    break  # it ended in the middle of a word
                message = json.loads(line)
                if message["kind"] == "progress":
                    on_progress(message["phase"], message["done"], message["total"])
                else:
                    answer = message
            code = process.wait()
        except BaseException:
            process.kill()
            raise
    return answer or {"kind": "broken off", "code": code}


def _last_words(product: Product, code: int, scratch: Path) -> str:
    """Why a process that ended with `code` gave no answer."""
    title = f"{product.kind.title} {product.version}"
    if code == -signal.SIGKILL:
        return f"the process in which {title} built was killed, as a rule for want of memory; free some and try again"
    printed = (scratch / PRINTED).read_text(encoding="utf-8", errors="replace")[-LAST_WORDS:].strip()
    return f"the process in which {title} built broke off with code {code}: {printed or 'it said nothing'}"


def _put_in_place(partial: Path, path: Path, facts: EngineFacts) -> None:
    partial_facts = facts_path(partial)
    partial_facts.write_text(text_from_facts(facts), encoding="utf-8")
    try:
        partial_facts.replace(facts_path(path))
        partial.replace(path)
    except BaseException:
        facts_path(path).unlink(missing_ok=True)
        raise
