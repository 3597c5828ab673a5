"""`sennet-infer --device cuda` from its command line to its mask, on simulated GPUs with the double of TensorRT."""

import json

import numpy as np
import pytest
import tifffile

from sennet_engine.device import cuda_driver
from sennet_engine.engine_file import Profile
from sennet_engine.gpu import choice
from sennet_engine.gpu import open as opening
from sennet_engine.gpu.present import Census, Gpu
from sennet_engine.preparation import prepared
from sennet_engine.reference import reference_mask
from sennet_engine.settings import InferSettings
from sennet_engine.volumes.open import open_volume
from sennet_engine.window import Window

from ...doubles.recording_tensorrt import RecordingTensorrt, answers_to
from ...doubles.simulated_gpu import SimulatedGpu
from ...doubles.tensorrt_bench import loaded_engine

GPUS = tuple(Gpu(index, "NVIDIA simulated", "8.6", 2**30) for index in range(2))
SIDE = 32
WINDOW = Window(0, 255)


class Kernels:
    """In place of those that RTX compiles."""

    runtime_cache = None
    kept = 0

    def __init__(self, _loaded, _gpu, *, folder):
        assert folder.name == "engines"

    def keep(self):
        Kernels.kept += 1


@pytest.fixture
def machine(monkeypatch):
    """A machine with two GPUs, cuda.core and TensorRT for RTX, whose engine takes tiles of one side."""

    def made(seed=0, *, side=SIDE, gpus=GPUS, **engine):
        gpu = SimulatedGpu(seed, devices=len(GPUS))
        profiles = (Profile(side=side, batch_smallest=1, batch_usual=2, batch_largest=4),)
        trt = RecordingTensorrt(gpu, profiles, **engine)
        monkeypatch.setattr(choice, "census", lambda: Census(gpus, driver="13.2"))
        monkeypatch.setattr(choice, "_version", lambda name: {"tensorrt-rtx": "1.7", "cuda-core": "1.2"}.get(name, ""))
        monkeypatch.setattr(cuda_driver, "_installed_core", lambda: gpu.core)
        monkeypatch.setattr(opening, "open_product", lambda _: None)
        monkeypatch.setattr(opening, "load_engine", lambda *_, **__: loaded_engine(trt))
        monkeypatch.setattr(opening, "CompiledKernels", Kernels)
        Kernels.kept = 0
        return gpu

    return made


@pytest.fixture
def volume(tmp_path):
    """37 planes, of which the sides are no multiples of anything."""
    stack = np.random.default_rng(8).integers(0, 256, (37, 75, 90), dtype=np.uint8)
    np.save(tmp_path / "volume.npy", stack)
    return tmp_path / "volume.npy"


class OnHost:
    """Answers what the engine computes."""

    def predict(self, tiles):
        return answers_to(tiles)


def expected_mask(path, bundle):
    """What the engine's answers mean, tile by tile, with the plan of a run on a GPU."""
    settings = InferSettings(model=bundle, device="cuda", window=WINDOW, skip=False, threshold=0.502, batch=1,
                             engine_cache=path.with_name("engines"))  # fmt: skip
    with open_volume(path) as volume, prepared(volume, settings) as ready:
        return reference_mask(volume, dict.fromkeys(ready.predictors, OnHost()), ready.plan, window=WINDOW)


def options(volume, bundle, device):
    return [
        volume, "--model", bundle, "--device", device, "--window", "0,255", "--no-skip", "--quiet", "--slab", "5",
        "--threshold", "0.502", "--overwrite",
    ]  # fmt: skip


@pytest.mark.parametrize("device", ["auto", "cuda:1", "cuda:0,cuda:1"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_mask_is_that_of_the_engine(command, machine, volume, identity_bundle, device, seed):
    """On one GPU and on two; nothing of their memory is left, and the summary tells what computed."""
    gpu = machine(seed)
    ran = command("sennet-infer", *options(volume, identity_bundle, device))
    assert ran.code == 0, ran.err
    summary = json.loads((volume.with_name("volume.sennet") / "summary.json").read_text())
    for index in (0, 1):
        assert (f"cuda:{index}" in summary["device"]) == (str(index) in device or (device, index) == ("auto", 0))
    assert summary["lost_devices"] == 0
    assert "TensorRT for RTX" in next(iter(summary["runtimes"].values()))
    assert 1 <= summary["batch"] <= 4
    assert Kernels.kept == len(summary["device"].split("cuda:")) - 1
    assert all(gpu.bytes_in_use(index) == 0 for index in (0, 1, None))
    mask = tifffile.imread(volume.with_name("volume.sennet") / "mask.tif") > 0
    assert 0.3 < mask.mean() < 0.7
    assert (mask == expected_mask(volume, identity_bundle)).all()


def test_a_dry_run_tells_what_it_will_take(command, machine, volume, identity_bundle):
    machine()
    ran = command("sennet-infer", *options(volume, identity_bundle, "cuda"), "--dry-run")
    assert ran.code == 0, ran.err
    assert "cuda:0 (NVIDIA simulated), by tensorrt-rtx 1.7" in ran.out
    assert not volume.with_name("volume.sennet").exists()


def test_an_engine_that_overflows_stops_the_run(command, machine, volume, identity_bundle):
    """The double has no finite answer to tiles that begin with 200."""
    machine(watches_overflow=True)
    stack = np.load(volume)
    stack[:, ::16, ::16] = 7
    stack[20, 0, 0] = 200
    np.save(volume, stack)
    ran = command("sennet-infer", *options(volume, identity_bundle, "cuda"))
    assert ran.code == 2
    assert "at (0, 0) of plane z = 20 with NaN or infinity" in ran.err


def test_a_gpu_that_breaks_ends_the_run_and_keeps_what_is_done(command, machine, volume, identity_bundle):
    """With nobody to take over, the error is told, and --resume goes on."""
    gpu = machine()
    gpu.fails = {"copy": 300}
    ran = command("sennet-infer", *options(volume, identity_bundle, "cuda"), "--batch", "2")
    assert ran.code == 2
    assert "cuda:0: failed" in ran.err
    machine()
    again = [one for one in options(volume, identity_bundle, "cuda") if one != "--overwrite"]
    ran = command("sennet-infer", *again, "--resume")
    assert ran.code == 0, ran.err
    mask = tifffile.imread(volume.with_name("volume.sennet") / "mask.tif") > 0
    assert (mask == expected_mask(volume, identity_bundle)).all()
    summary = json.loads((volume.with_name("volume.sennet") / "summary.json").read_text())
    assert (summary["batch"], summary["planes_resumed"] > 0) == (2, True)


def test_background_is_audited_with_the_tiles_that_the_engine_takes(command, machine, volume, identity_bundle):
    """The card's smallest side would do, and the engine does not take it."""
    stack = np.zeros((37, 160, 160), np.uint8)
    stack[:, 40:80, 40:80] = np.random.default_rng(2).integers(60, 256, (37, 40, 40), dtype=np.uint8)
    np.save(volume, stack)
    machine(side=64)
    skipping = [one for one in options(volume, identity_bundle, "cuda") if one != "--no-skip"]
    ran = command("sennet-infer", *skipping)
    assert ran.code == 0, ran.err
    summary = json.loads((volume.with_name("volume.sennet") / "summary.json").read_text())
    assert summary["skipped_share"] > 0.3
    assert summary["audit"]["tiles"] > 0


def test_what_another_kind_of_gpu_has_done_is_not_mixed_with(command, machine, volume, identity_bundle):
    """Its answers may differ by a grey level."""
    machine().fails = {"copy": 300}
    assert command("sennet-infer", *options(volume, identity_bundle, "cuda"), "--batch", "2").code == 2
    machine(gpus=(Gpu(0, "NVIDIA other", "8.6", 2**30),))
    again = [one for one in options(volume, identity_bundle, "cuda") if one != "--overwrite"]
    ran = command("sennet-infer", *again, "--resume")
    assert ran.code == 2
    assert "NVIDIA other" in ran.err
