"""Which device, precision and batch a run is prepared for, on machines with and without a GPU that works."""

import json
import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from sennet_engine.bundle import BUILTIN
from sennet_engine.errors import ConfigError, DeviceError, EngineError
from sennet_engine.gpu import choice
from sennet_engine.gpu.present import Census, Gpu
from sennet_engine.preparation import Interrupted, prepared
from sennet_engine.settings import InferSettings
from sennet_engine.volumes.open import open_volume

GPU = Gpu(0, "NVIDIA H100", "9.0", 2**36)


class NotToday(DeviceError):
    """What the GPU of these tests says."""


@pytest.fixture
def gpu_that_fails(monkeypatch):
    """A machine whose GPU is found, and fails when it is to be used; the tasks that it was given."""
    tasks = []

    def on_gpus(task, _loaded, chosen):
        tasks.append((chosen.runtime, [one.precision for one in task.passes]))
        raise (EngineError if chosen.runtime == "tensorrt" else NotToday)(f"{chosen.runtime} does not work")

    monkeypatch.setattr(choice, "census", lambda: Census((GPU,)))
    installed = {"tensorrt": "11.4", "onnxruntime-gpu": "1.31", "cuda-core": "1.2"}
    monkeypatch.setattr(choice, "_version", lambda package: installed.get(package, ""))
    monkeypatch.setitem(sys.modules, "sennet_engine.gpu.computing", SimpleNamespace(on_gpus=on_gpus))
    return tasks


@pytest.fixture
def volume(tmp_path):
    np.save(tmp_path / "volume.npy", np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8))
    return tmp_path / "volume.npy"


def ready(path, *, interrupted=None, **settings):
    """What a run of `settings` starts from: the device, runtimes, precisions and the batch."""
    with (
        open_volume(path) as volume,
        prepared(volume, InferSettings(**settings), interrupted=interrupted) as found,
    ):
        runtimes = {one.runtime for one in found.choices.values()}
        return found.device, runtimes, [one.precision for one in found.passes], found.request.batch


def test_a_gpu_that_fails_is_left_for_the_next_that_works(volume, gpu_that_fails, caplog):
    """Each failure is a warning, and the reason is kept; networks are in half on a GPU, and in float32 here."""
    with caplog.at_level(logging.WARNING):
        device, runtimes, precisions, batch = ready(volume, model=BUILTIN)
    assert gpu_that_fails == [("tensorrt", ["fp16"]), ("onnxruntime-cuda", ["fp16"])]
    assert device.startswith("cpu, since the GPU could not be used")
    assert "tensorrt does not work" in device
    assert "onnxruntime-cuda does not work" in device
    assert len([one for one in caplog.records if "not used" in one.message]) == 2
    assert (precisions, batch) == (["fp32"], 1)
    assert runtimes <= {"onnxruntime", "openvino"}


def test_a_precision_that_is_asked_for_is_kept_on_every_device(volume, gpu_that_fails):
    assert ready(volume, model=BUILTIN, precision="int8", batch=3)[2:] == (["int8"], 3)
    assert gpu_that_fails[0] == ("tensorrt", ["int8"])


def test_a_model_without_half_is_computed_in_float32(volume, gpu_that_fails, identity_bundle):
    with pytest.raises(EngineError):
        ready(volume, model=identity_bundle, device="cuda", runtime="tensorrt")
    assert gpu_that_fails == [("tensorrt", ["fp32"])]


def test_a_gpu_that_was_asked_for_and_fails_is_an_error(command, volume, gpu_that_fails):
    """Another runtime on the same GPU may be tried, the processors are not."""
    ran = command("sennet-infer", volume, "--device", "cuda", "--quiet")
    assert ran.code == 2
    assert [runtime for runtime, _ in gpu_that_fails] == ["tensorrt", "onnxruntime-cuda"]
    assert "onnxruntime-cuda does not work" in ran.err
    assert not volume.with_name("volume.sennet").exists()


def test_what_was_begun_on_the_processors_goes_on_there(volume, gpu_that_fails):
    """With the batch and the runtime that it was begun with."""
    interrupted = Interrupted({"builtin.model fp32": "onnxruntime"}, batch=2)
    device, runtimes, _, batch = ready(volume, model=BUILTIN, interrupted=interrupted)
    assert (gpu_that_fails, runtimes, batch) == ([], {"onnxruntime"}, 2)
    assert device == "cpu, where what is done was computed"


def test_what_was_begun_on_a_gpu_goes_on_there_or_not_at_all(volume, gpu_that_fails, monkeypatch):
    interrupted = Interrupted({"builtin.model fp16": "onnxruntime-cuda"}, batch=8)
    with pytest.raises(NotToday):
        ready(volume, model=BUILTIN, interrupted=interrupted)
    assert [runtime for runtime, _ in gpu_that_fails] == ["onnxruntime-cuda"]
    monkeypatch.setattr(choice, "census", lambda: Census((), "no NVIDIA driver was found"))
    with pytest.raises(ConfigError, match="was computed by onnxruntime-cuda, and this run would be on cpu"):
        ready(volume, model=BUILTIN, interrupted=interrupted)


def test_the_summary_tells_the_device(command, volume, gpu_that_fails):
    ran = command("sennet-infer", volume, "--quiet")
    assert ran.code == 0, ran.err
    summary = json.loads((volume.with_name("volume.sennet") / "summary.json").read_text())
    assert summary["device"] in ran.out
    assert "tensorrt does not work" in summary["device"]
    assert (summary["precision"], summary["batch"], summary["overflowed_tiles"]) == ("fp32", 1, {})


@pytest.mark.parametrize(("option", "value"), [("--cuda-graphs", "maybe"), ("--on-overflow", "ignore")])
def test_settings_that_are_none_are_refused(command, volume, option, value):
    ran = command("sennet-infer", volume, option, value, "--quiet")
    assert ran.code == 2
    assert f"got '{value}', expected one of" in ran.err
