"""`sennet-bench experiment`: its data, its recipes and its tables. No training here."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from sennet_bench.experiment import run as experiment
from sennet_bench.experiment.data import STACKS, make_data, two_photon_volume
from sennet_bench.experiment.recipe import ARMS, LABELS, TESTS, VALIDATION, score_stage, scored_recipe
from sennet_bench.experiment.run import PHANTOMS, RECIPES, TWO_PHOTON, Job, Plan, run_experiment
from sennet_bench.experiment.scores import added_labels, arm_scores, label_table, score_table
from sennet_engine.errors import ModelError, SennetError
from sennet_trainer.recipe.load import load_recipe

SHIPPED = Path(__file__).parents[2] / "recipes"


@pytest.fixture(params=RECIPES)
def recipe(request, tmp_path):
    """A recipe as it is run, with its scores."""
    path = tmp_path / "recipe.toml"
    path.write_text(scored_recipe(SHIPPED / RECIPES[request.param]))
    return load_recipe(path, data=tmp_path)


@pytest.fixture
def jobs(tmp_path):
    """Two seeds that are done: the arms score 0.1, 0.2, ... on every volume, 0.02 more with the second seed."""
    jobs = [Job(PHANTOMS, seed, tmp_path / PHANTOMS / f"seed_{seed}") for seed in (1, 2)]
    for job in jobs:
        for number, arm in enumerate(ARMS, start=1):
            for volume in TESTS:
                write_evaluation(job, arm, volume, surface_dice=number / 10 + 0.02 * (job.seed - 1))
        for stage in LABELS:
            write_labels(job, stage)
    return jobs


def write_evaluation(job, arm, volume, *, surface_dice):
    folder = job.stage(score_stage(arm, volume))
    folder.mkdir(parents=True)
    at = {"threshold": 0.3, "surface_dice": surface_dice, "dice": 0.5, "precision": None, "recall": 0.4}
    facts = {
        "key": "k", "volume": volume, "networks": [{"name": arm, "sha256": "a"}], "axes": "z", "best_threshold": 0.3,
        "stable_low": 0.2, "stable_high": 0.4, "rows": [{"threshold": 0.3, "surface_dice": 0.6, "dice": 0.5}],
        "threshold_from": "given", "at": at,
    }  # fmt: skip
    (folder / "evaluation.json").write_text(json.dumps(facts))


def write_labels(job, stage):
    """Planes 1 and 2 of three are used. Of their ten vessel voxels six are labelled; five are added, three rightly."""
    folder, truth = job.stage(stage), np.zeros((3, 4, 8), np.uint8)
    truth[1:, 0, :5] = 1
    merged = truth.copy()
    merged[2, 0, 1:5] = [2, 2, 2, 0]
    merged[1, 2, :2] = 2
    merged[0] = 2  # not used, so of no account
    data = job.data / LABELS[stage].volume
    for path, stack in ((folder / "labels_0.200.tif", merged), (data / "labels.tif", truth)):
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, stack, photometric="minisblack")
    facts = {
        "key": "k", "volume": "v", "slices": [1, 3], "label_fraction": 0.5, "chosen_threshold": 0.2,
        "labelled_share": 6 / 11, "met": True, "axes": "z", "teachers": [], "labelled_voxels": 6, "rows": [],
        "files": {"0.200": {"name": "labels_0.200.tif", "threshold": 0.2, "added_voxels": 5}},
    }  # fmt: skip
    (folder / "pseudo_labels.json").write_text(json.dumps(facts))


def test_every_arm_is_scored_at_the_threshold_of_the_validation_volume(recipe):
    """The recipes hold together, with a score for each arm on each test volume; no threshold is from a test volume."""
    for arm in ARMS:
        assert recipe.stage(score_stage(arm, VALIDATION)).threshold is None
        for volume in TESTS:
            stage = recipe.stage(score_stage(arm, volume))
            assert (stage.volume, stage.networks) == (volume, [arm])
            assert stage.threshold == score_stage(arm, VALIDATION)


def test_arms_differ_in_their_labels_alone(recipe):
    """They start from the same network and take the same steps; none sees a plane that it is scored on."""
    arms = [recipe.stage(arm) for arm in ARMS]
    assert len({(arm.network, arm.start_from, str(arm.training), str(arm.crops)) for arm in arms}) == 1
    assert len({str([use.volume for use in arm.volumes]) for arm in arms}) == len(arms)
    used = [recipe.volumes[name] for name in ("dense", "sparse_85", "sparse_65", "full_85", "full_65")]
    for test in (recipe.volumes[name] for name in (*TESTS, VALIDATION)):
        for volume in (volume for volume in used if volume.images == test.images):
            assert volume.slices[1] <= test.slices[0]


def test_the_table_shows_the_mean_and_each_seed(jobs):
    """A row for each arm, a column for each test volume."""
    lines = score_table(arm_scores(jobs), lambda score: score.surface_dice).splitlines()
    assert len(lines) == 2 + len(ARMS)
    cell = "0.110 (0.100 0.120)"
    assert lines[2] == f"| dense only | {cell} | {cell} | {cell} |"
    best = score_table(arm_scores(jobs), lambda score: score.best_surface_dice).splitlines()
    assert "0.600 (0.600 0.600)" in best[2]


def test_added_labels_are_held_against_the_truth_in_the_used_planes(jobs):
    """Right: added vessel over added. Found: added vessel over vessel without a real label."""
    added = added_labels(jobs)[0]
    assert (added.right, added.found) == (3 / 5, 3 / 4)
    lines = label_table(added_labels(jobs)).splitlines()
    assert len(lines) == 2 + len(LABELS)
    assert "0.600 (0.600 0.600) | 0.750 (0.750 0.750)" in lines[2]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("{}")])
def test_a_score_that_is_missing_or_damaged_is_an_error(jobs, damage):
    """It names the file: a table never lacks a row silently."""
    path = jobs[1].stage(score_stage("arm_full", "unseen")) / "evaluation.json"
    damage(path)
    with pytest.raises(ModelError, match=r"seed_2.*evaluation\.json"):
        arm_scores(jobs)


@pytest.fixture
def stacks(tmp_path):
    """A folder with small stacks under the names of the two-photon ones."""
    folder = tmp_path / "stacks"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for name in {stack.name for stack in STACKS.values()}:
        labels = np.zeros((25, 64, 512), np.uint8)
        for _ in range(150):
            y, x, side = draw.integers(60), draw.integers(500), draw.integers(2, 5)
            labels[:, y : y + side, x : x + side] = 1
        tifffile.imwrite(folder / f"{name}_image.tif", 200 * labels, photometric="minisblack")
        tifffile.imwrite(folder / f"{name}_label.tif", labels, photometric="minisblack")
    return folder


def test_sparse_labels_lose_branches_where_a_recipe_trains(tmp_path, stacks):
    """The stated share is kept of the planes that are trained on; halves of stacks of the same tissue are apart."""
    recipe = load_recipe(SHIPPED / "experiment_two_photon.toml")
    make_data(tmp_path / "data", STACKS, seed=1, recipe=recipe, volume=lambda name: two_photon_volume(name, stacks))
    for name, share in (("sparse_85", 0.85), ("sparse_65", 0.65)):
        dense = tifffile.imread(tmp_path / "data" / name / "labels.tif")
        sparse = tifffile.imread(tmp_path / "data" / name / "labels_sparse.tif")
        end = (recipe.volumes[name].slices or (0, 25))[1]
        assert sparse.sum() / dense[:end].sum() == pytest.approx(share, abs=0.005)
        assert not sparse[end:].any()
    assert tifffile.imread(tmp_path / "data" / "dense" / "image.tif").shape == (25, 64, 256)


def test_every_seed_trains_on_data_of_its_own(tmp_path, stacks, monkeypatch):
    """Each is a process with its seed and its folders; what is there already is not made again."""
    monkeypatch.setattr(experiment, "TRAIN", [sys.executable, "-c", "import sys; print(*sys.argv)"])
    plan = Plan([TWO_PHOTON], seeds=2, jobs=2, recipes=SHIPPED, two_photon_data=stacks)
    jobs = run_experiment(plan, tmp_path / "out", told=print)
    assert [job.seed for job in jobs] == [1, 2]
    logs = [(job.folder / "log.txt").read_text() for job in jobs]
    assert all(f"--seed {job.seed} " in log and str(job.data) in log for job, log in zip(jobs, logs, strict=True))
    one, other = (job.data / "sparse_65" / "labels_sparse.tif" for job in jobs)
    assert (tifffile.imread(one) != tifffile.imread(other)).any()
    made = one.stat().st_mtime_ns
    run_experiment(plan, tmp_path / "out", told=print)
    assert one.stat().st_mtime_ns == made


def test_a_training_that_fails_is_an_error(tmp_path, stacks, monkeypatch):
    """It names the log, in which the reason stands."""
    monkeypatch.setattr(experiment, "TRAIN", [sys.executable, "-c", "raise SystemExit('no luck')"])
    plan = Plan([TWO_PHOTON], seeds=1, jobs=1, recipes=SHIPPED, two_photon_data=stacks)
    with pytest.raises(SennetError, match=r"seed 1.*log\.txt"):
        run_experiment(plan, tmp_path / "out", told=print)
    assert "no luck" in (tmp_path / "out" / "two_photon" / "seed_1" / "log.txt").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--part", "phantom"], "expected one of phantoms, two-photon"),
        (["--part", "two-photon"], "--two-photon-data"),
        (["--part", "phantoms", "--recipes", "nowhere"], "--recipes"),
    ],
)
def test_slips_are_refused_before_anything_is_made(command, tmp_path, options, said):
    """The error says what to give."""
    ran = command("sennet-bench", "experiment", tmp_path / "out", *options)
    assert ran.code == 2
    assert said in " ".join(ran.err.split())
    assert not (tmp_path / "out").exists()
