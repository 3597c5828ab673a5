"""Which layers change the answers most when they alone are computed in integers."""

from collections.abc import Callable, Sequence


def ordered_by_effect(layers: Sequence[str], effect: Callable[[Sequence[str]], float], *, most_runs: int) -> list[str]:
    """`layers`, those with the largest effect first, from at most `most_runs` measurements (and two at least).

    `effect` says how far the answers move with only these layers in integers. What a layer loses by itself says little
    of that: on the built-in model the two orders hardly agree (rank correlation 0.25). Coarse to fine, since a few
    layers make most of it: the group with the largest effect is halved until all are single or the runs are spent.
    Groups are ordered by their effect for each layer.
    """
    middle = (len(layers) + 1) // 2
    single, groups = [], [(effect(group), group) for group in (layers[:middle], layers[middle:]) if group]
    runs = len(groups)
    while groups and runs + 2 <= most_runs:
        groups.sort(key=lambda group: group[0])
        size, group = groups.pop()
        if len(group) == 1:
            single.append((size, group))
            continue
        middle = (len(group) + 1) // 2
        groups += [(effect(half), half) for half in (group[:middle], group[middle:])]
        runs += 2
    ranked = sorted([*single, *groups], key=lambda group: -group[0] / len(group[1]))
    return [name for _, group in ranked for name in group]
