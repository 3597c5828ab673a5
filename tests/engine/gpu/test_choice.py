"""What a run computes on: the best that works, with the reason; what was asked for is never replaced in silence."""

import numpy as np
import pytest

from sennet_engine.errors import ConfigError, DeviceError, MissingExtraError
from sennet_engine.gpu import choice
from sennet_engine.gpu.choice import device_choices
from sennet_engine.gpu.present import Census, Gpu

GPUS = tuple(Gpu(index, f"NVIDIA {index}", "9.0", 2**36) for index in range(2))
ALL = {"tensorrt": "11.4", "tensorrt-rtx": "1.7", "onnxruntime-gpu": "1.31", "cuda-core": "1.2"}


@pytest.fixture
def machine(monkeypatch):
    """A machine with `gpus` and the packages `installed`."""

    def made(gpus=GPUS, installed=ALL):
        monkeypatch.setattr(choice, "census", lambda: Census(gpus, "" if gpus else "no NVIDIA driver was found"))
        monkeypatch.setattr(choice, "_version", lambda package: installed.get(package, ""))

    return made


def told(device="auto", runtime="auto"):
    """(numbers of the GPUs, runtime) of every choice."""
    return [([gpu.index for gpu in one.gpus], one.runtime) for one in device_choices(device, runtime)]


def test_auto_tries_the_first_gpu_and_ends_on_the_processors(machine):
    machine()
    assert told() == [([0], "tensorrt"), ([0], "tensorrt-rtx"), ([0], "onnxruntime-cuda"), ([], "auto")]
    machine(installed={"onnxruntime-gpu": "1.31", "cuda-core": "1.2"})
    assert told() == [([0], "onnxruntime-cuda"), ([], "auto")]


@pytest.mark.parametrize(
    ("gpus", "installed", "reason"),
    [
        ((), ALL, "cpu: no NVIDIA driver was found"),
        (GPUS, {}, "although NVIDIA 0 is there: tensorrt is not installed; run: pip install 'sennet[gpu]'"),
        (GPUS, {"tensorrt-rtx": "1.7"}, "cuda-core is not installed; run: pip install 'sennet[rtx]'"),
    ],
)
def test_auto_says_why_it_computes_on_the_processors(machine, gpus, installed, reason):
    machine(gpus, installed)
    (only,) = device_choices("auto", "auto")
    assert (only.gpus, only.runtime) == ((), "auto")
    assert reason in only.reason


def test_what_is_asked_for_is_all_that_is_tried(machine):
    machine()
    assert told("cuda:1,cuda:0", "tensorrt-rtx") == [([1, 0], "tensorrt-rtx")]
    assert told("cuda") == [([0], "tensorrt"), ([0], "tensorrt-rtx"), ([0], "onnxruntime-cuda")]
    assert told("auto", "onnxruntime-tensorrt") == [([0], "onnxruntime-tensorrt")]
    assert told("cpu") == [([], "auto")]
    assert told("auto", "openvino") == told("cpu", "openvino") == [([], "openvino")]


@pytest.mark.parametrize(
    ("device", "runtime", "error", "message"),
    [
        ("gpu", "auto", ConfigError, "got 'gpu', expected auto, cpu, cuda, or GPUs by number"),
        ("cuda:0,cuda:0", "auto", ConfigError, "each once"),
        ("cuda:-1", "auto", ConfigError, "got 'cuda:-1'"),
        ("", "auto", ConfigError, "got ''"),
        ("auto", "tflite", ConfigError, "got 'tflite', expected auto or one of onnxruntime, openvino, tensorrt"),
        ("cpu", "tensorrt", ConfigError, "needs a GPU; take --device cuda"),
        ("cuda", "openvino", ConfigError, "computes on processors"),
        ("cuda:2", "auto", DeviceError, r"got cuda:2, expected one of cuda:0 \(NVIDIA 0\), cuda:1 \(NVIDIA 1\)"),
    ],
)
def test_what_cannot_be_is_refused(machine, device, runtime, error, message):
    machine()
    with pytest.raises(error, match=message):
        device_choices(device, runtime)


@pytest.mark.parametrize(("device", "runtime"), [("cuda", "auto"), ("cuda:0", "tensorrt"), ("auto", "tensorrt-rtx")])
def test_a_gpu_that_was_asked_for_and_is_not_there_is_an_error(machine, device, runtime):
    machine(gpus=())
    with pytest.raises(DeviceError, match=r"a GPU was asked for, and no NVIDIA driver was found; take --device cpu"):
        device_choices(device, runtime)


def test_a_gpu_that_was_asked_for_without_its_packages_names_the_extra(machine):
    machine(installed={})
    with pytest.raises(MissingExtraError, match=r"pip install 'sennet\[gpu\]' or 'sennet\[rtx\]'"):
        device_choices("cuda", "auto")
    with pytest.raises(MissingExtraError, match=r"tensorrt-rtx is not installed; run: pip install 'sennet\[rtx\]'$"):
        device_choices("cuda", "tensorrt-rtx")


def test_a_run_on_a_machine_without_a_gpu_says_so(command, machine, identity_bundle, tmp_path):
    """Exit code 2 and nothing written where a GPU was asked for; the reason in the output where none was."""
    machine(gpus=())
    np.save(tmp_path / "volume.npy", np.zeros((2, 40, 40), np.uint8))
    ran = command("sennet-infer", tmp_path / "volume.npy", "--model", identity_bundle, "--device", "cuda:0", "--quiet")
    assert ran.code == 2
    assert "a GPU was asked for, and no NVIDIA driver was found" in ran.err
    assert not (tmp_path / "volume.sennet").exists()
    ran = command("sennet-infer", tmp_path / "volume.npy", "--model", identity_bundle, "--quiet")
    assert ran.code == 0, ran.err
    assert "device   cpu: no NVIDIA driver was found" in ran.out
