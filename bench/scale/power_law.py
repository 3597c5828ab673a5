"""How a cost grows with an amount: the exponent of a power law, and beside it a fixed cost and one of each unit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sennet_engine.errors import ConfigError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate; `low` to `high` hold the true value in 95 % of such measurements, None where samples are too few."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """A cost of `fixed` + `per_unit` times the amount.

    Attributes:
        farthest: of a sample from the line, as a share of the sample.
    """

    fixed: Interval
    per_unit: Interval
    farthest: float


def exponent(amounts: Sequence[float], costs: Sequence[float]) -> Interval:
    """The exponent p of costs = c · amounts^p, by least squares of the logarithms (`scipy.stats.linregress`).

    The interval is that of Student's t for the slope's standard error, with two degrees of freedom fewer than samples:
    it tells the noise of the samples, and not whether they follow a power law. A process with a fixed cost does not:
    its exponent is too small where amounts are small.

    Raises:
        ConfigError: fewer than two different amounts, lists of unlike length, or a value that is not above 0.
    """
    from scipy.stats import linregress  # takes longer to load than most commands that import this file

    _refuse_bad(amounts, costs)
    found = linregress(np.log(amounts), np.log(costs))
    return _interval(float(found.slope), float(found.stderr), len(amounts) - 2)


def line(amounts: Sequence[float], costs: Sequence[float]) -> Line:
    """Fixed cost and cost of each unit, by least squares of the deviations as shares of the costs.

    Shares, since runs that take longer vary by more seconds: else the largest amounts alone would decide.

    Raises:
        ConfigError: as `exponent`.
    """
    _refuse_bad(amounts, costs)
    x, y = np.asarray(amounts, float), np.asarray(costs, float)
    terms = np.stack([1 / y, x / y], axis=1)
    (fixed, per_unit), *_ = np.linalg.lstsq(terms, np.ones_like(y), rcond=None)
    left = 1 - terms @ (fixed, per_unit)
    freedom = len(y) - 2
    # The covariance of weighted least squares: residual variance times the inverse of the normal matrix.
    variance = np.diag(np.linalg.inv(terms.T @ terms)) * (left @ left) / max(freedom, 1)
    errors = np.sqrt(variance)
    return Line(
        fixed=_interval(float(fixed), float(errors[0]), freedom),
        per_unit=_interval(float(per_unit), float(errors[1]), freedom),
        farthest=float(np.abs(left).max()),
    )


def _refuse_bad(amounts: Sequence[float], costs: Sequence[float]) -> None:
    if len(amounts) != len(costs) or len(set(amounts)) < 2 or min(*amounts, *costs) <= 0:
        raise ConfigError(
            f"got amounts {list(amounts)} and costs {list(costs)}, expected as many of both, all above 0, and two "
            f"different amounts or more"
        )


def _interval(value: float, error: float, freedom: int) -> Interval:
    from scipy.stats import t

    if freedom < 1:
        return Interval(value)
    reach = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return Interval(value, value - reach, value + reach)
