"""The search for the few items at fault."""

import math

import pytest

from sennet_export.search import smallest_passing

ITEMS = [f"node {number}" for number in range(1000)]


def counted(passes):
    """`passes`, and the sets that it was tried with."""
    tried = []

    def recording(kept):
        tried.append(kept)
        return passes(kept)

    return recording, tried


@pytest.mark.parametrize("fault", [0, 1, 499, 500, 613, 999])
def test_one_item_at_fault_is_found_in_a_logarithm_of_trials(fault):
    """Whichever of a thousand items it is, at most 1 + 2 log2 of them are tried."""
    passes, tried = counted(lambda kept: ITEMS[fault] in kept)
    assert smallest_passing(ITEMS, passes, most_trials=100) == {ITEMS[fault]}
    assert len(tried) <= 1 + 2 * math.ceil(math.log2(len(ITEMS)))


@pytest.mark.parametrize("faults", [{3, 4}, {0, 999}, {10, 11, 12, 700}, set(range(0, 1000, 125))])
def test_several_items_that_are_all_needed_are_found_and_no_others(faults):
    """Neighbours or far apart; and no set is tried twice."""
    wanted = {ITEMS[number] for number in faults}
    passes, tried = counted(lambda kept: wanted <= kept)
    assert smallest_passing(ITEMS, passes, most_trials=1000) == wanted
    assert len(tried) == len(set(tried))


def test_where_one_of_several_is_enough_the_answer_fails_without_any_of_its_items():
    """Two of three, and a fourth in any case: the answer is minimal, and the more suspicious ones are taken."""

    def passes(kept):
        return "d" in kept and len(kept & {"a", "b", "c"}) >= 2

    assert smallest_passing(["a", "b", "c", "d", "e"], passes, most_trials=50) == {"a", "b", "d"}


def test_suspicious_items_first_save_trials():
    """An item at fault that comes first takes half the trials of one that comes last."""
    counts = []
    for fault in (0, 999):
        passes, tried = counted(lambda kept, fault=fault: ITEMS[fault] in kept)
        smallest_passing(ITEMS, passes, most_trials=100)
        counts.append(len(tried))
    assert counts[0] <= 0.6 * counts[1]


def test_when_the_trials_run_out_the_smallest_set_that_passed_is_returned():
    """The answer passes at any budget, no budget is overdrawn, and a larger one never gives a larger set."""
    wanted = {ITEMS[300], ITEMS[301], ITEMS[800]}
    sizes = []
    for most_trials in range(1, 60):
        passes, tried = counted(lambda kept: wanted <= kept)
        answer = smallest_passing(ITEMS, passes, most_trials=most_trials)
        assert wanted <= answer
        assert answer in tried
        assert len(tried) <= most_trials
        sizes.append(len(answer))
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (1000, 3)


def test_where_all_items_together_fail_there_is_no_answer():
    """One trial is enough to know; no items need none."""
    passes, tried = counted(lambda _kept: False)
    assert smallest_passing(ITEMS, passes, most_trials=100) is None
    assert len(tried) == 1
    assert smallest_passing([], passes, most_trials=100) is None
    assert len(tried) == 1


def test_an_answer_that_is_not_monotone_was_tried_all_the_same():
    """Keeping more may harm: the answer is still a set that passed."""
    passes, tried = counted(lambda kept: len(kept) in (1000, 500, 250, 3))
    answer = smallest_passing(ITEMS, passes, most_trials=100)
    assert answer in tried
    assert len(answer) == 250
