"""What is shown of a comparison: tables, where others are ahead, figures and charts."""

from dataclasses import replace
from pathlib import Path

import pytest

from sennet_bench.circumstances import Circumstances
from sennet_bench.compare.better import where_others_win
from sennet_bench.compare.measurement import Comparison, Entry, Sample
from sennet_bench.measurements import KINDS, read_measurement, write_measurement
from sennet_bench.peers.table import CONTESTANTS, SHORT
from sennet_bench.report.figure import Nature

KEPT = Path(__file__).parents[2] / "docs" / "performance"
KIND = KINDS["compare"]


def entry(name, seconds, *, title=None, peaks=(500.0,), load=1.0, surface_dice=0.9, dice=0.8):
    """A contestant with a round for each of `seconds`; `peaks` and `load` go on as they end."""
    samples = [
        Sample(number, one, load, {}, {}, 2 * one, peaks[min(number, len(peaks) - 1)], "0" * 64)
        for number, one in enumerate(seconds)
    ]
    return Entry(name, title or name, None, samples, None, 0.01, surface_dice, dice)


def comparison(*entries):
    """Of a volume of 2 x 1000 x 1000."""
    circumstances = Circumstances("2026-01-01", None, "A processor", 2, None, {"python": "3.11"})
    return Comparison("v.tif", (2, 1000, 1000), "uint8", "builtin", 0.05, 2, 3, list(entries), circumstances)


ENGINE = entry("sennet", [2.0, 2.0, 2.0], title="sennet, fp32")


def wins(*others):
    """The sentences about `others` beside an engine of 2 s, 500 MB, 1 s to load and scores of 0.9 and 0.8."""
    return where_others_win(comparison(ENGINE, *others))


def test_a_tool_that_is_behind_in_all_wins_nothing():
    """The table says so, and names what was compared."""
    behind = entry("slow", [3.0, 3.0, 3.0], peaks=(600.0,), load=2.0, surface_dice=0.8, dice=0.7)
    assert wins(behind) == []
    told = "No other tool is ahead of sennet fp32 in time, peak memory, loading, surface Dice or Dice."
    assert told in KIND.table(comparison(ENGINE, behind)).notes
    assert told not in KIND.table(comparison(ENGINE)).notes


def test_equal_is_no_win():
    """Neither the same amounts, nor scores that are higher by no more than 0.0005."""
    assert wins(entry("same", [2.0, 2.0, 2.0], surface_dice=0.90049, dice=0.80049)) == []


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (entry("it", [1.0, 1.5, 1.9]), "Faster than sennet, fp32: it 0.75 (0.50 to 0.95) times as long."),
        (entry("it", [1.0, 1.5, 2.1]),
         "About as fast as sennet, fp32, or faster: it 0.75 (0.50 to 1.05) times as long."),
        (entry("it", [3.0, 3.0, 3.0], peaks=(100.0, 200.0)),
         "Less peak memory than sennet, fp32 with 500 MB (500 to 500): it 200 MB (100 to 200)."),
        (entry("it", [3.0, 3.0, 3.0], peaks=(100.0, 200.0, 500.0)),
         "About as little peak memory as sennet, fp32 with 500 MB (500 to 500), or less: it 200 MB (100 to 500)."),
        (entry("it", [3.0, 3.0, 3.0], load=0.25),
         "Loaded sooner than sennet, fp32 with 1.00 s (1.00 to 1.00): it 0.25 s (0.25 to 0.25)."),
        (entry("it", [3.0, 3.0, 3.0], surface_dice=0.9006),
         "Higher surface Dice than sennet, fp32 with 0.9000: it 0.9006."),
        (entry("it", [3.0, 3.0, 3.0], dice=0.8006), "Higher Dice than sennet, fp32 with 0.8000: it 0.8006."),
    ],
)  # fmt: skip
def test_each_lead_is_told_in_a_sentence(other, sentence):
    """It alone; and it stands below the table."""
    assert wins(other) == [sentence]
    assert sentence in KIND.table(comparison(ENGINE, other)).notes


def test_a_drift_of_the_machine_hides_no_lead():
    """Where the other was faster in each round, it is faster, though its slow rounds are slower than our fast ones."""
    drifting = replace(ENGINE, samples=entry("sennet", [2.0, 4.0, 8.0]).samples)
    assert where_others_win(comparison(drifting, entry("it", [1.0, 2.0, 4.0])))[0].startswith("Faster than")


def test_of_one_round_nothing_is_clear():
    """How rounds scatter is not known then."""
    ours = entry("sennet", [2.0], title="sennet, fp32")
    assert where_others_win(comparison(ours, entry("it", [1.0], load=0.5))) == [
        "About as fast as sennet, fp32, or faster: it 0.50 times as long.",
        "Loaded about as soon as sennet, fp32 with 1.00 s, or sooner: it 0.50 s.",
    ]


def test_several_leads_in_one_thing_share_a_sentence_and_int8_is_no_other():
    """Our own int8 is not among the others, nor is one that made no mask."""
    failed = Entry("failed", "failed", "out of memory", [])
    int8 = entry("sennet-int8", [1.0, 1.0, 1.0])
    found = wins(int8, failed, entry("a", [1.0, 1.0, 1.0]), entry("b", [1.8, 1.8, 1.8]))
    assert found == [
        "Faster than sennet, fp32: a 0.50 (0.50 to 0.50) times as long; b 0.90 (0.90 to 0.90) times as long."
    ]


def test_without_peaks_or_scores_they_are_not_compared():
    """Neither those of the engine, nor those of the other."""
    bare = entry("sennet", [2.0, 2.0], peaks=(None,), surface_dice=None, dice=None)
    other = entry("it", [3.0, 3.0], peaks=(None,), surface_dice=None, dice=None)
    assert where_others_win(comparison(bare, entry("it", [3.0, 3.0]))) == []
    assert wins(other) == []
    assert (
        "No other tool is ahead of sennet fp32 in time, peak memory or loading."
        in KIND.table(comparison(bare, other)).notes
    )
    assert {figure.nature for figure in KIND.figures(comparison(bare))} == {Nature.SPEED}


def test_the_short_table_has_five_columns_and_nine_rows_at_most():
    """Those that matter most, in the order of the table; one that made no mask says why."""
    entries = [entry(one.name, [2.0, 4.0], title=one.title) for one in CONTESTANTS.values()]
    last = max(index for index, one in enumerate(entries) if one.name in SHORT[:9])
    entries[last] = replace(entries[last], samples=[], problem="not installed", surface_dice_0=None)
    found = KIND.short(comparison(*entries))
    assert len(found.heads) == 5
    assert [row[0] for row in found.rows] == [one.title for one in CONTESTANTS.values() if one.name in SHORT[:9]]
    assert found.rows[0] == ("sennet, fp32", "1.00 (1.00 to 1.00)", "1.00 (1.00 to 1.00)", "500", "0.9000")
    assert found.rows[-1][1:] == ("not installed", "–", "–", "–")


def test_figures_carry_every_sample_and_know_which_way_is_better():
    """A ratio of others to us is better the larger; that of our int8 the smaller; the engine's own is none."""
    found = {
        figure.name: figure
        for figure in KIND.figures(
            comparison(ENGINE, entry("sennet-int8", [1.0, 1.0, 1.5]), entry("it", [4.0, 6.0, 8.0]))
        )
    }
    assert found["it: seconds"].samples == (4.0, 6.0, 8.0)
    assert (found["it: seconds"].nature, found["it: seconds"].unit) == (Nature.SPEED, "s")
    ratio = found["it: times sennet fp32"]
    assert (ratio.samples, ratio.nature, ratio.more_is_better) == ((2.0, 3.0, 4.0), Nature.RATIO, True)
    assert not found["sennet-int8: times sennet fp32"].more_is_better
    assert "sennet: times sennet fp32" not in found
    assert (found["it: peak memory"].samples, found["it: peak memory"].nature) == ((500.0,) * 3, Nature.MEMORY)
    dice = found["it: Dice"]
    assert (dice.samples, dice.nature, dice.more_is_better) == ((0.8,), Nature.QUALITY, True)
    assert found["it: surface Dice"].samples == (0.9,)


def test_charts_name_our_own_bars():
    """Seconds and peak memory, with every sample."""
    seconds, peaks = KIND.charts(comparison(ENGINE, entry("it", [4.0, 6.0, 8.0]), Entry("none", "none", "gone", [])))
    assert seconds.bars == (("sennet, fp32", (2.0, 2.0, 2.0)), ("it", (4.0, 6.0, 8.0)))
    assert peaks.bars[1] == ("it", (500.0, 500.0, 500.0))
    assert seconds.ours == peaks.ours == {"sennet, fp32"}


@pytest.mark.parametrize("name", ["phantom", "slice"])
def test_files_of_older_runs_can_be_read_and_written_again(tmp_path, name):
    """What they do not tell has defaults."""
    found = read_measurement(KEPT / f"{name}.json")
    assert KIND.table(found).rows
    assert KIND.short(found).rows
    write_measurement(tmp_path / "again.json", found)
    assert read_measurement(tmp_path / "again.json") == found


def test_a_file_without_settings_has_none():
    """As those from before they were kept."""
    bare = Entry("it", "it", None, [])
    assert (bare.options, bare.does) == ({}, "")
