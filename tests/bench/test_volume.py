"""`sennet-bench volume`: a volume from end to end, in processes of their own, and what made instruments tell."""

import inspect
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from sennet_bench import inference
from sennet_bench.inference import infer_here
from sennet_bench.made_bundles import write_identity_bundle, write_small_bundle
from sennet_bench.made_volume import write_made_volume
from sennet_bench.mask_files import mask_sha256
from sennet_bench.measurements import KINDS, read_measurement
from sennet_bench.report.chart import Parts
from sennet_bench.report.figure import Nature
from sennet_bench.volume import measurement as volume
from sennet_bench.volume.consumption import SAMPLE_SECONDS, Consumption, ConsumptionWatch
from sennet_bench.volume.energy import ProcessorEnergy, UntoldError
from sennet_bench.volume.gpu_meters import GpuEnergy, GpuLibrary, GpuMemory
from sennet_engine.gpu.choice import DeviceChoice
from sennet_engine.gpu.present import Gpu
from sennet_engine.settings import InferSettings

SHAPE = (4, 256, 320)
GPUS = tuple(Gpu(index, "NVIDIA H100", "9.0", 80 << 30) for index in range(3))


@pytest.fixture
def made(tmp_path):
    """A volume with an organ on 40 % of its planes, its vessels, a network that finds them and one that blurs."""
    path = write_made_volume(tmp_path / "volume.tif", SHAPE)
    write_mask(tmp_path / "truth.tif", tifffile.imread(path) > 200)
    return SimpleNamespace(
        volume=path, truth=tmp_path / "truth.tif", exact=write_identity_bundle(tmp_path / "identity.model"),
        blurred=write_small_bundle(tmp_path / "small.model"),
    )  # fmt: skip


def write_mask(path, voxels):
    """As 0 and 255."""
    tifffile.imwrite(path, voxels.astype(np.uint8) * 255, photometric="minisblack")


def measured(command, tmp_path, *arguments):
    """What the command measured, its JSON and its table, after that was made anew from the JSON."""
    ran = command("sennet-bench", "volume", *arguments, "--threads", 1, "--json", tmp_path / "found.json")
    assert ran.code == 0, ran.err
    assert command("sennet-bench", "table", tmp_path / "found.json").out.strip() == ran.out.strip()
    return read_measurement(tmp_path / "found.json"), json.loads((tmp_path / "found.json").read_text()), ran


@pytest.fixture
def here(monkeypatch):
    """Runs happen in this process, which is faster; their settings are kept in their order."""
    kept = []

    def finished(path, settings):
        kept.append(settings)
        return infer_here(path, settings)

    monkeypatch.setattr(volume, "finished_in_child", finished)
    return kept


def test_a_volume_is_measured_from_end_to_end(command, tmp_path, made):
    """In processes of their own: seconds, voxels in a second, memory, stages, quality; and the table says the same."""
    found, kept, ran = measured(
        command, tmp_path, made.volume, "--model", made.exact, "--truth", made.truth, "--repeats", 1
    )
    (entry,) = kept["entries"]
    (run,) = entry["runs"]
    assert (kept["volume"], kept["shape_zyx"], kept["dtype"]) == ("volume.tif", list(SHAPE), "uint8")
    assert entry["surface_dice_0"] == entry["dice"] == [1.0]
    assert entry["first"]["mask_sha256"] == run["mask_sha256"] == mask_sha256(made.truth)
    rate = math.prod(SHAPE) / run["seconds"] / 1e6
    assert f"| Mvoxel/s (range) | {rate:.2f} ({rate:.2f} to {rate:.2f}) |" in ran.out
    organ = 1 - run["skipped_share"]
    assert 0.4 < organ < 0.8
    assert f"| Mvoxel/s of organ (range) | {organ * rate:.2f} (" in ran.out
    # This process, which has torch in it, is larger.
    assert 30 < run["peak_mb"] < 400
    assert "| surface Dice | 1.0000 |" in ran.out
    assert f"| mask | {mask_sha256(made.truth)[:16]}, the same in all runs |" in ran.out
    assert ran.err.splitlines() == ["first run: identity", "round 1 of 1: identity"]
    figures = {one.name: one for one in KINDS["volume"].figures(found)}
    assert figures["identity: seconds"].samples == (run["seconds"],)
    assert figures["identity: surface Dice"].nature is Nature.QUALITY
    assert len(figures) == 5


def test_stages_are_told_with_what_they_wait_for(command, tmp_path, made, here):
    """Busy and waiting are the clock of each stage; what is before and after the stages is told as well."""
    found, kept, ran = measured(command, tmp_path, made.volume, "--model", made.blurred, "--repeats", 1)
    (run,) = kept["entries"][0]["runs"]
    stages = run["stage_seconds"]
    assert list(run["waiting_seconds"]) == list(stages)[:9]
    for stage, waits in run["waiting_seconds"].items():
        if stage != "compute":  # of as many streams as the network has contexts
            assert stages[stage] + sum(waits.values()) == pytest.approx(stages["wall"]), stage
        cells = (stages[stage], waits["for_input"], waits["for_place"], waits["otherwise"])
        assert f"| stage: {stage.replace('_', ' ')} | {' / '.join(f'{one:.3f}' for one in cells)} |" in ran.out
    assert f"| before and after: load, s | {run['load_seconds']:.3f} |" in ran.out
    assert "trial" not in run["part_seconds"]
    assert 0.3 * run["seconds"] < sum(run["part_seconds"].values()) + stages["wall"] < run["seconds"]
    outside = 1 - run["network_seconds"] / run["seconds"]
    assert f"| no network at work, of the run | {outside:.1%} |" in ran.out
    assert "surface Dice" not in ran.out
    bars, busy, around, each = KINDS["volume"].charts(found)
    assert bars.bars == (("small", (run["seconds"],)),)
    assert dict(busy.bars)["small"]["copy in"] == stages["copy_in"]
    assert dict(around.bars)["small"]["assemble"] == run["part_seconds"]["assemble"]
    assert isinstance(each, Parts)
    waits = run["waiting_seconds"]["write"]
    assert dict(each.bars)["write"] == {
        "is busy": stages["write"], "waits for input": waits["for_input"], "waits for a place": waits["for_place"],
        "has nothing to do": waits["otherwise"],
    }  # fmt: skip


def test_an_ensemble_is_a_model_too(command, tmp_path, made, here):
    """By the name of its file; the times of its axes are added up, and still make the clock."""
    ensemble = tmp_path / "axes.toml"
    ensemble.write_text('name = "other"\n[[passes]]\nmodel = "small.model"\naxes = "zyx"\n')
    _, kept, ran = measured(command, tmp_path, made.volume, "--model", ensemble, "--repeats", 1)
    (run,) = kept["entries"][0]["runs"]
    assert kept["entries"][0]["model"] == "axes"
    assert f"| tiles through networks | {run['tiles']} |" in ran.out
    stages, waits = run["stage_seconds"], run["waiting_seconds"]
    assert stages["read"] + sum(waits["read"].values()) == pytest.approx(stages["wall"])
    assert stages["wall"] < run["seconds"]


def test_models_are_taken_in_turns_and_scored_each(command, tmp_path, made, here):
    """The first run of each counts nowhere; a blurred mask is worse, and the short table has a row for each."""
    found, kept, ran = measured(
        command, tmp_path, made.volume, "--model", made.exact, "--model", made.blurred, "--truth", made.truth,
        "--repeats", 2, "--runtime", "onnxruntime", "--precision", "fp32", "--memory", "4GB",
    )  # fmt: skip
    assert [one.model.stem for one in here] == ["identity", "small"] * 3
    assert {(one.precision, one.runtime, one.memory_bytes, one.threads) for one in here} == {
        ("fp32", "onnxruntime", 4 << 30, 1)
    }
    (trials,) = {one.trials.path for one in here}
    assert trials is not None  # what the first run of each finds is remembered
    exact, blurred = kept["entries"]
    seconds = sorted(one["seconds"] for one in exact["runs"])
    assert f"(range) | {sum(seconds) / 2:.2f} ({seconds[0]:.2f} to {seconds[1]:.2f}) |" in ran.out
    assert exact["surface_dice_0"][0] == 1 > blurred["surface_dice_0"][0] > 0
    assert len(exact["runs"]) == len(blurred["runs"]) == 2
    assert "| | identity | small |" in ran.out
    assert "precision fp32, memory below 4 GB." in ran.out
    assert [text.split()[0] for text in exact["runs"][0]["runtimes"].values()] == ["onnxruntime"]
    assert "identity was computed by onnxruntime " in ran.out
    short = KINDS["volume"].short(found)
    assert [row[0] for row in short.rows] == ["identity", "small"]
    assert short.rows[0][-1] == "1.0000"
    assert all(hasattr(found, name) for name in KINDS["volume"].subject)


def test_what_cannot_be_measured_is_told_with_its_reason(command, tmp_path, made, here, monkeypatch):
    """Neither energy nor GPU memory has a row then; where they are known they have, and what they are of is said."""
    monkeypatch.setattr(inference, "ConsumptionWatch", lambda _gpus: watch())

    def watch():
        return ConsumptionWatch((), processors=lambda: ProcessorEnergy(tmp_path / "none"))

    found, _, ran = measured(command, tmp_path, made.volume, "--model", made.exact, "--repeats", 1)
    assert "J of the" not in ran.out
    assert "peak MB of the GPU" not in ran.out
    assert f"Not measured: energy of the processors, since {tmp_path / 'none'} has no counters" in ran.out
    assert "Not measured: energy of the GPU and memory of the GPU, since no GPU computed." in ran.out
    (entry,) = found.entries
    told = Consumption(processor_joules=5.0, gpu_joules=0.5, gpu_peak_mb=300.0)
    entry = replace(entry, runs=[replace(entry.runs[0], consumption=told, mask_sha256="other")])
    known = replace(found, entries=[entry])
    table = KINDS["volume"].table(known).markdown()
    voxels = math.prod(SHAPE)
    assert f"| J of the processors, for a run (for a Gvoxel) | 5.0 ({5e9 / voxels:.0f}) |" in table
    assert f"| J of the GPU, for a run (for a Gvoxel) | 0.5 ({5e8 / voxels:.0f}) |" in table
    assert "| peak MB of the GPU | 300 |" in table
    assert "Energy is that of whole processors" in table
    assert "Not measured" not in table
    assert "| mask | other, NOT the same in all runs |" in table
    times = [replace(entry.runs[0], seconds=seconds, network_seconds=0.2) for seconds in (3.0, 1.0, 2.0)]
    middle = KINDS["volume"].table(replace(found, entries=[replace(entry, runs=times)])).markdown()
    assert "| no network at work, of the run | 90.0% |" in middle
    assert "identity: peak MB of the GPU" in {one.name for one in KINDS["volume"].figures(known)}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--truth", "truth.tif"), "got shape (4, 256, 319), expected (4, 256, 320)"),
        (("--repeats", "0"), "expected 1 or more"),
        (("--model", "a/small.model", "--model", "b/small.model"), "got small, small, expected names that differ"),
        (("--model", "missing.model"), "missing.model"),
    ],
)
def test_what_cannot_be_run_is_refused(command, made, tmp_path, monkeypatch, arguments, expected):
    """Exit code 2, and what was expected; nothing is run that is known to fail."""
    monkeypatch.chdir(tmp_path)
    write_mask(made.truth, np.zeros((SHAPE[0], SHAPE[1], SHAPE[2] - 1), bool))
    ran = command("sennet-bench", "volume", made.volume, *arguments)
    assert ran.code == 2
    assert expected in ran.err
    assert "Traceback" not in ran.err
    assert ("first run" in ran.err) == ("missing" in expected)


def zone(folder, name, kind, microjoules, *, most=1000):
    """A zone of powercap; its counter, which is written anew to let energy be taken."""
    place = folder / name
    place.mkdir()
    for file, text in (("name", kind), ("energy_uj", microjoules), ("max_energy_range_uj", most)):
        (place / file).write_text(f"{text}\n")
    return place / "energy_uj"


def test_energy_of_the_processors_is_that_of_their_packages(tmp_path):
    """All packages; not their cores, which they contain, nor the whole platform, which contains them."""
    counters = [
        zone(tmp_path, name, kind, 100)
        for name, kind in (
            ("intel-rapl:0", "package-0"), ("intel-rapl:1", "package-1"), ("intel-rapl:0:0", "core"),
            ("intel-rapl:2", "psys"), ("intel-rapl-mmio:0", "package-0"),
        )
    ]  # fmt: skip
    energy = ProcessorEnergy(tmp_path)
    for counter, reading in zip(counters, (150, 300, 999, 999, 999), strict=True):
        counter.write_text(f"{reading}\n")
    assert energy.value() == 0
    energy.sample()
    assert energy.value() == pytest.approx(250e-6)


def test_counters_that_begin_anew_are_followed(tmp_path):
    """As often as they do, if somebody looks in between."""
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 900, most=1000)
    energy = ProcessorEnergy(tmp_path)
    for reading in (950, 50, 800, 10):
        counter.write_text(str(reading))
        energy.sample()
    assert energy.value() == pytest.approx((50 + 100 + 750 + 210) / 1e6)


def test_energy_that_may_not_be_read_is_told_with_what_to_do(tmp_path, monkeypatch):
    """Also one that holds no number, and one that is gone meanwhile."""
    counter = zone(tmp_path, "intel-rapl:0", "package-0", "many")
    with pytest.raises(UntoldError, match=r"energy_uj: holds 'many', no number"):
        ProcessorEnergy(tmp_path)
    counter.write_text("5")
    energy = ProcessorEnergy(tmp_path)
    counter.unlink()
    with pytest.raises(UntoldError, match="No such file"):
        energy.sample()
    read = Path.read_text

    def for_root_only(self, **options):
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(self, **options)

    monkeypatch.setattr(Path, "read_text", for_root_only)
    with pytest.raises(UntoldError, match=r"only root may read it; for all others: sudo chmod a\+r .*energy_uj"):
        ProcessorEnergy(tmp_path)


class MadeNvml:
    """`cuda.bindings.nvml` of made GPUs, of which the numbers are set: millijoules and bytes, by UUID."""

    class NvmlError(Exception):
        """As NVML's own."""

    def __init__(self, *uuids, energy=True, library=True):
        self.uuids, self.energy, self.library = list(uuids), energy, library
        self.millijoules, self.bytes = dict.fromkeys(uuids, 1000), dict.fromkeys(uuids, 10**9)
        self.open = 0

    def init_v2(self):
        if not self.library:
            raise RuntimeError("libnvidia-ml.so.1 was not found")
        self.open += 1

    def shutdown(self):
        self.open -= 1

    def device_get_handle_by_uuid(self, uuid):
        if uuid not in self.uuids:
            raise self.NvmlError("Not Found")
        return self.uuids.index(uuid)

    def device_get_total_energy_consumption(self, device):
        if not self.energy:
            raise self.NvmlError("Not Supported")
        return self.millijoules[self.uuids[device]]

    def device_get_memory_info_v2(self, device):
        return SimpleNamespace(used=self.bytes[self.uuids[device]])


CORE = SimpleNamespace(Device=lambda index: SimpleNamespace(uuid=f"0000-{index}"))


def test_gpus_are_those_that_cuda_means(tmp_path):
    """By their UUIDs, since NVML counts them in another order; also instances of a divided one."""
    nvml = MadeNvml("GPU-0000-1", "MIG-0000-2", "GPU-0000-0")
    library = GpuLibrary((0, 2), nvml=nvml, core=CORE)
    assert library.handles == [2, 1]
    energy, memory = GpuEnergy(library), GpuMemory(library)
    nvml.millijoules |= {"GPU-0000-0": 1500, "MIG-0000-2": 3000, "GPU-0000-1": 99_000}
    nvml.bytes |= {"GPU-0000-0": 3 * 10**9, "GPU-0000-1": 9 * 10**9}
    energy.sample()
    memory.sample()
    nvml.bytes["GPU-0000-0"] = 10**9
    memory.sample()
    assert energy.value() == pytest.approx(0.5 + 2)
    assert memory.value() == pytest.approx(2000)
    library.close()
    assert nvml.open == 0


def test_what_a_run_takes_is_sampled_while_it_goes_on(tmp_path):
    """The most memory in between, and energy until the end; one that is not told leaves the others."""
    nvml = MadeNvml("GPU-0000-0", energy=False)
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 0, most=10**9)
    with ConsumptionWatch(
        (0,), processors=lambda: ProcessorEnergy(tmp_path), library=lambda gpus: GpuLibrary(gpus, nvml=nvml, core=CORE)
    ) as watch:
        nvml.bytes["GPU-0000-0"] += 500 * 10**6
        time.sleep(6 * SAMPLE_SECONDS)
        nvml.bytes["GPU-0000-0"] -= 500 * 10**6
        counter.write_text("2000000")
    assert watch.found.processor_joules == pytest.approx(2)
    assert watch.found.gpu_peak_mb == pytest.approx(500)
    assert watch.found.gpu_joules is None
    assert watch.found.untold == {"gpu_joules": "GpuEnergy: the driver of the GPU does not tell (Not Supported)"}
    assert nvml.open == 0


@pytest.mark.parametrize(
    ("nvml", "why"),
    [
        (MadeNvml("GPU-0000-7"), "cuda:0: NVML does not know a GPU of the UUID 0000-0"),
        (MadeNvml(library=False), "NVML: the driver of the GPU does not tell (libnvidia-ml.so.1 was not found)"),
    ],
)
def test_a_gpu_of_which_nothing_is_told_hinders_nothing(tmp_path, nvml, why):
    """The reason is kept for both, and NVML is not left open."""
    with ConsumptionWatch(
        (0,), processors=lambda: ProcessorEnergy(tmp_path), library=lambda gpus: GpuLibrary(gpus, nvml=nvml, core=CORE)
    ) as watch:
        pass
    assert watch.found.untold["gpu_joules"] == watch.found.untold["gpu_peak_mb"] == why
    assert list(watch.found.untold) == ["processor_joules", "gpu_joules", "gpu_peak_mb"]
    assert nvml.open == 0


def test_what_stops_telling_on_the_way_is_not_told(tmp_path):
    """Nothing is guessed from what was seen until then."""
    nvml = MadeNvml("GPU-0000-0")
    with ConsumptionWatch(
        (0,), processors=lambda: ProcessorEnergy(tmp_path), library=lambda gpus: GpuLibrary(gpus, nvml=nvml, core=CORE)
    ) as watch:
        nvml.energy = False
    assert watch.found.gpu_joules is None
    assert watch.found.gpu_peak_mb == 0
    assert "Not Supported" in watch.found.untold["gpu_joules"]


def test_a_run_watches_the_gpus_that_it_is_to_compute_on(tmp_path, made, monkeypatch):
    """Those that the settings choose first; what was found goes with the run."""
    asked = []

    def watch(gpus):
        asked.append(list(gpus))
        return ConsumptionWatch((), processors=lambda: ProcessorEnergy(tmp_path))

    monkeypatch.setattr(inference, "ConsumptionWatch", watch)
    choices = [DeviceChoice(GPUS[1:], "tensorrt", ""), DeviceChoice((), "auto", "")]
    monkeypatch.setattr(inference, "device_choices", lambda *_: choices)
    run = infer_here(made.volume, InferSettings(model=made.exact, out=tmp_path / "out", device="cpu", threads=1))
    assert asked == [[1, 2]]
    assert set(run.consumption.untold) == {"processor_joules", "gpu_joules", "gpu_peak_mb"}


def test_what_is_used_of_nvml_is_there():
    """Names and parameters of the installed package are those of the made one; errors are what is caught."""
    nvml = pytest.importorskip("cuda.bindings.nvml")
    for name, made_one in vars(MadeNvml).items():
        if not name.startswith("_") and inspect.isfunction(made_one):
            own = list(inspect.signature(made_one).parameters)[1:]
            assert list(inspect.signature(getattr(nvml, name)).parameters) == own, name
    assert issubclass(nvml.NotSupportedError, nvml.NvmlError)
    assert issubclass(nvml.NvmlError, Exception)
    assert nvml.Memory_v2().used == 0
    core = pytest.importorskip("cuda.core")
    assert isinstance(inspect.getattr_static(core.Device, "uuid"), property)
