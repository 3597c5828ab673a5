"""`sennet-bench gpu-check`: for real where there is no GPU; with made GPUs and a made `sennet-infer` for the rest."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sennet_bench.gpu_check import check, commands, links, marked_tests, promises, segmentations
from sennet_bench.gpu_check.check import STEPS, CheckRequest, GpuCheck, run_check
from sennet_bench.gpu_check.facts import facts_of_machine
from sennet_bench.gpu_check.masks import beyond_limit, difference_of
from sennet_bench.gpu_check.page import page_from_check, verdict_of
from sennet_bench.gpu_check.steps import Outcome
from sennet_bench.gpu_check.untried import untried_files
from sennet_bench.gpu_check.ways import FP32, WAYS
from sennet_bench.stack_files import write_stack
from sennet_engine.bundle import BUILTIN
from sennet_engine.gpu.present import Census, Gpu

CHECKOUT = Path(__file__).resolve().parents[2]
NO_GPU = Census((), "no NVIDIA driver was found (libcuda.so.1)")
H100, H100_TOO = (Gpu(index, "NVIDIA H100", "9.0", 80 << 30) for index in range(2))
TWO_GPUS = Census(tuple(Gpu(index, "NVIDIA RTX 6000", "8.9", 48 << 30) for index in range(2)))
SMALL = (4, 160, 160)

# Stands in for sennet-infer: what it does with a runtime and a precision is said by behaviour.json.
INFER = """
import json, os, signal, sys, time
from pathlib import Path
import tifffile
volume, *words = sys.argv[1:]
flags = {word for word in words if word in ("--overwrite", "--quiet", "--resume")}
words = [word for word in words if word not in flags]
options = dict(zip(words[::2], words[1::2]))
behaviour = json.loads(Path(__file__).with_name("behaviour.json").read_text())
out = Path(options["--out"])
way = behaviour.get(options["--runtime"] + " " + options["--precision"], {})
if "says" in way:
    sys.exit(way["says"])
if way.get("crashes"):
    print("CUDA error: an illegal memory access was encountered", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
if "--slab" in options and way.get("breaks"):
    sys.exit("error: cuda:0 fell off the bus")
if "--slab" in options and "--resume" not in flags and int(options["--slab"]) not in way.get("hurries", ()):
    work = out.with_name(f".{out.name}.work")
    work.mkdir()
    (work / "journal").write_text("plan\\n" * 5)
    time.sleep(60)
mask = tifffile.imread(Path(volume).with_name("labels.tif")) != 0
if options.get("--cuda-graphs") in way.get("graphs", ()) or "," in options["--device"] and way.get("several"):
    mask[0, 0, 0] ^= True
if way.get("moved"):
    mask[:, :, 1:] = mask[:, :, :-1].copy()
seen = out.with_suffix(".seen")
if way.get("wavers") and out.name == "tensorrt-fp16" and not seen.exists():
    mask[0, 0, 1] ^= True
seen.touch()
out.mkdir(exist_ok=True)
tifffile.imwrite(out / "mask.tif", mask.astype("uint8"), photometric="minisblack")
stages = {"wall": 0.5, "outside_network": 0.1, "read": 0.1, "compute": 0.3}
(out / "summary.json").write_text(json.dumps({
    "runtimes": {"builtin": options["--runtime"] + " 1.0"}, "voxels": mask.size, "stage_seconds": stages,
    "seconds_by_part": {"load": 0.2}, "planes_resumed": 4 if "--resume" in flags else 0,
}))
"""
CONTEXTS_CHILD = """
import json, sys
from pathlib import Path
*_, contexts, graphs, answer = sys.argv
Path(answer).write_text(json.dumps({"mpixels_per_second": 100.0, "answers_sha256": "a" * 64}))
"""


def made_facts(found):
    """Those of this machine, with GPUs in it."""
    here = facts_of_machine(NO_GPU)
    return replace(here, gpus=[f"cuda:{gpu.index} {gpu.name}" for gpu in found.gpus], why_none="", driver="580.0")


@pytest.fixture
def made_gpus(monkeypatch, tmp_path):
    """Two GPUs with a made sennet-infer; the behaviour of its runtimes is given, the check comes back."""
    for name, code in (("infer.py", INFER), ("contexts.py", CONTEXTS_CHILD)):
        (tmp_path / name).write_text(code)
    monkeypatch.setattr(commands, "INFER", (sys.executable, str(tmp_path / "infer.py")))
    monkeypatch.setattr(promises, "CONTEXTS_CHILD", (sys.executable, str(tmp_path / "contexts.py")))
    monkeypatch.setattr(check, "census", lambda: TWO_GPUS)
    monkeypatch.setattr(check, "facts_of_machine", made_facts)
    monkeypatch.setattr(segmentations, "installed", lambda _package: True)
    passed = marked_tests.MarkedTest("test_cuda::test_it", Outcome.PASSED, "", 0.1)
    step = marked_tests.Step("tests", "Tests that need a GPU", Outcome.PASSED, "1 passed", 1.0)
    monkeypatch.setattr(check, "run_marked_tests", lambda *_, **_options: (step, [passed]))

    def run(behaviour, *, ways=None, minutes=10.0):
        (tmp_path / "behaviour.json").write_text(json.dumps(behaviour))
        if ways is not None:
            monkeypatch.setattr(check, "WAYS", tuple(way for way in WAYS if way.key in ways))
        return run_check(CheckRequest(BUILTIN, SMALL, minutes), told=lambda _line: None)

    return run


def outcomes(found: GpuCheck):
    """By step."""
    return {step.key: str(step.outcome) for step in found.steps}


def step_of(found: GpuCheck, key):
    """The step of that name."""
    return next(step for step in found.steps if step.key == key)


def test_without_a_gpu_the_check_comes_to_its_end_and_says_why_nothing_is_proven(command, monkeypatch, tmp_path):
    """The reference is computed for real; all else is not run, with the reason at the top; exit code 1."""
    monkeypatch.setattr(check, "census", lambda: NO_GPU)
    ran = command("sennet-bench", "gpu-check", "--out", tmp_path / "out", "--volume", "4,160,160")
    assert ran.code == 1
    found = json.loads((tmp_path / "out" / "gpu-check.json").read_text())
    assert {step["key"]: step["outcome"] for step in found["steps"]} == {
        **dict.fromkeys(STEPS, "not run"), "reference": "passed",
    }  # fmt: skip
    assert {step["reason"] for step in found["steps"] if step["key"] != "reference"} == {NO_GPU.why_none}
    assert found["segmentations"][0]["mvoxels_per_second"] > 0
    assert not found["passed"]
    page = (tmp_path / "out" / "gpu-check.html").read_text()
    assert "No GPU was checked: no NVIDIA driver was found" in page.partition("<main>")[0]
    assert "no NVIDIA driver was found" in ran.out
    assert not any(outside in page for outside in ("<script", "<link", "src=", "@import", "url(http"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--volume", "1,2"], "--volume: got '1,2'"),
        (["--volume", "0,64,64"], "shape"),
        (["--minutes", "0"], "--minutes: got 0"),
        (["--model", "nowhere.model"], "is no model bundle"),
        (["--out", __file__], "cannot be written"),
    ],
)
def test_bad_input_ends_in_2(command, tmp_path, arguments, expected):
    """One message that names what was wrong."""
    out = [] if "--out" in arguments else ["--out", tmp_path / "out"]
    ran = command("sennet-bench", "gpu-check", *out, *arguments)
    assert ran.code == 2
    assert expected in ran.err


def test_a_gpu_that_does_all_passes(made_gpus):
    """Every step passed, each way has its figures, and the page says so at its top."""
    found = made_gpus({})
    assert outcomes(found) == dict.fromkeys(STEPS, "passed")
    assert found.passed
    assert [one.key for one in found.segmentations] == ["reference", *(way.key for way in WAYS)]
    assert found.segmentations[1].mvoxels_per_second == pytest.approx(np.prod(SMALL) / 0.5 / 1e6)
    assert step_of(found, "contexts").figures["3 contexts, graphs on"] == "100 Mpixel/s"
    assert "4 planes were found done" in step_of(found, "kill").reason
    assert all(file.proven for file in found.files)
    page = page_from_check(found)
    assert "This GPU does what the engine promises" in page.partition("<main>")[0]
    assert "test_cuda::test_it" in page


def test_a_runtime_that_crashes_stops_no_other(made_gpus):
    """Its signal and its last words are told; what follows takes the first runtime that works."""
    found = made_gpus({"tensorrt fp16": {"crashes": True}}, ways={"tensorrt-fp16", "tensorrt-fp32"})
    crashed = step_of(found, "tensorrt-fp16")
    assert crashed.outcome is Outcome.FAILED
    assert "SIGSEGV" in crashed.reason
    assert "an illegal memory access" in crashed.error
    assert outcomes(found)["tensorrt-fp32"] == outcomes(found)["kill"] == "passed"
    assert not found.passed
    page = page_from_check(found)
    assert "Not as promised: TensorRT fp16" in page
    assert "an illegal memory access" in page


def test_the_error_that_was_told_is_the_reason(made_gpus):
    """Of all that a process said, the line that begins with `error:`."""
    found = made_gpus({"tensorrt fp16": {"says": "warning: a\nerror: cuda:0: no memory\nlast"}}, ways={"tensorrt-fp16"})
    assert step_of(found, "tensorrt-fp16").reason == "ended with exit code 1: error: cuda:0: no memory"
    assert step_of(found, "graphs").outcome is Outcome.NOT_RUN


@pytest.mark.parametrize(
    ("behaviour", "key", "expected"),
    [
        ({"moved": True}, "tensorrt-fp16", "voxels differ from the reference"),
        ({"wavers": True}, "tensorrt-fp16", "run twice, its mask is not the same"),
        ({"graphs": ["on"]}, "graphs", "not the same: graphs on"),
        ({"several": True}, "several-gpus", "not the same: cuda:0,cuda:1"),
    ],
)
def test_a_mask_that_is_not_as_promised_fails_its_step(made_gpus, behaviour, key, expected):
    """And that one alone."""
    found = made_gpus({"tensorrt fp16": behaviour}, ways={"tensorrt-fp16"})
    assert expected in step_of(found, key).reason
    assert {step.key for step in found.failed} == {key}
    assert not found.passed


def test_what_has_not_begun_in_time_is_not_run(made_gpus):
    """The check is then not passed, though nothing failed."""
    found = made_gpus({}, minutes=1e-9)
    assert set(outcomes(found).values()) == {"not run"}
    assert "the time of the whole check was over" in step_of(found, "reference").reason
    assert not found.passed
    without = replace(found, facts=facts_of_machine(NO_GPU))
    assert "the reference on the processors was not run either" in verdict_of(without)


@pytest.mark.parametrize(
    ("behaviour", "outcome", "expected"),
    [
        ({"hurries": [4]}, "passed", "4 planes were found done"),
        ({"hurries": [4, 1]}, "not run", "ended before it could be killed"),
        ({"breaks": True}, "failed", "cuda:0 fell off the bus"),
    ],
)
def test_a_run_too_fast_to_be_killed_is_tried_with_thinner_slabs(made_gpus, behaviour, outcome, expected):
    """One that is too fast for those has shown nothing; one that breaks by itself has failed."""
    found = made_gpus({"tensorrt fp16": behaviour}, ways={"tensorrt-fp16"})
    assert outcomes(found)["kill"] == outcome
    assert expected in step_of(found, "kill").reason


def test_where_onnxruntime_alone_computed_it_is_told_that_no_tensorrt_did(made_gpus, monkeypatch):
    """What must not change a mask is shown by TensorRT."""
    monkeypatch.setattr(segmentations, "installed", lambda package: package == "onnxruntime-gpu")
    found = made_gpus({}, ways={"tensorrt-fp16", "onnxruntime-cuda"})
    assert outcomes(found)["onnxruntime-cuda"] == "passed"
    assert step_of(found, "graphs").reason.startswith("no TensorRT computed")


def test_a_product_that_builds_for_no_such_gpu_is_not_run_and_fails_nothing(made_gpus, monkeypatch):
    """TensorRT for RTX 1.7 knows no H100; what it alone proves is then not missing."""
    monkeypatch.setattr(check, "census", lambda: Census((H100, H100_TOO)))
    found = made_gpus({})
    step = step_of(found, "rtx-fp16")
    assert step.outcome is Outcome.NOT_RUN
    assert "12.0" in step.reason
    assert "NVIDIA H100 is 9.0" in step.reason
    assert found.passed
    files = {file.path: file for file in found.files}
    assert files["engine/tensorrt/runtime_cache.py"].lacking
    assert files["engine/tensorrt/golden.py"].proven
    assert all(file.proven or file.lacking for file in found.files)
    assert "1 need optional steps alone" in page_from_check(found)


def test_gpus_of_another_kind_do_not_compute_together(made_gpus, monkeypatch):
    """Their masks may differ by a grey level, which is no failure."""
    monkeypatch.setattr(check, "census", lambda: Census((TWO_GPUS.gpus[0], H100_TOO)))
    found = made_gpus({}, ways={"tensorrt-fp16"})
    assert outcomes(found)["several-gpus"] == "not run"
    assert found.passed


def test_a_mistake_of_the_check_itself_is_an_outcome(made_gpus, monkeypatch):
    """Its traceback is on the page, and the other steps are run."""
    monkeypatch.setattr(check, "kill_step", lambda *_: 1 / 0)
    found = made_gpus({}, ways={"tensorrt-fp16"})
    assert "ZeroDivisionError" in step_of(found, "kill").error
    assert outcomes(found)["contexts"] == "passed"


def test_a_missing_package_fails_nothing_where_it_is_optional(made_gpus, monkeypatch):
    """TensorRT for RTX may be missing; TensorRT itself may not."""
    monkeypatch.setattr(segmentations, "installed", lambda package: package != "tensorrt-rtx")
    found = made_gpus({}, ways={"tensorrt-fp16", "rtx-fp16"})
    assert step_of(found, "rtx-fp16").reason == "tensorrt-rtx is not installed"
    assert found.passed
    monkeypatch.setattr(segmentations, "installed", lambda package: package != "tensorrt")
    assert not made_gpus({}, ways={"tensorrt-fp16", "rtx-fp16"}).passed


def test_limits_are_told_with_what_was_found(tmp_path):
    """A mask moved by a voxel is beyond all three limits; the same mask is within them."""
    truth = np.zeros((4, 40, 40), np.uint8)
    truth[:, 10:20, 10:20] = 1
    for name, mask in (("truth", truth), ("moved", np.roll(truth, 1, axis=1)), ("empty", 0 * truth)):
        write_stack(tmp_path / f"{name}.tif", mask)
    same, moved, empty = (
        difference_of(tmp_path / f"{name}.tif", tmp_path / "truth.tif", tmp_path / "truth.tif")
        for name in ("truth", "moved", "empty")
    )
    assert beyond_limit(same, FP32) == []
    assert moved.differing_voxels == 80
    assert moved.differing_share == pytest.approx(0.2)
    assert len(beyond_limit(moved, FP32)) == 3
    assert len(beyond_limit(empty, FP32)) == 3


def test_a_provider_that_links_another_tensorrt_is_told(monkeypatch, tmp_path):
    """By the library that it names; the installed one of the same major version is fine."""
    library = tmp_path / links.LIBRARY
    library.write_bytes(b"\0libnvinfer.so.10\0libnvonnxparser.so.10\0")
    made = SimpleNamespace(version="1.31.1", files=[library], locate_file=lambda file: file)
    monkeypatch.setattr(links, "distribution", lambda _name: made)
    monkeypatch.setattr(links, "version", lambda _name: "11.4.0.106")
    assert "links TensorRT 10, and 11.4.0.106 is installed" in links.why_provider_cannot_load()
    monkeypatch.setattr(links, "version", lambda _name: "10.16.1.11")
    assert links.why_provider_cannot_load() == ""


def test_the_document_lists_every_file_that_needs_a_gpu():
    """And names steps that the check has."""
    listed = untried_files((CHECKOUT / "docs" / "gpu.md").read_text(encoding="utf-8"))
    assert listed
    optional = {"several-gpus"} | {way.key for way in WAYS if way.optional}
    for file in listed:
        assert (CHECKOUT / file.path).is_file(), file.path
        assert set(file.steps) <= set(STEPS), file.path
        assert set(file.optional) == set(file.steps) & optional, file.path
    paths = {file.path for file in listed}
    folders = {"engine/device": "cuda*.py", "engine/tensorrt": "**/*.py", "engine/gpu": "**/*.py"}
    there = {file for folder, names in folders.items() for file in (CHECKOUT / folder).glob(names)}
    driving = ("cuda", "onnxruntime", ".engine", "enqueue")
    need = {file for file in there if any(word in file.read_text(encoding="utf-8") for word in driving)}
    text = (CHECKOUT / "docs" / "gpu.md").read_text(encoding="utf-8")
    assert [file.name for file in need if f"`{file.relative_to(CHECKOUT)}`" not in text] == []
    assert "engine/device/cuda_stream.py" in paths
