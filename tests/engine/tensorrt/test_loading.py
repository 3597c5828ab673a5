"""Which engine file is run: one that fits and is vouched for, else one that is built for this GPU."""

import ctypes
import fcntl
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tensorrt_rtx

from sennet_engine.bundle import open_bundle
from sennet_engine.engine_file import BuilderOptions, Profile, facts_path, read_facts
from sennet_engine.errors import DeviceError, DeviceMemoryError, ModelError, OutputError
from sennet_engine.gpu.present import present_compute_capability
from sennet_engine.tensorrt import rebuilding
from sennet_engine.tensorrt.loading import load_engine
from sennet_engine.tensorrt.products import PRODUCTS, Product

from .build.conftest import attention, convolutions, files
from .rtx_without_gpu import RtxWithoutGpu, gpu_of, rtx

ENGINE = "model.fp16.rtx-sm86-sm89.engine"
PROGRAM = Path(__file__).with_name("rtx_without_gpu.py")


class Building(Exception):
    """Raised in place of a build, with what was said of it."""


def stop(text):
    raise Building(text)


def load(bundle, capability="8.6", *, product=None, precision="fp16", on_step=stop, cache=None):
    return load_engine(
        bundle, precision, product or rtx(RtxWithoutGpu()), gpu_of(capability), on_step=on_step, cache=cache
    )  # fmt: skip


@pytest.mark.parametrize("capability", ["8.6", "8.9"])
def test_an_engine_that_fits_is_taken_as_it_is(bundle, with_engine, engine_of_86, capability):
    """RTX runs it on each GPU that it lists; what is deserialised is the file's bytes, and the runtime is kept."""
    module = RtxWithoutGpu()
    loaded = load(with_engine(bundle), capability, product=rtx(module))
    assert module.deserialised == [engine_of_86.path.read_bytes()]
    assert loaded.engine.content is module.deserialised[0]
    assert (loaded.path, loaded.facts) == (bundle.path / ENGINE, engine_of_86.facts)
    assert f"{ENGINE} of the bundle, built for 8.6, 8.9" in loaded.reason


def test_one_that_such_a_gpu_has_proven_comes_first(bundle, with_engine):
    """Of several that fit."""
    with_engine(bundle)
    second = bundle.path / "model.fp16.zz.engine"
    second.write_bytes((bundle.path / ENGINE).read_bytes())
    facts = json.loads(facts_path(bundle.path / ENGINE).read_text())
    facts_path(second).write_text(json.dumps(facts | {"verified": True, "verified_on": ["8.9"]}))
    card = json.loads((bundle.path / "model.json").read_text())
    card["files"][second.name] = card["files"][ENGINE]
    (bundle.path / "model.json").write_text(json.dumps(card))
    assert load(bundle, "8.9").path == second
    assert load(bundle, "8.6").path == bundle.path / ENGINE


@pytest.mark.parametrize(
    ("changed", "capability", "why"),
    [
        ({}, "12.0", "was built for 8.6, 8.9, this GPU is 12.0"),
        ({"product_version": "1.2"}, "8.6", f"was built by TensorRT for RTX 1.2, this is {tensorrt_rtx.__version__}"),
        ({"product": "tensorrt"}, "8.6", "is for TensorRT, this is TensorRT for RTX"),
        ({"onnx_sha256": "b" * 64}, "8.6", "was built from another file than this model.fp16.onnx"),
        ({"facts": {"precision": "fp32"}}, "8.6", "is fp32, expected fp16"),
        ({"facts": {"sha256": "c" * 64}}, "8.6", "lies beside the facts of another engine"),
    ],
)  # fmt: skip
def test_an_engine_that_does_not_fit_is_told_why_and_built_anew(bundle, with_engine, changed, capability, why):
    """Nothing of it is deserialised."""
    module = RtxWithoutGpu()
    with pytest.raises(Building) as building:
        load(with_engine(bundle, **changed), capability, product=rtx(module))
    assert str(building.value) == f"building the fp16 engine of own.model for A GPU ({capability}): {ENGINE} {why}"
    assert module.deserialised == []


@pytest.mark.parametrize(("text", "why"), [(None, "is missing"), ("{", "cannot be read"), ("{}", "12 problem")])
def test_an_engine_without_usable_facts_is_built_anew(bundle, with_engine, text, why):
    """Nothing tells what it was built for."""
    with_engine(bundle)
    facts = facts_path(bundle.path / ENGINE)
    facts.write_text(text) if text else facts.unlink()
    with pytest.raises(Building, match=f"has no facts that can be used .*{why}"):
        load(bundle)


def test_an_engine_that_was_deleted_is_built_anew(bundle, with_engine):
    """Engines are large; who deletes one gets another."""
    with_engine(bundle)
    (bundle.path / ENGINE).unlink()
    with pytest.raises(Building, match=f"{ENGINE} is missing"):
        load(bundle)


def test_an_engine_of_tensorrt_is_for_one_kind_of_gpu(bundle, with_engine):
    """Two in the list are not what TensorRT builds."""
    product = Product(PRODUCTS["tensorrt"], RtxWithoutGpu(), "11.0")
    of_tensorrt = {"product": "tensorrt", "product_version": "11.0"}
    assert load(with_engine(bundle, compute_capabilities=["8.6"], **of_tensorrt), product=product).engine
    with pytest.raises(DeviceError, match=r"got compute capability 8.6, expected .*CUDA_VISIBLE_DEVICES"):
        load(with_engine(bundle, compute_capabilities=["8.6", "8.9"], **of_tensorrt), product=product)


def test_changed_bytes_are_refused_and_left_alone(bundle, with_engine):
    """An engine of the card whose file is another is an error: it is neither deserialised nor silently replaced."""
    with_engine(bundle)
    path, module = bundle.path / ENGINE, RtxWithoutGpu()
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    with pytest.raises(ModelError, match=r"got sha256 .*expected.* or delete this file"):
        load(bundle, product=rtx(module))
    assert module.deserialised == []
    assert path.read_bytes() == changed


def test_a_changed_onnx_file_is_not_built(bundle):
    """Its sha256 is looked at before a parser sees it, and nothing is left."""
    (bundle.path / "model.fp16.onnx").write_bytes(convolutions(channels=8))
    with pytest.raises(ModelError, match="the file is not the one"):
        load(bundle, on_step=lambda _: None)
    assert files(bundle.path) == ["model.fp16.onnx", "model.json"]


def test_an_onnx_file_that_changes_during_the_build_makes_no_engine(bundle, monkeypatch):
    """What the builder has read is looked at as well."""

    def build_other(onnx, *args, **keywords):
        onnx.write_bytes(convolutions(channels=8))
        return build_engine(onnx, *args, **keywords)

    build_engine = rebuilding.build_engine
    monkeypatch.setattr(rebuilding, "build_engine", build_other)
    with pytest.raises(ModelError, match="was built from another file"):
        load(bundle, on_step=lambda _: None)
    assert files(bundle.path) == ["model.fp16.onnx", "model.json"]


def test_an_engine_is_built_into_the_bundle(bundle, with_engine):
    """For this GPU, with the batches and options of the engine that did not fit; a later run takes it as it is."""
    options = BuilderOptions(float32="tf32")
    steps, module = [], RtxWithoutGpu()
    loaded = load(with_engine(bundle, options=options), "12.0", product=rtx(module), on_step=steps.append)
    built = bundle.path / "model.fp16.rtx-sm120.engine"
    assert len(steps) == 1
    assert "was built for 8.6, 8.9, this GPU is 12.0" in loaded.reason
    assert (loaded.path, loaded.facts) == (built, read_facts(built))
    identity = loaded.facts.identity
    assert identity.profiles == [Profile(side=64, batch_smallest=1, batch_usual=2, batch_largest=3)]
    assert (identity.options, identity.compute_capabilities) == (options, ["12.0"])
    assert module.deserialised == [built.read_bytes()]
    assert files(bundle.path) == sorted(
        ["model.fp16.onnx", "model.json", ENGINE, f"{ENGINE}.json", built.name, f"{built.name}.json"]
    )
    entry = open_bundle(bundle.path).card.files[built.name]
    assert (entry.kind, entry.precision, entry.bytes) == ("engine", "fp16", built.stat().st_size)
    again = load(bundle, "12.0")  # the bundle as it was opened before
    assert again.path == built
    assert load(bundle, "8.9").path.name == ENGINE


def sha256_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_older_engine_of_the_same_name_is_replaced(bundle, with_engine, engine_of_86, monkeypatch):
    """After an update of the product. Ended between the file and the card, the card tells of neither."""
    name = "model.fp16.rtx-sm86.engine"
    with_engine(bundle, name=name, product_version="1.2.0")

    def end(_folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(rebuilding, "sync_folder", end)
        with pytest.raises(KeyboardInterrupt):
            load(bundle, on_step=lambda _: None)
    assert sha256_of(bundle.path / name) != engine_of_86.facts.sha256
    assert name not in open_bundle(bundle.path).card.files
    loaded = load(bundle, on_step=lambda _: None)
    assert open_bundle(bundle.path).card.files[name].sha256 == loaded.facts.sha256 == sha256_of(bundle.path / name)


def test_what_was_installed_is_left_as_it_was(bundle, tmp_path, monkeypatch, caplog):
    """The built-in model's engine goes into the user's own folder, where a later run finds it, if it is whole."""
    monkeypatch.setattr(rebuilding, "BUILTIN", bundle.path)
    cache = tmp_path / "app" / "engines"
    with pytest.raises(OutputError, match="no other place"):
        load(bundle)
    cache.mkdir(parents=True)
    cache.chmod(0o775)
    loaded = load(bundle, on_step=lambda _: None, cache=cache)
    assert files(bundle.path) == ["model.fp16.onnx", "model.json"]
    assert loaded.path.parent == cache / loaded.facts.key
    assert files(cache) == [loaded.facts.key]
    assert cache.stat().st_mode & 0o077 == 0
    module = RtxWithoutGpu()
    again = load(bundle, cache=cache, product=rtx(module))
    assert (again.path, again.facts) == (loaded.path, loaded.facts)
    assert module.deserialised == [loaded.path.read_bytes()]
    with pytest.raises(Building):
        load(bundle, "8.9", cache=cache)
    loaded.path.write_bytes(b"changed")
    with caplog.at_level(logging.WARNING), pytest.raises(Building):
        load(bundle, cache=cache)
    assert "got sha256" in caplog.text
    assert load(bundle, on_step=lambda _: None, cache=cache).facts.sha256 == sha256_of(loaded.path)


@pytest.mark.skipif(os.geteuid() != 0, reason="files can be given away by root alone")
def test_another_users_engines_are_not_used(bundle, tmp_path, monkeypatch, caplog):
    """Neither a file in the own folder nor a whole folder: the sha256 beside an engine says nothing of who wrote it."""
    monkeypatch.setattr(rebuilding, "BUILTIN", bundle.path)
    loaded = load(bundle, on_step=lambda _: None, cache=tmp_path / "engines")
    os.chown(loaded.path, 65534, 65534)
    with caplog.at_level(logging.WARNING), pytest.raises(Building):
        load(bundle, cache=tmp_path / "engines")
    assert "belongs to another user" in caplog.text
    os.chown(tmp_path / "engines", 65534, 65534)
    with pytest.raises(OutputError, match="belongs to another user"):
        load(bundle, cache=tmp_path / "engines")


def without_rights_of_root():
    cap_dac_override, drop_from_bounding_set = 1, 24
    ctypes.CDLL(None).prctl(drop_from_bounding_set, cap_dac_override)


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )  # fmt: skip


def test_a_bundle_that_cannot_be_written_to_is_left_alone(bundle, tmp_path):
    """Its engine is built into the user's own folder."""
    bundle.path.chmod(0o555)
    with start(bundle.path, "8.6", tmp_path / "engines", preexec_fn=without_rights_of_root) as process:
        said, errors = process.communicate(timeout=60)
    bundle.path.chmod(0o755)
    assert process.returncode == 0, errors
    assert files(bundle.path) == ["model.fp16.onnx", "model.json"]
    assert Path(json.loads(said.splitlines()[-1])["path"]).parent.parent == tmp_path / "engines"


def test_two_processes_build_one_engine(bundle):
    """The second waits for the first and takes what it has built."""
    lock = os.open(bundle.path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with start(bundle.path, "8.6") as one, start(bundle.path, "8.6") as other:
        assert all("waiting for another process" in process.stdout.readline() for process in (one, other))
        os.close(lock)
        said = [process.communicate(timeout=60) for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), said
    assert "".join(out for out, _ in said).count("building the fp16 engine") == 1
    answers = [json.loads(out.splitlines()[-1]) for out, _ in said]
    assert answers[0] == answers[1]
    assert answers[0]["sha256"] == sha256_of(Path(answers[0]["path"]))
    assert load(bundle).facts.sha256 == answers[0]["sha256"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_ended_build_leaves_nothing(write_bundle, number):
    """A bundle is as it was; what a SIGKILL leaves is hidden, and gone with the next build after its builder."""
    folder = write_bundle(
        {"model.fp16.onnx": attention(blocks=400)}, {"model.fp16.onnx": ("onnx", "fp16")}, sides=(32,)
    )
    before = (folder / "model.json").read_bytes()
    with start(folder, "8.6") as process:
        assert "building" in process.stdout.readline()
        while not list(folder.glob(".building-*/.engine-*/")):
            assert process.poll() is None
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode != 0
    assert bool(list(folder.glob(".building-*"))) == (number == signal.SIGKILL)
    give_up = time.monotonic() + 30
    while True:
        with pytest.raises(Building):
            load(open_bundle(folder))
        if not list(folder.glob(".building-*")) or time.monotonic() > give_up:
            break
    assert files(folder) == ["model.fp16.onnx", "model.json"]
    assert (folder / "model.json").read_bytes() == before


def test_each_precision_has_its_own_graph_and_engines(write_bundle, with_engine):
    """An fp16 engine is not taken for fp32; int8 engines are built from the graph that is meant for them."""
    contents = {"model.onnx": b"32", "model.fp16.onnx": convolutions(), "model.int8.onnx": b"8", "ints.onnx": b"engine"}
    entries = dict(
        zip(contents, [("onnx", "fp32"), ("onnx", "fp16"), ("onnx", "int8"), ("engine-onnx", "int8")], strict=True)
    )
    bundle = with_engine(open_bundle(write_bundle(contents, entries)))
    assert load(bundle, precision="fp16").path.name == ENGINE
    for precision in ("fp32", "int8"):
        with pytest.raises(Building, match=f"the bundle holds no {precision} engine"):
            load(bundle, precision=precision)
    with pytest.raises(ModelError, match=r"ints\.onnx: .*problem"):
        load(bundle, precision="int8", on_step=lambda _: None)
    del contents["ints.onnx"], contents["model.onnx"]
    bundle = open_bundle(write_bundle(contents, entries, name="other.model"))
    with pytest.raises(ModelError, match="no int8 ONNX file for engines"):
        load(bundle, precision="int8")
    with pytest.raises(ModelError, match="holds no fp32 ONNX file"):
        load(bundle, precision="fp32")


def test_a_gpu_that_the_product_does_not_build_for_is_refused(bundle):
    """With those that it does, and another way."""
    with pytest.raises(DeviceError, match=r"got compute capability 9.0, expected one of 7.5, .*pip install"):
        load(bundle, "9.0")


@pytest.mark.parametrize(
    ("module", "error", "said"),
    [
        (RtxWithoutGpu(errors=["it is odd", "very odd"]), ModelError, "it is odd\n  very odd"),
        (RtxWithoutGpu(errors=["CUDA: out of memory"]), DeviceMemoryError, "out of memory"),
        (RtxWithoutGpu(validity="INVALID", flags=["MALFORMED_ENGINE"]), ModelError, "malformed engine"),
        (RtxWithoutGpu(validity="INVALID", flags=["OLD_CUDA_DRIVER"]), DeviceError, "old cuda driver"),
        (RtxWithoutGpu(validity="INVALID", flags=["INSUFFICIENT_GPU_MEMORY"]), DeviceMemoryError, "gpu memory"),
    ],
)
def test_an_engine_that_the_product_refuses_is_an_error_with_its_words(bundle, with_engine, module, error, said):
    """Whose fault it is makes the error; what is refused by its head is not loaded."""
    with pytest.raises(error) as refused:
        load(with_engine(bundle), product=rtx(module))
    assert type(refused.value) is error
    assert said in str(refused.value)
    assert len(module.deserialised) == len(module.errors[:1])


@pytest.mark.skipif(present_compute_capability() is not None, reason="there is a GPU")
def test_without_a_gpu_the_products_own_words_are_passed_on(bundle, with_engine):
    """`tensorrt_rtx` itself."""
    with pytest.raises(ModelError, match="CUDA driver version is insufficient"):
        load(with_engine(bundle), product=rtx(tensorrt_rtx))
