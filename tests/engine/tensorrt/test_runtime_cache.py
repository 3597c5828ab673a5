"""The kernels that TensorRT for RTX compiled, kept from run to run."""

import logging
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tensorrt_rtx

from sennet_engine.tensorrt.loading import load_engine
from sennet_engine.tensorrt.products import PRODUCTS, Product
from sennet_engine.tensorrt.runtime_cache import CompiledKernels

from .rtx_without_gpu import RtxWithoutGpu, gpu_of, rtx


class Kernels:
    """A runtime cache as RTX makes them: takes only what `here` made."""

    def __init__(self, here):
        self.content, self._here = b"", here

    def deserialize(self, content):
        if not content.startswith(self._here):
            return False
        self.content = content
        return True

    def compile(self):
        """What running tiles does; whether there was anything to do."""
        before, self.content = self.content, self._here + b"kernels"
        return before != self.content

    def serialize(self):
        return memoryview(self.content)


@pytest.fixture
def start(bundle, with_engine, tmp_path):
    """Begin a run on a machine with such kernels."""
    loaded = load_engine(
        with_engine(bundle), "fp16", rtx(RtxWithoutGpu()), gpu_of("8.6"), on_step=lambda _: None, cache=None
    )

    def run(capability="8.6", *, folder=tmp_path / "engines", here=b"driver 1: ", product=loaded.product):
        config = SimpleNamespace(create_runtime_cache=lambda: Kernels(here))
        engine = SimpleNamespace(create_runtime_config=lambda: config)
        return CompiledKernels(replace(loaded, engine=engine, product=product), gpu_of(capability), folder=folder)

    return run


def test_kernels_of_an_earlier_run_are_found(start, tmp_path):
    """On the same kind of GPU; another one, and another driver, compile their own."""
    kernels = start()
    assert kernels.runtime_cache.compile()
    kernels.keep()
    (kept,) = (tmp_path / "engines").iterdir()
    assert (tmp_path / "engines").stat().st_mode & 0o077 == 0
    written = kept.stat().st_mtime_ns
    kernels = start()
    assert not kernels.runtime_cache.compile()
    kernels.keep()
    assert kept.stat().st_mtime_ns == written
    assert start("8.9").runtime_cache.compile()
    kernels = start(here=b"driver 2: ")
    assert kernels.runtime_cache.compile()
    kernels.keep()
    assert not start(here=b"driver 2: ").runtime_cache.compile()


@pytest.mark.parametrize("harm", ["changed", "cut", "given away"])
def test_kernels_that_are_not_as_they_were_written_are_not_used(start, tmp_path, caplog, harm):
    """They are code for the GPU: changed, cut short or another user's, they are compiled again."""
    if harm == "given away" and os.geteuid() != 0:
        pytest.skip("files can be given away by root alone")
    kernels = start()
    kernels.runtime_cache.compile()
    kernels.keep()
    (kept,) = (tmp_path / "engines").iterdir()
    content = kept.read_bytes()
    kept.write_bytes({"changed": content[:-1] + b"S", "cut": content[:10]}.get(harm, content))
    if harm == "given away":
        os.chown(kept, 65534, 65534)
    with caplog.at_level(logging.WARNING):
        assert start().runtime_cache.compile()
    assert "compiled again" in caplog.text


def test_without_a_folder_nothing_is_kept(start, tmp_path, caplog):
    """Nor where a folder cannot be made, which is a warning."""
    kernels = start(folder=None)
    assert kernels.runtime_cache.compile()
    kernels.keep()
    (tmp_path / "file").touch()
    kernels = start(folder=tmp_path / "file" / "engines")
    assert kernels.runtime_cache.compile()
    with caplog.at_level(logging.WARNING):
        kernels.keep()
    assert "are not kept" in caplog.text
    assert not (tmp_path / "engines").exists()


def test_engines_of_tensorrt_hold_finished_kernels(start, tmp_path):
    """There is nothing to keep."""
    kernels = start(product=Product(PRODUCTS["tensorrt"], SimpleNamespace(), "11.0"))
    assert kernels.runtime_cache is None
    kernels.keep()
    assert not (tmp_path / "engines").exists()


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        ("ICudaEngine", ["create_runtime_config"]),
        (
            "IRuntimeConfig",
            ["create_runtime_cache"],
        ),
        ("IRuntimeCache", ["serialize", "deserialize"]),
        ("Runtime", ["get_engine_validity", "deserialize_cuda_engine"]),
        ("EngineValidity", ["SUBOPTIMAL", "INVALID"]),
        (
            "EngineInvalidityDiagnostics",
            ["OLD_CUDA_DRIVER", "OLD_CUDA_RUNTIME", "CUDA_ERROR", "INSUFFICIENT_GPU_MEMORY"],
        ),
    ],
)
def test_the_names_that_loading_uses_exist(owner, names):
    """In the installed `tensorrt_rtx`."""
    assert all(hasattr(getattr(tensorrt_rtx, owner), name) for name in names)
