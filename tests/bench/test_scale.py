"""`sennet-bench scale`: what a run costs, one thing varied at a time, and what is fitted to it."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sennet_bench.circumstances import circumstances
from sennet_bench.inference import forecast_here, infer_here
from sennet_bench.made_bundles import write_small_bundle
from sennet_bench.measurements import KINDS, read_measurement, write_measurement
from sennet_bench.peers.child import Run
from sennet_bench.peers.contestant import Outcome
from sennet_bench.report.chart import Bars, Lines
from sennet_bench.report.figure import Nature
from sennet_bench.scale.measurement import ScaleMeasurement, ScalePoint, ScaleSample, shuffled_rounds
from sennet_bench.scale.points import Point, axis_from_text, tile_for_overlaps, usual_values
from sennet_bench.scale.power_law import exponent, line
from sennet_engine.card import Tiling
from sennet_engine.errors import ConfigError

KEPT = Path(__file__).parents[2] / "docs" / "performance"
BASE = Point(planes=8, side=512, models=1, threads=2)


@pytest.fixture
def here(monkeypatch):
    """Runs happen in this process, which is faster; that they are in processes of their own is shown once."""
    monkeypatch.setattr("sennet_bench.scale.measurement.finished_in_child", infer_here)
    monkeypatch.setattr("sennet_bench.scale.measurement.forecast_in_child", forecast_here)


def measured(command, tmp_path, *arguments):
    """What the command measured, after its table was made anew from the JSON."""
    ran = command("sennet-bench", "scale", *arguments, "--json", tmp_path / "found.json")
    assert ran.code == 0, ran.err
    assert command("sennet-bench", "table", tmp_path / "found.json").out.strip() == ran.out.strip()
    return json.loads((tmp_path / "found.json").read_text()), ran.out


def made(axis, values, cost, *, rounds=3, peak=lambda _value: 200.0):
    """A measurement whose runs took what `cost(value, round)` says."""
    points = [
        ScalePoint(
            axis, value, replace(BASE, **{axis: value}), pixels=round(1e6 * value),
            samples=[
                ScaleSample(number, 0, cost(value, number), 0.1, 0.0, 0.05, 0.3, peak(value), 1, "onnxruntime")
                for number in range(rounds)
            ],
        )
        for value in values
    ]  # fmt: skip
    return ScaleMeasurement(
        "m", 1.5, "onnxruntime", BASE, None, None, {axis: list(values)}, points, rounds, 0, circumstances()
    )  # fmt: skip


def test_an_exponent_is_found_with_an_interval_that_holds_it():
    """Without noise exactly; with noise of 3 % in 19 of 20 measurements or more."""
    amounts = [1, 2, 4, 8, 16] * 3
    assert exponent(amounts, [0.4 * one**1.3 for one in amounts]).value == pytest.approx(1.3, abs=1e-12)
    draw, held = np.random.default_rng(3), 0
    for _ in range(400):
        found = exponent(amounts, [0.4 * one**1.3 * math.exp(draw.normal(0, 0.03)) for one in amounts])
        assert found.low < found.value < found.high
        held += found.low <= 1.3 <= found.high
    assert 0.92 < held / 400 < 0.98


def test_a_fixed_cost_is_told_from_that_of_each_unit():
    """Without noise exactly, where the exponent says less than proportion; with noise the intervals hold both."""
    amounts = [4, 8, 16, 32, 64] * 3
    exact = line(amounts, [0.31 + 0.021 * one for one in amounts])
    assert (exact.fixed.value, exact.per_unit.value) == pytest.approx((0.31, 0.021))
    assert exact.farthest < 1e-9
    assert exponent(amounts, [0.31 + 0.021 * one for one in amounts]).high < 0.8
    draw, fixed, per_unit = np.random.default_rng(4), 0, 0
    for _ in range(400):
        found = line(amounts, [(0.31 + 0.021 * one) * (1 + draw.normal(0, 0.03)) for one in amounts])
        fixed += found.fixed.low <= 0.31 <= found.fixed.high
        per_unit += found.per_unit.low <= 0.021 <= found.per_unit.high
    assert 0.92 < fixed / 400 < 0.98
    assert 0.92 < per_unit / 400 < 0.98


def test_two_samples_make_no_interval():
    """A line through two points leaves no noise to tell."""
    assert exponent([1, 2], [1, 4]).low is None
    assert line([1, 2], [3, 5]).per_unit.high is None
    assert line([1, 2], [3, 5]).fixed.value == pytest.approx(1)


@pytest.mark.parametrize(("amounts", "costs"), [([2, 2], [1, 1]), ([1, 2], [1]), ([1, 2], [0, 1]), ([0, 2], [1, 1])])
def test_what_has_no_power_law_is_refused(amounts, costs):
    """One amount, lists of unlike length, and zeros."""
    with pytest.raises(ConfigError, match="two different amounts"):
        exponent(amounts, costs)


def test_every_round_visits_all_points_in_an_order_of_its_own():
    """The same orders each time, and not that of the points."""
    rounds = list(shuffled_rounds(9, 5))
    assert all(sorted(order) == list(range(9)) for order in rounds)
    assert len({tuple(order) for order in rounds}) == 5
    assert rounds == list(shuffled_rounds(9, 5))


@pytest.mark.usefixtures("here")
def test_planes_sides_and_models_are_varied_one_at_a_time(command, tmp_path, identity_bundle):
    """Tiles and pixels grow with planes and models, pixels with the square of the side; N models are N networks."""
    kept, table = measured(
        command, tmp_path, "--model", identity_bundle, "--along", "models=1,2,3", "--along", "planes=4,1,2",
        "--along", "side=64,512", "--planes", 2, "--side", 64, "--repeats", 2, "--threads", 1,
    )  # fmt: skip
    assert kept["axes"] == {"planes": [1, 2, 4], "side": [64, 512], "models": [1, 2, 3]}
    work = {(one["axis"], one["value"]): (one["samples"][0]["tiles"], one["pixels"]) for one in kept["points"]}
    assert {work["planes", count] for count in (1, 2, 4)} == {(count, count * 64**2) for count in (1, 2, 4)}
    # No background is left out, of which there is enough at that size.
    assert work["side", 512][1] == 64 * work["side", 64][1] == 2 * 512**2
    assert [work["models", count] for count in (1, 2, 3)] == [(2 * count, 2 * count * 64**2) for count in (1, 2, 3)]
    for number in range(2):
        samples = [one["samples"][number] for one in kept["points"]]
        assert sorted(one["position"] for one in samples) == list(range(8))
        assert {one["round"] for one in samples} == {number}
    assert all(0 < one["seconds"] < 60 for point in kept["points"] for one in point["samples"])
    assert "| planes 4 |" in table
    assert "Along models: seconds grow as models^" in table
    assert "shuffled by seed 0" in table


def test_networks_of_an_ensemble_are_loaded_each(command, tmp_path, identity_bundle, monkeypatch):
    """Three models are three networks in memory, not one that runs three times."""
    runtimes = []

    def run(volume, settings):
        ran = infer_here(volume, settings)
        runtimes.append(len(json.loads((settings.out / "summary.json").read_text())["runtimes"]))
        return ran

    monkeypatch.setattr("sennet_bench.scale.measurement.finished_in_child", run)
    monkeypatch.setattr("sennet_bench.scale.measurement.forecast_in_child", forecast_here)
    measured(
        command, tmp_path, "--model", identity_bundle, "--along", "models=1,3", "--planes", 1, "--side", 64,
        "--repeats", 1, "--threads", 1,
    )  # fmt: skip
    assert sorted(runtimes) == [1, 3]


@pytest.mark.usefixtures("here")
def test_overlap_makes_more_pixels(command, tmp_path, identity_bundle):
    """Tiles of 32 on a plane of four of them: 16 without overlap, 49 at a half, and all of them are blended."""
    kept, table = measured(
        command, tmp_path, "--model", identity_bundle, "--along", "overlap=0.5,0", "--quick", "--repeats", 1,
        "--planes", 1, "--threads", 1,
    )  # fmt: skip
    assert (kept["overlap_tile"], kept["overlap_base"]["side"]) == (32, 128)
    assert [one["samples"][0]["tiles"] for one in kept["points"]] == [16, 49]
    assert [one["pixels"] for one in kept["points"]] == [16 * 32**2, 49 * 32**2]
    assert "3.06 the pixels, 4.00 without edges" in table
    assert "blended tiles of 32" in table


def test_runs_are_in_processes_of_their_own(command, tmp_path):
    """Their memory is that of the engine alone, and the processors' time is theirs, on as many threads as told."""
    model = write_small_bundle(tmp_path / "small.model")
    kept, table = measured(
        command, tmp_path, "--model", model, "--along", "threads=1,2", "--planes", 1, "--side", 256, "--repeats", 1,
    )  # fmt: skip
    samples = [point["samples"][0] for point in kept["points"]]
    assert all(40 < one["peak_mb"] < 400 for one in samples)
    assert all(one["cpu_seconds"] > one["network_seconds"] > 0 for one in samples)
    assert samples[0]["computed_by"].endswith("1 calls at a time on 1 threads each")
    assert "2" in samples[1]["computed_by"].partition(",")[2]
    assert "times as fast on 2 as on 1" in table


def test_a_cost_out_of_proportion_is_told(tmp_path):
    """Seconds as the square of the planes and memory that grows with them stand in the notes as too much."""
    bad = made(
        "planes",
        (4, 8, 16, 32),
        lambda planes, n: 0.01 * planes**2 * (1 + (n - 1) / 1e3),
        peak=lambda planes: 50 * planes,
    )
    told = KINDS["scale"].table(bad).markdown()
    assert "seconds grow as planes^2.00 (2.00 to 2.00), MORE than it should: 1 would be in proportion" in told
    assert "peak memory grows as planes^1.00 (1.00 to 1.00), MORE than it should: 0 would be no growth" in told
    good = made("planes", (4, 8, 16, 32), lambda planes, n: (0.31 + 0.021 * planes) * (1 + (n - 1) / 1e3))
    told = KINDS["scale"].table(good).markdown()
    assert "MORE" not in told
    assert "peak memory grows as planes^0.00 (0.00 to 0.00), 0 would be no growth" in told
    assert "0.310 s (0.310 to 0.310) + 0.0210 s (0.0210 to 0.0210) a plane" in told
    assert "| planes 8 | 0.478 (0.478 to 0.478) |" in told
    write_measurement(tmp_path / "made.json", good)
    assert asdict(read_measurement(tmp_path / "made.json")) == asdict(good)


def test_figures_are_those_of_each_round():
    """Exponents of each round fitted alone, the speed-up of threads, and peaks of runs without a trial."""
    grown = made("planes", (4, 8, 16), lambda planes, number: planes ** (1 + number / 10))
    figures = {one.name: one for one in KINDS["scale"].figures(grown)}
    assert figures["planes: exponent of the seconds against the planes"].samples == pytest.approx((1.0, 1.1, 1.2))
    assert figures["planes 8: seconds"].nature is Nature.SPEED
    assert figures["planes 8: peak memory"].samples == (200.0,) * 3
    threads = made("threads", (1, 2), lambda threads, number: (3 + number) / threads)
    figures = {one.name: one for one in KINDS["scale"].figures(threads)}
    faster = figures["2 threads: times as fast as 1"]
    assert faster.samples == (2.0, 2.0, 2.0)
    assert faster.more_is_better
    assert "2.00 times as fast, 100% of a thread's worth" in KINDS["scale"].table(threads).markdown()
    tried = [replace(one, samples=[replace(run, trial_seconds=3.0) for run in one.samples]) for one in grown.points]
    busy = replace(grown, points=tried)
    assert not [one for one in KINDS["scale"].figures(busy) if one.nature is Nature.MEMORY]
    assert "9 of 9 runs made a trial" in KINDS["scale"].table(busy).markdown()


def test_charts_show_seconds_and_memory_along_each_axis():
    """On logarithmic axes, with every sample."""
    seconds, memory = KINDS["scale"].charts(made("planes", (4, 8), lambda planes, _number: float(planes)))
    assert seconds.logarithmic
    assert memory.logarithmic
    assert dict(seconds.lines)["the run"] == ((4, (4.0,) * 3), (8, (8.0,) * 3))
    assert memory.lines == (("the process", ((4, (200.0,) * 3), (8, (200.0,) * 3))),)


def test_usual_values_are_geometric_around_the_base():
    """Few of them where it is to be quick; threads up to all."""
    assert usual_values("planes", BASE, most_threads=6, quick=False) == (4, 8, 16, 32, 64)
    assert usual_values("side", BASE, most_threads=6, quick=False) == (256, 512, 1024, 2048)
    assert usual_values("models", BASE, most_threads=6, quick=False) == (1, 2, 3, 4)
    assert usual_values("threads", BASE, most_threads=6, quick=False) == (1, 2, 4, 6)
    assert usual_values("overlap", BASE, most_threads=6, quick=False) == (0, 0.125, 0.25, 0.5)
    assert usual_values("planes", replace(BASE, planes=1), most_threads=6, quick=True) == (1, 2)
    assert usual_values("threads", BASE, most_threads=1, quick=False) == (1,)


def test_the_tile_of_overlaps_has_whole_strides():
    """Of 320 an eighth is 2.5 strides of 16; of 384 three."""
    tiling = Tiling(stride=16, sides=[320, 384, 512], default_side=320, halo=80, exact=True)
    assert tile_for_overlaps((0, 1 / 8, 1 / 2), tiling) == 384
    assert tile_for_overlaps((0, 1 / 2), tiling) == 320
    with pytest.raises(ConfigError, match="in whole strides of 16"):
        tile_for_overlaps((0, 0.01), tiling)


def test_an_axis_is_read_with_its_values():
    """Sorted, each once; without values the usual ones are meant."""
    assert axis_from_text("side") == ("side", ())
    assert axis_from_text("planes=8,2,4,2") == ("planes", (2, 4, 8))
    assert axis_from_text("overlap=0.5,0") == ("overlap", (0, 0.5))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--along", "colour"], "expected one of planes, side, models, threads, overlap"),
        (["--along", "planes=1,x"], "whole numbers of 1 or more"),
        (["--along", "planes=0,1"], "whole numbers of 1 or more"),
        (["--along", "models=1,1.5"], "whole numbers of 1 or more"),
        (["--along", "planes=4"], "two or more different"),
        (["--along", "overlap=0,1"], "shares from 0 to less than 1"),
        (["--along", "overlap=0,0.01"], "in whole strides of 16"),
        (["--along", "threads", "--threads", "1"], "got 1 alone"),
        (["--repeats", "0"], "1 or more of each"),
        (["--side", "0"], "1 or more of each"),
        (["--model", "nowhere"], "no model bundle"),
    ],
)
def test_wrong_values_are_refused(command, arguments, said):
    """Exit code 2 and what was expected, before anything runs."""
    ran = command("sennet-bench", "scale", *arguments)
    assert ran.code == 2
    assert said in " ".join(ran.err.split())


@pytest.mark.parametrize(
    "name",
    ["cascade", "dry_run", "dry_run_small", "identical", "memory", "skipping", "skipping_slice", "throughput"],
)
def test_kept_measurements_give_figures_with_names_of_their_own(name):
    """What `check` compares is found by its name; samples are there, and finite."""
    found = read_measurement(KEPT / f"{name}.json")
    figures = KINDS[found.kind].figures(found)
    assert figures
    assert len({one.name for one in figures}) == len(figures)
    assert all(one.samples and all(map(math.isfinite, one.samples)) for one in figures)


@pytest.mark.parametrize("kind", ["cascade", "dry_run", "memory", "skipping", "throughput"])
def test_kept_measurements_give_charts(kind):
    """Each bar and each line has samples; what is our own is among the bars."""
    found = read_measurement(KEPT / f"{kind}.json")
    charts = KINDS[found.kind].charts(found)
    assert charts
    for chart in charts:
        assert isinstance(chart, Bars | Lines)
        if isinstance(chart, Bars):
            assert all(samples for _, samples in chart.bars)
            assert chart.ours <= {name for name, _ in chart.bars}
        else:
            assert all(samples for _, curve in chart.lines for _, samples in curve)


def test_ratios_of_the_views_are_those_of_a_round():
    """Of the kept files: times as fast, and how far the dry run was off either way."""
    cascade = read_measurement(KEPT / "cascade.json")
    figures = {one.name: one.samples for one in KINDS["cascade"].figures(cascade)}
    whole = figures["all passes everywhere: seconds"]
    alone = figures["the first pass alone: seconds"]
    expected = tuple(one / other for one, other in zip(whole, alone, strict=True))
    assert figures["the first pass alone: times as fast"] == pytest.approx(expected)
    assert "all passes everywhere: times as fast" not in figures
    dry = read_measurement(KEPT / "dry_run.json")
    off = [one for one in KINDS["dry-run"].figures(dry) if "off by the factor" in one.name]
    assert off
    assert all(sample >= 1 for one in off for sample in one.samples)
    told, happened = dry.entries[0].rounds[0].told, dry.entries[0].rounds[0].happened
    ratio = told.seconds / happened.seconds
    assert off[0].samples[0] == pytest.approx(max(ratio, 1 / ratio))


def test_the_run_that_makes_the_trial_is_the_largest_and_is_not_counted(command, tmp_path, monkeypatch):
    """Few planes are not worth a trial of the runtimes, and its memory would stand in the first peak after them."""
    planes = []

    def run(_contestant, job):
        with tifffile.TiffFile(job.volume) as file:
            planes.append(file.series[0].shape[0])
        return Run(Outcome(seconds=1, load_seconds=1), cpu_seconds=1, peak_mb=900 if len(planes) == 1 else 100)

    monkeypatch.setattr("sennet_bench.outside.memory.run_in_child", run)
    ran = command(
        "sennet-bench", "memory", "--planes", 2, "--planes", 5, "--side", 32, "--json", tmp_path / "found.json"
    )
    assert ran.code == 0, ran.err
    assert planes == [5, 2, 5]
    assert json.loads((tmp_path / "found.json").read_text())["peak_mb"] == [100, 100]
