"""What pseudo-labels are worth: the same training on dense, sparse, pseudo- and full labels, for several seeds."""

import os
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sennet_bench.experiment.data import KIDNEYS, STACKS, Labelled, make_data, phantom_volume, two_photon_volume
from sennet_bench.experiment.recipe import scored_recipe
from sennet_engine.errors import ConfigError, SennetError
from sennet_trainer.recipe.load import load_recipe
from sennet_trainer.whole_file import write_whole

PHANTOMS, TWO_PHOTON = "phantoms", "two-photon"
RECIPES = {PHANTOMS: "experiment_phantoms.toml", TWO_PHOTON: "experiment_two_photon.toml"}
"""The parts of the experiment, and the file of each among the recipes."""

TRAIN = [sys.executable, "-c", "from sennet_trainer.cli import main; main()", "run"]


@dataclass(frozen=True)
class Plan:
    """What is run.

    Attributes:
        parts: some of RECIPES.
        seeds: how many; they are numbered from 1.
        jobs: trainings at a time, of one thread each.
        recipes: the folder of the recipes.
        two_photon_data: the folder of the two-photon stacks; not needed for phantoms.
    """

    parts: Sequence[str]
    seeds: int
    jobs: int
    recipes: Path
    two_photon_data: Path | None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.parts) - set(RECIPES))
        if unknown or not self.parts:
            raise ConfigError(f"part: got {', '.join(unknown) or 'none'}, expected one of {', '.join(RECIPES)}")
        if TWO_PHOTON in self.parts and self.two_photon_data is None:
            raise ConfigError(f"part {TWO_PHOTON}: the stacks are missing; name their folder: --two-photon-data")


@dataclass(frozen=True)
class Job:
    """One part with one seed; its run, its data, its recipe and its log lie in `folder`."""

    part: str
    seed: int
    folder: Path

    @property
    def data(self) -> Path:
        """Holds the volumes."""
        return self.folder / "data"

    @property
    def run(self) -> Path:
        """The recipe's run."""
        return self.folder / "run"

    def stage(self, name: str) -> Path:
        """What a stage of the recipe left."""
        return self.run / "stages" / name


def jobs_of(plan: Plan, out: Path) -> list[Job]:
    """Every part with every seed, in folders OUT/PART/seed_N."""
    return [
        Job(part, seed, out / part.replace("-", "_") / f"seed_{seed}")
        for part in plan.parts
        for seed in range(1, plan.seeds + 1)
    ]


def run_experiment(plan: Plan, out: Path, *, told: Callable[[str], None]) -> list[Job]:
    """Make the data of all jobs and run their recipes, in the folder `out`. What is there already is not done again.

    `told` gets a line whenever a job begins or ends. Called from several threads.

    Raises:
        ConfigError, VolumeError, OutputError: a recipe, a stack or the folder cannot be used.
        SennetError: a training failed; the message names its log.
    """
    jobs = jobs_of(plan, out)
    recipes = {part: scored_recipe(plan.recipes / RECIPES[part]) for part in plan.parts}
    with ThreadPoolExecutor(plan.jobs) as pool:
        # list() waits for all, and raises what one of them raised.
        list(pool.map(lambda job: _run(job, recipes[job.part], plan, told), jobs))
    return jobs


def _run(job: Job, recipe: str, plan: Plan, told: Callable[[str], None]) -> None:
    path, log = job.folder / "recipe.toml", job.folder / "log.txt"
    told(f"{job.part}, seed {job.seed}: begins, log in {log}")
    job.folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, recipe.encode())
    names, volume = _volumes(job, plan)
    make_data(job.data, names, seed=job.seed, recipe=load_recipe(path, data=job.data), volume=volume)
    command = [*TRAIN, str(path), "--data", str(job.data), "--out", str(job.run), "--seed", str(job.seed)]
    with log.open("a", encoding="utf-8") as file:
        # One thread each: with more, the jobs would wait for each other.
        ran = subprocess.run(
            [*command, "--device", "cpu", "--quiet"],
            stdout=file, stderr=subprocess.STDOUT, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    if ran.returncode:
        raise SennetError(f"{job.part}, seed {job.seed}: the training ended with {ran.returncode}; see {log}")
    told(f"{job.part}, seed {job.seed}: is done")


def _volumes(job: Job, plan: Plan) -> tuple[Collection[str], Callable[[str], Labelled]]:
    """The names of the job's volumes, and what makes one."""
    if job.part == PHANTOMS:
        return KIDNEYS, partial(phantom_volume, seed=job.seed)
    assert plan.two_photon_data is not None
    return STACKS, partial(two_photon_volume, folder=plan.two_photon_data)
