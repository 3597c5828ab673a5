"""A bundle with a small fp16 graph, and an engine of it that was really built."""

import hashlib
import json
import shutil

import pytest

from sennet_engine.bundle import open_bundle, update_files
from sennet_engine.card import ModelFile
from sennet_engine.engine_file import EngineFacts, EngineIdentity, facts_path, text_from_facts
from sennet_engine.tensorrt.build.builder import build_engine
from sennet_engine.tensorrt.build.settings import Batch, BuildSettings

from .build.conftest import convolutions


@pytest.fixture(scope="session")
def engine_of_86(tmp_path_factory):
    """An engine of `convolutions()` for 8.6 and 8.9, in batches of 1 to 3."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "model.fp16.onnx").write_bytes(convolutions())
    settings = BuildSettings(
        precision="fp16", sides=(64,), compute_capabilities=("8.6", "8.9"), batch=Batch(1, 2, 3)
    )  # fmt: skip
    return build_engine(
        folder / "model.fp16.onnx", folder, target="rtx", settings=settings, on_progress=lambda *_: None
    )  # fmt: skip


@pytest.fixture
def write_bundle(tmp_path):
    """Write a bundle of `contents` by file name, each with its kind and precision in `entries`; its path."""

    def write(contents, entries, *, name="own.model", sides=(64,)):
        folder = tmp_path / name
        folder.mkdir()
        files = {}
        for file, content in contents.items():
            (folder / file).write_bytes(content)
            kind, precision = entries[file]
            sha256 = hashlib.sha256(content).hexdigest()
            files[file] = {"sha256": sha256, "bytes": len(content), "kind": kind, "precision": precision}
        card = {
            "name": folder.stem, "decoder": "none", "encoder": "none", "normalisation": {"kind": "fixed"},
            "voxel_size_um": 50.0, "threshold": {"value": 0.5}, "files": files,
            "tiling": {
                "stride": 16, "sides": list(sides), "default_side": sides[0], "halo": 0, "exact": True,
            },
        }  # fmt: skip
        (folder / "model.json").write_text(json.dumps(card))
        return folder

    return write


@pytest.fixture
def bundle(write_bundle):
    """A bundle with the graph and no engine."""
    folder = write_bundle({"model.fp16.onnx": convolutions()}, {"model.fp16.onnx": ("onnx", "fp16")})
    return open_bundle(folder)


@pytest.fixture
def with_engine(engine_of_86):
    """Put the engine into a bundle, its facts changed as asked; the bundle, opened anew."""

    def put(bundle, *, name=engine_of_86.path.name, facts=None, **identity):
        path = bundle.path / name
        shutil.copyfile(engine_of_86.path, path)
        changed = EngineIdentity.model_validate(engine_of_86.facts.identity.model_dump() | identity)
        whole = engine_of_86.facts.model_dump() | {"identity": changed, "key": changed.key} | (facts or {})
        facts_path(path).write_text(text_from_facts(EngineFacts.model_validate(whole)))
        entry = ModelFile(
            sha256=engine_of_86.facts.sha256, bytes=engine_of_86.facts.bytes, kind="engine", precision="fp16"
        )  # fmt: skip
        update_files(bundle.path, {path.name: entry})
        return open_bundle(bundle.path)

    return put
