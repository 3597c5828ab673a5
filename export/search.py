"""Find the few items at fault among many, with few trials."""

from collections.abc import Callable, Iterable, Sequence


def smallest_passing(
    items: Sequence[str], passes: Callable[[frozenset[str]], bool], *, most_trials: int
) -> frozenset[str] | None:
    """A small set of `items` that `passes`; None where all of them together do not pass.

    Assumes that none of them does not pass, and that `passes` is monotone: what passes still passes with more items.
    Then the answer, unless the trials ran out, is minimal: it fails without any one of its items. Where that does not
    hold the answer still passes, since only a set that was tried and passed is returned.

    Coarse to fine, after delta debugging (Zeller and Hildebrandt 2002): the largest block of items is halved and each
    half is left out in turn, the later one first. So the items most likely at fault come first in `items`, and the
    answer is of use however early the trials run out. One item at fault among n takes log2(n) to 2 log2(n) trials.

    Args:
        items: distinct names, the most suspicious first.
        passes: never tried with the same set twice, nor with none.
        most_trials: calls of `passes` after which the smallest set that passed so far is returned, at least 1.
    """
    if not items or not passes(frozenset(items)):
        return None
    trials = 1
    needed: list[Sequence[str]] = []  # of one item each: it fails without them
    blocks: list[Sequence[str]] = [items]  # it fails without any of these either
    while blocks:
        blocks.sort(key=len)
        block = blocks.pop()
        if len(block) == 1:
            needed.append(block)
            continue
        middle = (len(block) + 1) // 2
        front, back = block[:middle], block[middle:]
        halves = [front, back]
        for half in (front, back):
            if trials == most_trials:
                return _joined([*needed, *blocks, block])
            trials += 1
            if passes(_joined([*needed, *blocks, half])):
                halves = [half]
                break
        blocks += halves
    return _joined(needed)


def _joined(blocks: Iterable[Sequence[str]]) -> frozenset[str]:
    return frozenset(name for block in blocks for name in block)
