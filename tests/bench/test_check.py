"""`sennet-bench check`: regressions are found, noise is not, and what cannot be known is told."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_ind

from sennet_bench.check.figures import State, decided, rows_of_figures
from sennet_bench.check.files import Check
from sennet_bench.check.machines import Machines
from sennet_bench.check.noise import accepted_by_holm, probability_of_chance, smallest_probability, student_probability
from sennet_bench.circumstances import Circumstances
from sennet_bench.compare.measurement import Comparison, Entry, Sample
from sennet_bench.measurements import write_measurement
from sennet_bench.outside.memory import MemoryMeasurement
from sennet_bench.outside.throughput import Throughput
from sennet_bench.report.figure import Figure, Nature

THERE = Circumstances(
    date="2026-01-02", commit="0000000", processor="A processor", processors=2, load=0.1,
    versions={"python": "3.11.7"}, matrix_gflops=[100.0, 100.0], others_share=0.0,
)  # fmt: skip
SAME_MACHINE = Machines((), 0.0, ())


def throughput(*seconds, **changed):
    """Runs of these seconds; `changed` circumstances."""
    return Throughput((4, 8, 8), 2, list(seconds), {"read": 0.1}, {"plan": 0.1}, replace(THERE, **changed))


def comparison(dice=0.9, **seconds):
    """Contestants with their seconds, all with the same scores."""
    entries = [
        Entry(name, name, None, [
            Sample(number, one, 0.1, {}, {}, one, 100.0 + number, "0") for number, one in enumerate(values)
        ], surface_dice_0=dice, dice=dice)
        for name, values in seconds.items()
    ]  # fmt: skip
    return Comparison("v.tif", (4, 8, 8), "uint8", "builtin", 0.5, 2, 3, entries, THERE)


@pytest.fixture
def checked(command, tmp_path):
    """Write both measurements and check them; the numbers of the rows come back as text."""
    number = itertools.count()

    def check(old, new, *options):
        paths = [tmp_path / f"{next(number)}.json" for _ in range(2)]
        for path, measured in zip(paths, (old, new), strict=True):
            write_measurement(path, measured)
        return command("sennet-bench", "check", *paths, *options)

    return check


def test_slowdown_beyond_tolerance_and_noise_is_a_regression(checked):
    """Three slower runs of three are enough for the one figure that there is: p is exactly 0.05."""
    ran = checked(throughput(1.0, 1.01, 1.02), throughput(1.2, 1.21, 1.22))
    assert ran.code == 1
    assert ran.out.splitlines()[-1].startswith("Regression: 1 of 1 figures are worse: identity network")
    assert "| +19.8% | 0.05 | worse |" in ran.out


@pytest.mark.parametrize(
    ("seconds", "state"),
    [
        ((1.02, 1.03, 1.04), "1 same"),  # slower in each run, but within the tolerance
        ((1.015, 1.3, 1.31), "1 undecided"),  # beyond the tolerance, but not slower in each run
        ((0.8, 0.81, 0.82), "1 better"),
    ],
)
def test_what_is_no_regression_passes(checked, seconds, state):
    """It is told what it is instead."""
    ran = checked(throughput(1.0, 1.01, 1.02), throughput(*seconds))
    assert ran.code == 0, ran.out
    assert ran.out.splitlines()[-1] == f"No regression shown among 1 figures: {state}"


def test_tolerance_is_given(checked):
    """The same change is one within 25 %, and an impossible tolerance is an error."""
    old, new = throughput(1.0, 1.01, 1.02), throughput(1.2, 1.21, 1.22)
    assert checked(old, new, "--tolerance", "25%").code == 0
    assert checked(old, new, "--tolerance", "0.1").code == 1
    for wrong in ("much", "200%", "-1%"):
        ran = checked(old, new, f"--tolerance={wrong}")
        assert ran.code == 2
        assert f"got {wrong}, expected a share" in ran.err


def test_too_few_samples_are_no_pass(checked):
    """With single samples nothing is concluded, however large the change, and the exit code says so."""
    old, new = (MemoryMeasurement(64, [4, 8], peaks, 1.0, 2, THERE) for peaks in ([100.0, 100.0], [100.0, 300.0]))
    ran = checked(old, new)
    assert ran.code == 2
    assert "2 figures have too few samples" in ran.out
    assert "| +200.0% | – | too few samples |" in ran.out
    assert ran.out.splitlines()[-1] == "Nothing can be concluded: 2 too few samples"


def test_quality_is_compared_exactly(checked):
    """A score needs no samples: 0.0011 less is a regression and 0.0009 less is none, and more is better."""
    times = {"sennet": (1.0, 1.0, 1.0), "monai-0.5": (9.0, 9.1, 9.2)}
    assert checked(comparison(0.9, **times), comparison(0.8991, **times)).code == 0
    worse = checked(comparison(0.9, **times), comparison(0.8989, **times))
    assert worse.code == 1
    assert "sennet: surface Dice" in worse.out.splitlines()[-1]
    assert "| -0.0011 | – | worse |" in worse.out
    better = checked(comparison(0.9, **times), comparison(0.95, **times))
    assert better.code == 0
    assert "4 better" in better.out.splitlines()[-1]


def test_another_machine_is_compared_by_quality_alone(checked):
    """Ten times slower elsewhere is no regression, and it is said loudly; a lower score is one everywhere."""
    old = comparison(sennet=(1.0, 1.0, 1.0))
    elsewhere = replace(THERE, processor="Another", gpus=["A GPU"])
    ran = checked(old, replace(comparison(sennet=(10.0, 10.0, 10.0)), circumstances=elsewhere))
    assert ran.code == 0
    assert "ANOTHER MACHINE (processor: got Another, expected A processor; GPUs: got A GPU, expected none)" in ran.out
    assert "2 not compared" in ran.out
    assert checked(old, replace(comparison(0.8, sennet=(10.0,) * 3), circumstances=elsewhere)).code == 1
    # Without scores nothing is left to compare.
    assert checked(throughput(1.0, 1.0, 1.0), throughput(9.0, 9.0, 9.0, processors=64)).code == 2


def test_a_slower_machine_widens_the_tolerance_of_speeds(checked):
    """A slowdown that matrix products show, too, is no regression; a greater one is."""
    old = throughput(1.0, 1.01, 1.02)
    ran = checked(old, throughput(1.2, 1.21, 1.22, matrix_gflops=[80.0, 80.0]))
    assert ran.code == 0
    assert "matrix products ran at speeds 25% apart" in ran.out
    assert checked(old, throughput(1.4, 1.41, 1.42, matrix_gflops=[80.0, 80.0])).code == 1
    assert "not both files tell the speed of matrix products" in checked(old, throughput(1.0, matrix_gflops=[])).out


def test_disturbed_measurements_are_told(checked):
    """Other programs, other versions and samples far apart make warnings."""
    ran = checked(throughput(1.0, 1.5, 2.0), throughput(1.0, 1.5, 2.0, others_share=0.3, versions={"python": "3.12.0"}))
    assert "Warning: others took 30% of the processors while NEW was measured" in ran.out
    assert "python 3.11.7 became 3.12.0" in ran.out
    assert "range over more than 30% of their median" in ran.out


def test_a_contestant_that_is_gone_is_told(checked):
    """Its figures stand in the table as gone, those of a new one as added."""
    ran = checked(
        comparison(sennet=(1.0, 1.0, 1.0), monai=(5.0, 5.0, 5.0)), comparison(sennet=(1.0, 1.0, 1.0), nnunet=(5.0,) * 3)
    )
    assert ran.code == 0
    assert "| monai: seconds | 5 s (3) | – | – | – | gone |" in ran.out
    assert "| nnunet: seconds | – | 5 s (3) | – | – | added |" in ran.out
    assert "5 gone, 5 added" in ran.out.splitlines()[-1]


def test_the_direction_follows_from_the_figure():
    """Seconds that grow are worse, ratios and rates that grow are better, by the same factor either way."""
    few, many = (1.0, 1.01, 1.02, 1.03, 1.04), (1.5, 1.51, 1.52, 1.53, 1.54)
    for old, new, more_is_better, state in [
        (few, many, False, State.WORSE), (few, many, True, State.BETTER),
        (many, few, False, State.BETTER), (many, few, True, State.WORSE),
    ]:  # fmt: skip
        before, after = (Figure("one", "", one, Nature.RATIO, more_is_better) for one in (old, new))
        (row,) = decided(rows_of_figures("f", [before], [after], SAME_MACHINE, tolerance=0.05))
        assert row.state is state
        assert abs(row.worse_by) == pytest.approx(0.49, abs=0.005)


def test_different_things_are_not_compared(checked, tmp_path, command):
    """Another kind, shape or number of threads is an error that names both."""
    old = throughput(1.0, 1.0, 1.0)
    ran = checked(old, replace(old, shape_zyx=(8, 8, 8), threads=1))
    assert ran.code == 2
    assert "shape_zyx: got (8, 8, 8), expected (4, 8, 8); threads: got 1, expected 2" in ran.err
    assert "kind: got compare, expected throughput" in checked(old, comparison(sennet=(1.0,))).err
    assert command("sennet-bench", "check", tmp_path, tmp_path / "0.json").code == 2
    (tmp_path / "empty").mkdir()
    assert "no .json file of the same name" in command("sennet-bench", "check", tmp_path, tmp_path / "empty").err


def test_folders_are_compared_by_the_names_of_their_files(command, tmp_path):
    """A regression in any is one of all; a file without a partner is told; the JSON holds every row."""
    for folder, seconds in (("old", (1.0, 1.01, 1.02)), ("new", (2.0, 2.1, 2.2))):
        (tmp_path / folder).mkdir()
        write_measurement(tmp_path / folder / "same.json", comparison(sennet=(1.0, 1.0, 1.0)))
        write_measurement(tmp_path / folder / "slow.json", throughput(*seconds))
    write_measurement(tmp_path / "old" / "alone.json", throughput(1.0))
    ran = command("sennet-bench", "check", tmp_path / "old", tmp_path / "new", "--json", tmp_path / "check.json")
    assert ran.code == 1
    assert "alone.json: only in" in ran.out
    assert "| slow.json | identity network" in ran.out
    kept = json.loads((tmp_path / "check.json").read_text())
    assert kept["exit_code"] == 1
    assert {(row["file"], row["state"]) for row in kept["rows"]} == {("same.json", "same"), ("slow.json", "worse")}
    assert kept["rows"][-1]["new"] == [2.0, 2.1, 2.2]
    assert ran.out.splitlines()[-1] == kept["verdict"]


def test_the_number_of_figures_is_told(checked):
    """It is said how many chance would give, and that with three samples ranks alone cannot decide."""
    names = [f"tool-{index}" for index in range(5)]
    old, new = (comparison(**dict.fromkeys(names, (1.0, 1.1, 1.2))) for _ in range(2))
    out = checked(old, new).out
    assert "10 figures were tested" in out
    assert "about 0.5 rank as worse by chance alone" in out
    assert "Warning: 10 figures have too few samples for ranks to be corrected" in out
    assert "to be corrected" not in checked(throughput(1.0, 1.0, 1.0), throughput(1.0, 1.0, 1.0)).out


@pytest.mark.parametrize(
    ("count", "figures", "pairs"), [(3, 1, 400), (5, 1, 400), (3, 6, 80), (5, 8, 80), (6, 12, 40), (10, 20, 20)]
)
def test_noise_is_rarely_a_regression(count, figures, pairs):
    """Of pairs of files of the same lognormal noise of 10 %, at most one of twenty has any figure that is worse."""
    draw = np.random.default_rng(7)
    alarms = sum(simulated(draw, count, figures, slower=1.0).exit_code for _ in range(pairs))
    assert alarms <= 0.05 * pairs + 2 * (0.05 * pairs) ** 0.5  # two standard deviations above


@pytest.mark.parametrize(("count", "figures"), [(3, 1), (5, 1), (5, 8), (10, 12)])
def test_a_true_slowdown_is_found(count, figures):
    """20 % slower in noise of 4 %: nearly always exit 1."""
    draw = np.random.default_rng(8)
    found = sum(simulated(draw, count, figures, slower=1.2).exit_code for _ in range(40))
    assert found >= 38


def simulated(draw, count, figures, *, slower):
    """A check of two files of `figures` figures with `count` samples each, of which the first is `slower`."""
    noise = 0.1 if slower == 1.0 else 0.04
    old, new = (
        [
            Figure(
                f"{index}", "s", tuple(draw.lognormal(0, noise, count) * (factor if index == 0 else 1)), Nature.SPEED
            )
            for index in range(figures)
        ]
        for factor in (1.0, slower)
    )
    return Check(0.05, tuple(decided(rows_of_figures("f", old, new, SAME_MACHINE, tolerance=0.05))), ())


def test_the_probability_is_that_of_all_orders():
    """The exact p is the share of all ways to split the samples that rank as high; ties make it no lower."""
    draw = np.random.default_rng(3)
    for _ in range(5):
        low, high = draw.normal(size=4).tolist(), draw.normal(0.7, size=3).tolist()
        pool = [*low, *high]

        def rank_sum(chosen, pool=pool):
            return sum(sorted(pool).index(pool[index]) for index in chosen)

        sums = [rank_sum(chosen) for chosen in itertools.combinations(range(7), 3)]
        expected = np.mean([one >= rank_sum((4, 5, 6)) for one in sums])
        assert probability_of_chance(low, high) == pytest.approx(expected)
    assert probability_of_chance([1, 2, 3], [4, 5, 6]) == pytest.approx(0.05) == smallest_probability(3, 3)
    assert probability_of_chance([1, 1, 1], [1, 1, 1]) == 1.0
    assert probability_of_chance([1, 2, 2], [2, 2, 3]) > 0.1


def test_students_p_is_that_of_scipy():
    """Of logarithms; of samples that are all the same it is certain."""
    low, high = [1.0, 1.1, 1.3], [1.2, 1.5, 1.4, 1.6]
    expected = ttest_ind(np.log(high), np.log(low), alternative="greater").pvalue
    assert student_probability(low, high) == pytest.approx(expected)
    expected = ttest_ind([0.0, 1.0, 2.0], [-1.0, 0.5, 0.0], alternative="greater").pvalue
    assert student_probability([-1.0, 0.5, 0.0], [0.0, 1.0, 2.0]) == pytest.approx(expected)
    assert student_probability([1.0] * 3, [2.0] * 3) == 0.0
    assert student_probability([1.0] * 3, [1.0] * 3) == student_probability([2.0] * 3, [1.0] * 3) == 1.0


def test_holm_accepts_in_order():
    """The least p is held against 0.05 / 3, the next against 0.05 / 2; after the first that fails none is accepted."""
    assert accepted_by_holm([0.024, 0.01, 0.049]) == [True, True, True]
    assert accepted_by_holm([0.026, 0.01, 0.04]) == [False, True, False]
    assert accepted_by_holm([0.02, 0.03, 0.02]) == [False, False, False]
