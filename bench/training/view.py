"""What can be seen of a training beside a plain loop: its table, figures and charts."""

import statistics
from collections import Counter
from collections.abc import Collection, Iterable

from sennet_bench.report.chart import Bars, Chart, Parts
from sennet_bench.report.figure import Figure, Nature
from sennet_bench.report.table import Table
from sennet_bench.training.job import HELD_BATCHES, OURS, PLAIN, TASKS, TUNED, WARM_UP_STEPS, Contestant, StepPass, Task
from sennet_bench.training.measurement import TrainingMeasurement
from sennet_bench.training.rows import Row, crop_passes, step_passes, training_rows, workers_text

TITLES: dict[Contestant, str] = {OURS: "sennet", PLAIN: "plain loop", TUNED: "tuned loop"}
TRAINED: tuple[Task, ...] = ("network", "training")


def training_table(measured: TrainingMeasurement) -> Table:
    """A row for each thing that both do, with what it means and the circumstances below."""
    rows = training_rows(measured)
    return Table(
        heads=(
            "",
            *(f"{title} (range)" for title in TITLES.values()),
            "sennet / plain (range)",
            "sennet / tuned (range)",
            "CPU of one, sennet / plain / tuned",
        ),
        rows=tuple(_cells(row) for row in rows),
        notes=(*_subject(measured), *_losses(measured), *_standing(rows), str(measured.circumstances)),
    )


def training_figures(measured: TrainingMeasurement) -> list[Figure]:
    """Our own speed and memory, and how they stand to the plain loop's of the same round."""
    found = []
    for row in training_rows(measured):
        more = row.nature is Nature.SPEED
        samples = tuple(row.values[OURS].values())
        found.append(Figure(row.name, row.unit, samples, row.nature, more_is_better=more))
        found += [
            Figure(
                f"{row.name}, times the {TITLES[other]}",
                "",
                tuple(row.ratios(other)),
                Nature.RATIO,
                more_is_better=more,
            )
            for other in row.others
        ]
    return found


def where_loops_win(measured: TrainingMeasurement) -> list[str]:
    """A sentence for each loop that does better than the trainer in all rounds of something."""
    return _ahead(training_rows(measured))


def training_charts(measured: TrainingMeasurement) -> list[Chart]:
    """Crops, steps and memory side by side, and what a crop is made of."""
    rows = training_rows(measured)
    charts: list[Chart] = [
        Bars(
            title, unit,
            bars=tuple(
                (f"{TITLES[one]}: {row.name}", tuple(values.values()))
                for row in rows if row.unit == unit for one, values in row.values.items()
            ),
            ours=frozenset(f"{TITLES[OURS]}: {row.name}" for row in rows if row.unit == unit),
        )
        for title, unit in (("Data path", "crops/s"), ("Training", "steps/s"), ("Peak memory", "MB"))
        if any(row.unit == unit for row in rows)
    ]  # fmt: skip
    parts = tuple((TITLES[one], crop_parts(measured, one)) for one in (OURS, PLAIN))
    return [*charts, Parts(f"What a crop is made of, {workers_text(measured.workers[0])}", "ms", bars=parts)]


def crop_parts(measured: TrainingMeasurement, contestant: Contestant) -> dict[str, float]:
    """Milliseconds of a crop with the first number of workers: the pass as cut, and what augmentation adds to it."""
    augmented, cut = (
        _median(one.seconds / one.crops * 1000 for one in crop_passes(measured, contestant, 0, augmented=augmented))
        for augmented in (True, False)
    )
    return {"cut and put in batches": cut, "augmented": max(augmented - cut, 0.0)}


def _cells(row: Row) -> tuple[str, ...]:
    speeds = (_spread(row.values.get(one, {}).values(), row.unit) for one in TITLES)
    cpu = " / ".join(_number(_median(by_round.values())) for by_round in row.cpu.values()) if row.cpu else ""
    ratios = (_spread(row.ratios(other)) for other in (PLAIN, TUNED))
    return row.name, *speeds, *ratios, f"{cpu} {row.cpu_unit}".strip()


def _subject(measured: TrainingMeasurement) -> Iterable[str]:
    network, training = measured.settings["network"], measured.settings["training"]
    side, batch = measured.settings["crops"]["side"], training["batch"]
    shapes = Counter(" × ".join(map(str, shape)) for shape in measured.volumes_zyx)
    volumes = ", ".join(f"{count} of {shape}" for shape, count in shapes.items())
    yield (
        f"{measured.config or 'The settings of the built-in model'}: {network['decoder']} with {network['encoder']} at "
        f"depth {network['encoder_depth']} from random weights, batches of {batch} crops of {side}, float32, "
        f"{measured.threads} threads; volumes: {volumes}. Medians of {measured.rounds} rounds in turns, "
        f"{measured.crops} crops and {measured.steps} steps each, each task in a process of its own."
    )
    if measured.left_out:
        yield f"Left out of the settings, for both: {'; '.join(measured.left_out)}."
    yield (
        "The plain loop: volumes whole in memory, random crops, one albumentations pipeline with the same operations, "
        "probabilities and strengths, which also normalises to float32, torch's DataLoader, smp's network and losses, "
        "AdamW, the same schedule and clipping. The trainer's crops differ: they come from mapped files as uint8, a "
        "share of them lies around a labelled voxel, larger ones are cut so that a shrunken crop shows what lies "
        "around it (the plain pipeline mirrors its edge and warps fewer pixels), and each depends on its index alone, "
        "whatever the workers. As cut: no augmentation, and no margin either. The trainer's network drops stages that "
        "nothing reads, computes in channels_last, and its process keeps freed memory; "
        "the tuned loop does the last two as well, by channels_last and mallopt. "
        f"{', '.join(f'{name} {version}' for name, version in measured.versions.items() if name != 'python')}."
    )
    yield (
        f"The network alone sees the same {HELD_BATCHES} augmented batches again and again, for the plain loop as "
        f"float32 and normalised already. {WARM_UP_STEPS} steps before those that count are left out. CPU is that of "
        f"all processes, for one crop or step; peak memory that of the process with its libraries, without workers. "
        f"Windowing the volumes, once, took {measured.cache_seconds:.1f} s and stands in no row."
    )


def _losses(measured: TrainingMeasurement) -> Iterable[str]:
    one, plain = (step_passes(measured, "network", contestant)[0] for contestant in (OURS, PLAIN))
    told = f"All train {one.trained_parameters:,} parameters"
    if more := plain.parameters - one.parameters:
        told += f"; the plain and the tuned network hold {more:,} more, in stages that nothing reads"
    yield f"{told}."
    ends = {task: {one: _ends(step_passes(measured, task, one)) for one in TASKS[task]} for task in TRAINED}
    same, own = (
        ", ".join(f"{TITLES[one]} {first:.3f} to {last:.3f}" for one, (first, last) in by.items())
        for by in ends.values()
    )
    fell = all(last < first for by in ends.values() for first, last in by.values())
    learnt = "that all of them learn" if fell else "not yet that all of them learn"
    yield (
        f"Mean loss of the first {HELD_BATCHES} steps and of the last, on the same crops from the same weights: "
        f"{same}; each on crops of its own, which differ: {own}. So short a run shows {learnt}, and on the same crops "
        f"whether they go alike; it does not show how good either gets."
    )


def _ends(passes: list[StepPass]) -> tuple[float, float]:
    first = _median(statistics.fmean(one.losses[:HELD_BATCHES]) for one in passes)
    return first, _median(statistics.fmean(one.losses[-HELD_BATCHES:]) for one in passes)


def _standing(rows: list[Row]) -> Iterable[str]:
    """Where another does better, and where the rounds do not agree on who does."""
    ahead = _ahead(rows)
    pairs = [(row, other) for row in rows for other in row.others]
    unsure = [f"{row.name}, {TITLES[one]}" for row, one in pairs if min(row.gains(one)) <= 1 <= max(row.gains(one))]
    yield from ahead
    if unsure:
        yield f"The rounds do not agree on who does better in: {'; '.join(unsure)}."
    if not ahead and not unsure:
        yield "Sennet does better in every round of every row."


def _ahead(rows: list[Row]) -> list[str]:
    """A sentence for each loop that does better in all rounds of some rows."""
    told = []
    for other in (PLAIN, TUNED):
        if worse := [row for row in rows if other in row.others and max(row.gains(other)) < 1]:
            named = "; ".join(f"{row.name} (sennet / it {_number(_median(row.ratios(other)))})" for row in worse)
            told.append(f"The {TITLES[other]} does better in every round in: {named}.")
    return told


def _median(values: Iterable[float]) -> float:
    return statistics.median(list(values))


def _spread(values: Collection[float], unit: str = "") -> str:
    if not values:
        return ""
    told = f"{_number(_median(values))} ({_number(min(values))} to {_number(max(values))})"
    return f"{told} {unit}".rstrip()


def _number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
