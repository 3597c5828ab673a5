"""`sennet-infer` that is ended goes on, and ends in the very bytes of a run that nobody disturbed."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

from sennet_engine import trial
from sennet_engine.pipeline.volume_run import VolumeRun

MAIN = "from sennet_engine.cli.infer import main; main()"


@pytest.fixture
def long_volume(write_volume):
    """240 planes in which a vessel wanders: 15 slabs of 16 planes along z."""
    z, y, x = np.ogrid[:240, :64, :72]
    tubes = (np.hypot(y - 32 - 20 * np.sin(z / 30), x - 36 - 25 * np.cos(z / 17)) < 6).astype(np.uint8)
    noise = np.random.default_rng(6).integers(0, 60, tubes.shape, dtype=np.uint8)
    return write_volume(90 * tubes + noise + 60, compression="zlib")


@pytest.fixture
def along_all_axes(strided_bundle):
    """An ensemble with planes along y and x, which go by files of bricks."""
    path = strided_bundle.with_name("all.toml")
    path.write_text('[[passes]]\nmodel = "strided.model"\naxes = "zyx"\n')
    return path


@pytest.fixture(scope="module")
def results():
    """What runs that nobody disturbed wrote, by their model: the same for all tests, in whatever folder it lies."""
    return {}


@pytest.fixture
def undisturbed(command, long_volume, files, results):
    """The files that a run of `model` writes."""

    def run(model):
        if model.name not in results:
            out = long_volume.with_name("undisturbed")
            assert command("sennet-infer", *options(long_volume, model), "--out", out).code == 0
            results[model.name] = files(out)
        return results[model.name]

    return run


@pytest.fixture
def interrupted(monkeypatch, command):
    """Let the command be interrupted in this process after so many units; how it ended."""

    def run(*arguments, units):
        real, left = VolumeRun._report, iter(range(units))

        def report(self, planes):
            real(self, planes)
            if planes and next(left, None) is None:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(VolumeRun, "_report", report)
            return command("sennet-infer", *arguments)

    return run


def options(volume, model, *more):
    """What all runs of a test are started with."""
    return [volume, "--model", model, "--runtime", "onnxruntime", "--probability", "--rle", *more]


def work_of(volume):
    """Where an interrupted run keeps what is done."""
    return volume.with_name(".volume.sennet.work")


@pytest.mark.parametrize(
    ("model", "number", "code"),
    [
        ("strided_bundle", signal.SIGKILL, -signal.SIGKILL),
        ("strided_bundle", signal.SIGTERM, 143),
        ("strided_bundle", signal.SIGINT, 130),
        ("along_all_axes", signal.SIGKILL, -signal.SIGKILL),
        ("along_all_axes", signal.SIGINT, 130),
    ],
)
def test_a_run_that_is_ended_goes_on(
    request, command, long_volume, tmp_path, files, summary, undisturbed, model, number, code
):
    """Nothing appears under the final name; the next run is told what to say; resumed, all files are the same."""
    model = request.getfixturevalue(model)
    arguments = options(long_volume, model)
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, *map(str, arguments), "--quiet"], stderr=subprocess.PIPE, text=True
    )
    journal = work_of(long_volume) / "journal"
    while not journal.exists() or journal.read_bytes().count(b"\n") < 4:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(number)
    _, printed = process.communicate()
    assert process.returncode == code
    assert ("go on with --resume" in printed) == (number != signal.SIGKILL)
    assert {one.name for one in tmp_path.glob("*volume.sennet*")} == {work_of(long_volume).name}

    refused = command("sennet-infer", *arguments)
    assert refused.code == 2
    assert "--resume" in refused.err
    assert "--overwrite" in refused.err

    assert command("sennet-infer", *arguments, "--resume").code == 0
    done = summary(long_volume.with_name("volume.sennet"))
    assert 0 < done["planes_resumed"] <= (240 if model.suffix == ".model" else 240 + 64 + 72)
    assert files(long_volume.with_name("volume.sennet")) == undisturbed(model)
    assert set(undisturbed(model)) == {"mask.tif", "probability.tif", "submission.csv", "preview.png"}
    assert not list(tmp_path.glob(".*.work"))


def test_an_interrupted_run_is_forgotten_when_asked(interrupted, command, long_volume, identity_bundle, summary):
    """--overwrite starts anew; with --resume as well it goes on, and replaces an earlier result at its end."""
    arguments = options(long_volume, identity_bundle)
    assert interrupted(*arguments, units=2).code == 130
    assert command("sennet-infer", *arguments, "--overwrite").code == 0
    assert summary(long_volume.with_name("volume.sennet"))["planes_resumed"] == 0
    assert interrupted(*arguments, "--overwrite", units=2).code == 130
    assert summary(long_volume.with_name("volume.sennet"))["planes_resumed"] == 0
    assert command("sennet-infer", *arguments, "--overwrite", "--resume").code == 0
    assert summary(long_volume.with_name("volume.sennet"))["planes_resumed"] == 48


def test_with_nothing_to_go_on_with_a_resume_starts_anew(command, volume, identity_bundle, summary):
    """One command serves a job that may have been interrupted."""
    assert command("sennet-infer", *options(volume, identity_bundle), "--resume").code == 0
    assert summary(volume.with_name("volume.sennet"))["planes_resumed"] == 0


CHANGES = [
    (["--threshold", 0.4], "threshold was 0.5, is 0.4"),
    (["--slab", 17], "slab_planes was 16, is 17"),  # as many slabs
    (["--window", "0,200"], "volume.window was"),
    (["--tile", 64], "passes was"),
    (["--runtime", "openvino"], 'runtime was "onnxruntime'),
    (["--scale", 1.5], "passes was"),
]


@pytest.mark.parametrize(("change", "told"), CHANGES, ids=lambda one: " ".join(map(str, one)))
def test_what_was_done_otherwise_is_not_gone_on_with(interrupted, command, long_volume, identity_bundle, change, told):
    """The message says what differs; what is done is still there for the run that it belongs to."""
    arguments = options(long_volume, identity_bundle)
    assert interrupted(*arguments, units=2).code == 130
    ran = command("sennet-infer", *arguments, *change, "--resume")
    assert ran.code == 2
    assert told in ran.err
    assert "--overwrite" in ran.err
    assert command("sennet-infer", *arguments, "--resume").code == 0


def test_another_volume_of_the_same_name_is_not_gone_on_with(interrupted, command, long_volume, identity_bundle):
    """The file has been written since."""
    arguments = options(long_volume, identity_bundle, "--window", "0,255")
    assert interrupted(*arguments, units=2).code == 130
    tifffile.imwrite(long_volume, tifffile.imread(long_volume)[:, ::-1])
    ran = command("sennet-infer", *arguments, "--resume")
    assert ran.code == 2
    assert "volume.modified was" in ran.err


def test_components_may_be_removed_by_another_size(interrupted, command, long_volume, identity_bundle, files, tmp_path):
    """That is done in the end: nothing that is finished depends on it."""
    arguments = options(long_volume, identity_bundle)
    assert command("sennet-infer", *arguments, "--min-voxels", 30, "--out", tmp_path / "undisturbed").code == 0
    assert interrupted(*arguments, "--min-voxels", 5, units=2).code == 130
    assert command("sennet-infer", *arguments, "--min-voxels", 30, "--resume").code == 0
    assert files(long_volume.with_name("volume.sennet")) == files(tmp_path / "undisturbed")


def test_a_run_goes_on_with_the_runtime_that_it_began_with(
    interrupted, command, long_volume, identity_bundle, summary, monkeypatch
):
    """Where a trial would find another one now: the two differ by a grey level, so a mask is made by one of them."""

    def faster(runtime):
        seconds = {"onnxruntime": 2.0, "openvino": 2.0} | {runtime: 1.0}
        measure = lambda tried, one: tried._found.setdefault(one, seconds[one.runtime])  # noqa: E731
        monkeypatch.setattr(trial._Trial, "_measure", measure)

    arguments = [long_volume, "--model", identity_bundle, "--tile", 32, "--no-skip"]
    monkeypatch.setattr(trial.OtherPrograms, "were_busy", lambda _self: True)
    faster("openvino")
    assert interrupted(*arguments, units=2).code == 130
    faster("onnxruntime")
    ran = command("sennet-infer", *arguments, "--resume")
    assert ran.code == 0, ran.err
    (runtime,) = summary(long_volume.with_name("volume.sennet"))["runtimes"].values()
    assert runtime.startswith("openvino ")
