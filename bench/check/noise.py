"""Whether samples of one thing, measured twice, differ by more than their noise.

The one-sided rank test of Mann and Whitney, exact ("On a test of whether one of two random variables is
stochastically larger than the other", Annals of Mathematical Statistics 18, 1947): it asks for no shape of the noise,
which for run times is skewed. What it can say is bounded by the number of samples: three against three give
p = 1 / 20 where all of one lie on one side of all of the other, and never less.

Of many figures that are tested, some look changed by chance: at p <= 0.05 one of twenty. Holm's procedure ("A simple
sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979) keeps the chance of a
single false alarm among all of them below 0.05, however they depend on each other. Ranks suffice for it where complete
separation gives p <= 0.05 / figures: with 5 against 5 samples for up to 12 figures, with 3 against 3 for one alone.
Where they do not, no test without assumptions can be corrected. A figure then counts as changed where the rank test
alone gives p <= 0.05 and Student's t test of the logarithms ("The probable error of a mean", Biometrika 6, 1908) holds
after Holm's correction. That takes factors of noise as normal, which so few samples cannot show.

Tests take samples as independent. Two files are not measured in turns, so that what changed about the machine
between them looks like a change of the program: no test can tell these apart, contestants of one run that take turns
(A B A B) can.
"""

import math
import statistics
from collections.abc import Sequence

SIGNIFICANT = 0.05
FEWEST_SAMPLES = 3
# Up to so many samples the exact distribution is computed; beyond, the normal one is as good.
EXACT_SAMPLES = 50


def probability_of_chance(lower: Sequence[float], higher: Sequence[float]) -> float:
    """The p that equal distributions make the samples of `higher` rank so far above those of `lower`.

    Where samples of both are equal, the exact distribution is that without ties, and p is too high rather than too low.
    """
    from scipy.stats import mannwhitneyu

    method = "exact" if max(len(lower), len(higher)) <= EXACT_SAMPLES else "asymptotic"
    if len({*lower, *higher}) == 1:
        return 1.0
    return float(mannwhitneyu(higher, lower, alternative="greater", method=method).pvalue)


def smallest_probability(count: int, other: int) -> float:
    """The p where all of `count` samples lie on one side of all of `other` samples."""
    return 1 / math.comb(count + other, count)


def accepted_by_holm(probabilities: Sequence[float]) -> list[bool]:
    """Which differences are none of chance, with a chance of at most SIGNIFICANT that any of them is."""
    accepted = [False] * len(probabilities)
    for rank, index in enumerate(sorted(range(len(probabilities)), key=lambda one: probabilities[one])):
        if probabilities[index] > SIGNIFICANT / (len(probabilities) - rank):
            break
        accepted[index] = True
    return accepted


def student_probability(lower: Sequence[float], higher: Sequence[float]) -> float:
    """The p of Student's t test, one-sided, that equal normal distributions put `higher` so far above `lower`.

    Of the logarithms where all samples are greater than 0.
    """
    from scipy.stats import t

    if min(*lower, *higher) > 0:
        lower, higher = ([math.log(one) for one in samples] for samples in (lower, higher))
    difference = statistics.fmean(higher) - statistics.fmean(lower)
    freedom = len(lower) + len(higher) - 2
    squares = sum(statistics.variance(one) * (len(one) - 1) for one in (lower, higher))
    error = math.sqrt(squares / freedom * (1 / len(lower) + 1 / len(higher)))
    if error == 0:
        return 0.0 if difference > 0 else 1.0
    return float(t.sf(difference / error, freedom))


def relative_range(samples: Sequence[float]) -> float:
    """From the least to the greatest, as a share of the median; 0 where that is 0."""
    median = statistics.median(samples)
    return (max(samples) - min(samples)) / abs(median) if median else 0.0
