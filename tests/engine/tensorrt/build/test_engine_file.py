"""The facts beside an engine file."""

import json

import pytest

from sennet_engine.engine_file import BuilderOptions, EngineFacts, EngineIdentity, Profile, facts_path, read_facts
from sennet_engine.errors import ModelError

PROFILE = Profile(side=512, batch_smallest=1, batch_usual=4, batch_largest=8)
IDENTITY = EngineIdentity(
    onnx_sha256="a" * 64, product="tensorrt-rtx", product_version="1.7", compute_capabilities=["8.6"],
    profiles=[PROFILE],
)  # fmt: skip
OTHER = {
    "onnx_sha256": "b" * 64,
    "product": "tensorrt",
    "product_version": "1.8",
    "compute_capabilities": ["8.6", "8.9"],
    "profiles": [PROFILE.model_copy(update={"batch_largest": 9})],
    "options": BuilderOptions(float32="tf32"),
}


def write(folder, **other):
    facts = EngineFacts(
        identity=IDENTITY, key=IDENTITY.key, onnx="model.fp16.onnx", precision="fp16", inspected="network",
        multiply_adds=1, share_by_precision={"fp16": 1.0}, layers_by_precision={"fp16": 1}, build_seconds=1.0,
        verified=False, sha256="c" * 64, bytes=1,
    )  # fmt: skip
    engine = folder / "model.engine"
    facts_path(engine).write_text(json.dumps(facts.model_dump(mode="json") | other))
    return engine


@pytest.mark.parametrize("part", EngineIdentity.model_fields)
def test_the_key_changes_with_each_of_its_parts(part):
    """What could make another engine makes another key; what is equal makes the same."""
    assert IDENTITY.model_copy(update={part: OTHER[part]}).key != IDENTITY.key
    assert EngineIdentity.model_validate(IDENTITY.model_dump(mode="json")).key == IDENTITY.key


def test_facts_that_cannot_be_used_are_refused(tmp_path):
    """Missing, not JSON, an unknown key, and a key that is not that of the facts: each says what to do."""
    with pytest.raises(ModelError, match=r"is missing.*build the engine again"):
        read_facts(tmp_path / "model.engine")
    assert read_facts(write(tmp_path)).identity == IDENTITY
    with pytest.raises(ModelError, match="unknown key"):
        read_facts(write(tmp_path, colour="red"))
    moved = IDENTITY.model_copy(update={"compute_capabilities": ["8.9"]}).model_dump(mode="json")
    with pytest.raises(ModelError, match="not that of the identity"):
        read_facts(write(tmp_path, identity=moved))
    facts_path(tmp_path / "model.engine").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        read_facts(tmp_path / "model.engine")
