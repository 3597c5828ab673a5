"""`sennet-bench train`: the trainer beside a plain loop of smp, albumentations and torch."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from pydantic import TypeAdapter

from sennet_bench.measurements import KINDS, read_measurement
from sennet_bench.report.figure import Nature
from sennet_bench.training import child as training_child
from sennet_bench.training import measurement as training
from sennet_bench.training import settings as training_settings
from sennet_bench.training.child import run_here, run_in_child
from sennet_bench.training.job import HELD_BATCHES, WARM_UP_STEPS, Answer, CropPass, Job, StepPass
from sennet_bench.training.measurement import TrainingMeasurement, TrainingRequest, measure_training
from sennet_bench.training.settings import comparable, settings_of_the_builtin_model
from sennet_trainer.labelled_volume import cached_volume
from sennet_trainer.settings import load_fit_settings

CONFIG = """
name = "tiny"
voxel_size_um = 50.0
[network]
encoder = "resnet18"
encoder_depth = 3
decoder_options = { decoder_channels = [16, 8, 8] }
[crops]
side = 64
[training]
batch = 4
learning_rate = 3e-3
[[volumes]]
images = "image.tif"
labels = "labels.tif"
axes = "z"
"""
STEPS = 8
STEP_SECONDS = {"sennet": 0.5, "plain": 1.0, "tuned": 0.25}
SMALL = ("--crops", "12", "--steps", STEPS, "--threads", "1", "--workers", "0")
BUILTIN_RECIPE = Path(__file__).parents[2] / "recipes" / "builtin.toml"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Threads that wait for each other on busy processors make small networks ten times slower."""
    torch.set_num_threads(1)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Settings beside a volume of dark tubes along z."""
    draw = np.random.default_rng(0)
    labels = np.zeros((6, 96, 96), np.uint8)
    for y, x in draw.integers(8, 88, (12, 2)):
        labels[:, y - 3 : y + 3, x - 3 : x + 3] = 1
    grey = 1200 - 500.0 * labels + draw.normal(0, 60, labels.shape)
    tifffile.imwrite(tmp_path / "image.tif", grey.astype(np.uint16))
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    path = tmp_path / "mine.toml"
    path.write_text(CONFIG)
    return path


def test_both_train_the_same_network_alike_on_the_same_crops(command, config, tmp_path, monkeypatch):
    """From equal weights the losses of all steps agree, and fall; the table is that of the file."""
    # In this process, which spares every task a start of torch.
    monkeypatch.setattr(training, "measure_training", partial(measure_training, run=run_here))
    out = tmp_path / "t.json"
    ran = command("sennet-bench", "train", config, *SMALL, "--repeats", 1, "--json", out)
    assert ran.code == 0, ran.err
    answers = {(run.task, run.contestant): run.answer for run in read_measurement(out).runs}
    ours, plain, tuned = (answers["network", one].steps for one in ("sennet", "plain", "tuned"))
    assert ours.losses == pytest.approx(plain.losses, rel=1e-3)
    assert ours.losses == pytest.approx(tuned.losses, rel=1e-3)
    assert tuned.losses != plain.losses  # another layout in memory sums in another order
    assert ours.trained_parameters == plain.trained_parameters == ours.parameters < plain.parameters
    assert f"All train {ours.trained_parameters:,} parameters" in ran.out
    for one in (ours, plain):
        assert len(one.losses) == len(one.step_seconds) == WARM_UP_STEPS + STEPS
        assert np.mean(one.losses[-HELD_BATCHES:]) < np.mean(one.losses[:HELD_BATCHES])
    own = [answers["training", one].steps.losses for one in ("sennet", "plain")]
    assert all(math.isfinite(loss) for losses in own for loss in losses)
    assert own[0] != pytest.approx(own[1], rel=1e-3)  # each on crops of its own
    assert [(one.augmented, one.crops) for one in answers["crops", "plain"].crops] == [(True, 12), (False, 12)]
    assert command("sennet-bench", "table", out).out.strip() == ran.out.strip()


def test_a_task_runs_in_a_process_of_its_own(config, tmp_path):
    """It tells its own peak memory, its workers prepare all the crops, and one that fails is no answer."""
    job = _job(config, tmp_path / "cache", "plain", workers=[0, 1])
    answer = run_in_child(job)
    assert [(one.workers, one.augmented, one.crops) for one in answer.crops] == [
        (workers, augmented, 10) for workers in (0, 1) for augmented in (True, False)
    ]
    assert all(one.seconds > 0 and one.cpu_seconds > 0 for one in answer.crops)
    assert 100 < answer.peak_mb < 3000
    with pytest.raises(training.ContestantError, match="nobody, crops: "):
        run_in_child(replace(job, contestant="nobody"))


def test_a_process_ends_with_what_went_wrong(config, tmp_path):
    """In one line, without a traceback."""
    job = _job(config, tmp_path / "cache", "plain", workers=[0])
    (tmp_path / "image.tif").unlink()
    (tmp_path / "job.json").write_bytes(TypeAdapter(Job).dump_json(job))
    with pytest.raises(SystemExit, match=r"image.tif: no such file or folder"):
        training_child._main(str(tmp_path / "job.json"), str(tmp_path / "answer.json"))


@pytest.mark.parametrize("axes", ["z", "yx"])
def test_the_plain_loop_draws_crops_of_the_volume(config, tmp_path, axes):
    """Normalised, with the labels of the same pixels, along the settings' axes; a thin plane is mirrored."""
    from sennet_bench.training.plain import PlainCrops, PlainVolume

    config.write_text(CONFIG.replace('axes = "z"', f'axes = "{axes}"'))
    job = _job(config, tmp_path / "cache", "plain", workers=[0])
    settings = job.settings_with(crops=4, workers=0, augmented=False)
    volume = PlainVolume(cached_volume(settings.volumes[0], job.cache), settings)
    crops = PlainCrops([volume], torch.ones(1), side=64, count=16)
    fixed = settings.network.normalisation
    torch.manual_seed(0)
    vessels = 0
    for index in range(len(crops)):
        image, labels = crops[index]
        assert image.shape == labels.shape == (1, 64, 64)
        assert image.dtype == labels.dtype == torch.float32
        assert set(labels.unique().tolist()) <= {0.0, 1.0}
        grey = (image * fixed.std + fixed.mean) * 255
        if labels.any():
            vessels += 1
            assert grey[labels == 1].mean() < grey[labels == 0].mean() - 50
        if axes == "z":
            windows = np.lib.stride_tricks.sliding_window_view(volume.images, (1, 64, 64))
            assert (windows == grey.round().numpy()).all(axis=(3, 4, 5)).any()
    assert vessels > 1


def test_contestants_take_turns_and_ratios_are_of_the_same_round(config):
    """Sennet, plain, sennet, plain; a slower second round leaves the ratio alone."""
    turns = []
    measured = _measured(config, lambda job, number: turns.append(job) or _answer(job, factor=2.0 / (number + 1)))
    assert [(job.task, job.contestant) for job in turns] == [
        ("crops", "sennet"), ("crops", "plain"),
        ("network", "sennet"), ("network", "plain"), ("network", "tuned"),
        ("training", "sennet"), ("training", "plain"), ("training", "tuned"),
    ] * 2  # fmt: skip
    assert [job.workers for job in turns] == [[0]] * 16
    rows = {row[0]: row[1:] for row in KINDS["train"].table(measured).rows}
    crops, steps = rows["crops, augmented, no workers"], rows["steps, the network alone"]
    assert crops[:2] == ("150 (100 to 200) crops/s", "300 (200 to 400) crops/s")
    assert crops[3:] == ("0.5 (0.5 to 0.5)", "", "1 / 1 ms")
    assert steps[2:5] == ("4 (4 to 4) steps/s", "2 (2 to 2)", "0.5 (0.5 to 0.5)")
    assert rows["peak memory, the data path"][:2] == ("500 (500 to 500) MB", "400 (400 to 400) MB")


def test_the_table_says_where_the_plain_loop_is_better(config):
    """In every round, or in some; more memory is worse."""
    measured = _measured(config, lambda job, _number: _answer(job))
    told = " ".join(KINDS["train"].table(measured).notes)
    assert "The plain loop does better in every round in: crops, augmented, no workers (sennet / it 0.5);" in told
    assert "peak memory, the data path (sennet / it 1.25)" in told
    assert "The tuned loop does better in every round in: steps, the network alone (sennet / it 0.5);" in told
    assert "steps, the network alone (sennet / it 2)" not in told
    losses = KINDS["train"].losses(measured)
    assert [loss.split(" does")[0] for loss in losses] == ["The plain loop", "The tuned loop"]
    assert all(loss in told for loss in losses)
    changing = _measured(config, lambda job, number: _answer(job, factor=[1, 4][number] if _is_ours(job) else 1))
    told = " ".join(KINDS["train"].table(changing).notes)
    assert "The rounds do not agree on who does better in: crops, augmented, no workers, plain loop; " in told
    assert "every round in: crops, augmented" not in told


def test_figures_are_our_own_and_charts_show_both(config):
    """Speed and memory with their ratios; a crop is what it takes as cut and what augmentation adds."""
    measured = _measured(config, lambda job, _number: _answer(job))
    figures = {figure.name: figure for figure in KINDS["train"].figures(measured)}
    speed = figures["crops, augmented, no workers"]
    assert (speed.samples, speed.nature, speed.more_is_better) == ((100.0, 100.0), Nature.SPEED, True)
    ratio = figures["peak memory, the data path, times the plain loop"]
    assert (ratio.samples, ratio.nature, ratio.more_is_better) == ((1.25, 1.25), Nature.RATIO, False)
    *bars, parts = KINDS["train"].charts(measured)
    assert [chart.unit for chart in bars] == ["crops/s", "steps/s", "MB"]
    assert [(len(chart.ours), len(chart.bars)) for chart in bars] == [(2, 4), (2, 6), (3, 8)]
    assert dict(parts.bars)["plain loop"] == pytest.approx({"cut and put in batches": 1.25, "augmented": 3.75})


def test_what_a_plain_loop_has_not_is_left_out_for_both(config):
    """And told; both get the same settings."""
    extra = "ema = 0.99\naccumulate = 2\nloss = { dice = 1, boundary = 0.1 }\nworkers = 2\n[[volumes]]"
    config.write_text(CONFIG.replace("[[volumes]]", extra))
    jobs = []
    measured = _measured(config, lambda job, _number: jobs.append(job) or _answer(job))
    assert "the loss dice + boundary, dice instead" in " ".join(KINDS["train"].table(measured).notes)
    assert len(measured.left_out) == 3
    assert measured.workers == [0, 2]
    for job in jobs:
        kept = job.settings.training
        assert (kept.ema, kept.accumulate, kept.loss, kept.precision) == (None, 1, {"dice": 1.0}, "float32")


def test_other_networks_are_not_compared(config):
    """Different numbers of parameters with a gradient end the measurement."""

    def answer(job: Job, _number: int) -> Answer:
        made = _answer(job)
        more = made.steps and replace(made.steps, trained_parameters=8 if _is_ours(job) else 9)
        return replace(made, steps=more)

    with pytest.raises(training.ContestantError, match=r"got networks of \[8, 9\] parameters"):
        _measured(config, answer)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("resnet18", "resnet19", "did you mean 'resnet18'"),
        ("side = 64", "side = 60", "crops.side: got 60, expected a multiple of 8"),
        ("learning_rate", "lerning_rate", "learning_rate"),
        ("image.tif", "no.tif", "no.tif"),
    ],
)
def test_wrong_settings_are_refused_before_anything_runs(command, config, old, new, said):
    """Exit code 2 and what to do."""
    config.write_text(CONFIG.replace(old, new))
    ran = command("sennet-bench", "train", config, *SMALL)
    assert ran.code == 2
    assert said in ran.err
    assert "round 1" not in ran.err


@pytest.mark.parametrize(("option", "value"), [("--crops", 0), ("--steps", 0), ("--repeats", 0), ("--workers", -1)])
def test_impossible_numbers_are_refused(command, config, option, value):
    """Exit code 2."""
    ran = command("sennet-bench", "train", config, option, value)
    assert ran.code == 2
    assert "expected" in ran.err


def test_without_settings_they_are_those_of_the_builtin_model(tmp_path, monkeypatch):
    """Those of its recipe but for the volumes and the weights to start from."""
    monkeypatch.setattr(training_settings, "PHANTOM_SHAPE_ZYX", (2, 128, 128))
    ours, recipe = settings_of_the_builtin_model(tmp_path), load_fit_settings(BUILTIN_RECIPE)
    assert ours.network == recipe.network.model_copy(update={"encoder_weights": None})
    assert (ours.crops, ours.augmentation) == (recipe.crops, recipe.augmentation)
    for name in ("batch", "learning_rate", "loss", "workers", "gradient_clip", "weight_decay"):
        assert getattr(ours.training, name) == getattr(recipe.training, name)
    assert all(volume.images.exists() and volume.labels.exists() for volume in ours.volumes)


def _job(config: Path, cache: Path, contestant: training.Contestant, *, workers: list[int]) -> Job:
    settings, _ = comparable(load_fit_settings(config), threads=1)
    for volume in settings.volumes:
        cached_volume(volume, cache)
    return Job(contestant, "crops", settings, cache, crops=10, steps=1, workers=workers, threads=1)


def _is_ours(job: Job) -> bool:
    return job.contestant == "sennet"


def _measured(config: Path, answer: Callable[[Job, int], Answer]) -> TrainingMeasurement:
    """Two rounds of made-up answers, from the job and the number of its round."""
    asked: list[tuple[str, str]] = []

    def run(job: Job) -> Answer:
        asked.append((job.task, job.contestant))
        return answer(job, asked.count(asked[-1]) - 1)

    return measure_training(TrainingRequest(config, repeats=2, threads=1), run=run)


def _answer(job: Job, factor: float = 1.0) -> Answer:
    """Sennet: 100 crops a second, times `factor`, 2 steps a second, 500 MB; plain: 200, 1, 400; tuned: 4 steps."""
    ours = _is_ours(job)
    peak = 500.0 if ours else 400.0
    if job.task != "crops":
        seconds = [100.0] * WARM_UP_STEPS + [STEP_SECONDS[job.contestant]] * job.steps
        return Answer(steps=StepPass(seconds, [0.9] * len(seconds), 1.0, 8, 8), peak_mb=peak)
    passes = [
        CropPass(workers, augmented, 100, (1 if ours else 0.5) * (1 if augmented else 0.25) / factor, 0.1)
        for workers in job.workers
        for augmented in (True, False)
    ]
    return Answer(crops=passes, peak_mb=peak)
