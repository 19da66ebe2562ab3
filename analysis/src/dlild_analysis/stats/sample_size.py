"""Was the study large enough: events per variable and Riley's criteria."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dlild_analysis.stats.errors import StatisticsError
from dlild_analysis.stats.results import Result


@dataclass(frozen=True, kw_only=True)
class SampleSize(Result):
    """What Riley's criteria ask for, and what the study had.

    Attributes
    ----------
    criteria
        Patients needed by criterion, in words.
    required_n, required_events, required_epp
        The largest of them, the events it implies and events per parameter.
    n, events, parameters
        Of the study.
    events_per_parameter
        events / parameters (for a binary outcome, of the rarer class).
    expected_shrinkage
        Global shrinkage factor that a study of this size can expect.
    sufficient
        Whether n reaches required_n.
    statement
        A sentence for the methods section.
    """

    criteria: dict[str, int]
    required_n: int
    required_events: float
    required_epp: float
    n: int
    events: int
    parameters: int
    events_per_parameter: float
    expected_shrinkage: float
    r2_cox_snell: float
    sufficient: bool
    statement: str
    warnings: tuple[str, ...] = ()


def sample_size_binary(
    n: int,
    events: int,
    parameters: int,
    *,
    r2_nagelkerke: float = 0.15,
    r2_cox_snell: float | None = None,
    shrinkage: float = 0.9,
) -> SampleSize:
    """Riley's three criteria for a model of a binary outcome.

    Parameters
    ----------
    n, events
        Of the study.
    parameters
        Candidate parameters, spline terms and dummies counted, before any selection.
    r2_nagelkerke
        Share of the largest possible Cox-Snell R2 that the model is expected to reach; 0.15 is
        Riley's choice when nothing is known.
    r2_cox_snell
        Overrides ``r2_nagelkerke``.
    shrinkage
        Aimed at.

    Returns
    -------
    SampleSize
        Criteria, the study's figures and a statement.

    Raises
    ------
    StatisticsError
        Counts that cannot be, or an R2 outside its range.

    References
    ----------
    .. [1] Riley RD, Snell KIE, Ensor J, et al. Minimum sample size for developing a multivariable
       prediction model: Part II. Stat Med 2019;38:1276-1296.
    .. [2] Riley RD, Ensor J, Snell KIE, et al. Calculating the sample size required for developing
       a clinical prediction model. BMJ 2020;368:m441.
    """
    _check_counts(n, events, parameters, shrinkage)
    if events in (0, n):
        raise StatisticsError(f"events: {events} of {n}; both events and non-events are needed")
    share = events / n
    null = share * math.log(share) + (1 - share) * math.log(1 - share)
    r2, ceiling = _r2(2 * null, r2_nagelkerke, r2_cox_snell)
    criteria = {
        "shrinkage of predictor effects": _for_shrinkage(parameters, r2, shrinkage),
        "optimism of Nagelkerke R2 within 0.05": _for_optimism(parameters, r2, ceiling),
        "overall risk within 0.05": math.ceil((1.96 / 0.05) ** 2 * share * (1 - share)),
    }
    return _conclude(n, events, parameters, criteria, r2=r2, rare=min(events, n - events))


def sample_size_survival(
    n: int,
    events: int,
    parameters: int,
    *,
    mean_follow_up: float,
    horizon: float,
    r2_nagelkerke: float = 0.15,
    r2_cox_snell: float | None = None,
    shrinkage: float = 0.9,
) -> SampleSize:
    """Riley's three criteria for a model of a time to event.

    Parameters
    ----------
    n, events, parameters, r2_nagelkerke, r2_cox_snell, shrinkage
        As :func:`sample_size_binary`.
    mean_follow_up
        In the unit of time; events / (n x mean_follow_up) is the event rate.
    horizon
        At which the overall risk is to be known within 0.05.

    Returns
    -------
    SampleSize
        Criteria, the study's figures and a statement.

    Raises
    ------
    StatisticsError
        Counts or times that cannot be, or an R2 outside its range.
    """
    _check_counts(n, events, parameters, shrinkage)
    if events == 0:
        raise StatisticsError("events: 0; nothing can be said of a model of them")
    if min(mean_follow_up, horizon) <= 0:
        raise StatisticsError(
            f"mean_follow_up: {mean_follow_up}, horizon: {horizon}; both must be positive"
        )
    rate = events / (n * mean_follow_up)
    # Log-likelihood a patient of the exponential model without covariates.
    expected = rate * mean_follow_up
    null = expected * math.log(expected) - expected
    r2, ceiling = _r2(2 * null, r2_nagelkerke, r2_cox_snell)
    largest = max(_for_shrinkage(parameters, r2, shrinkage), _for_optimism(parameters, r2, ceiling))
    criteria = {
        "shrinkage of predictor effects": _for_shrinkage(parameters, r2, shrinkage),
        "optimism of Nagelkerke R2 within 0.05": _for_optimism(parameters, r2, ceiling),
        "overall risk at the horizon within 0.05": max(
            largest, _for_overall_risk(rate, horizon, mean_follow_up)
        ),
    }
    return _conclude(n, events, parameters, criteria, r2=r2, rare=events)


def _check_counts(n: int, events: int, parameters: int, shrinkage: float) -> None:
    if n < 1 or parameters < 1 or not 0 <= events <= n:
        raise StatisticsError(
            f"n: {n}, events: {events}, parameters: {parameters}; they cannot be so"
        )
    if not 0 < shrinkage < 1:
        raise StatisticsError(f"shrinkage: {shrinkage}; give a factor between 0 and 1, such as 0.9")


def _r2(twice_null: float, r2_nagelkerke: float, r2_cox_snell: float | None) -> tuple[float, float]:
    """Cox-Snell R2 that is expected, and the largest there can be."""
    ceiling = 1 - math.exp(twice_null)
    r2 = r2_nagelkerke * ceiling if r2_cox_snell is None else r2_cox_snell
    if not 0 < r2 < ceiling:
        raise StatisticsError(
            f"R2: a Cox-Snell R2 of {r2:g} is asked; it must lie between 0 and {ceiling:.4f}"
        )
    return r2, ceiling


def _for_shrinkage(parameters: int, r2: float, shrinkage: float) -> int:
    return math.ceil(parameters / ((shrinkage - 1) * math.log(1 - r2 / shrinkage)))


def _for_optimism(parameters: int, r2: float, ceiling: float) -> int:
    return _for_shrinkage(parameters, r2, r2 / (r2 + 0.05 * ceiling))


def _for_overall_risk(rate: float, horizon: float, mean_follow_up: float) -> int:
    """Fewest patients whose exponential risk at the horizon is known within 0.05."""

    def misses(n: int) -> bool:
        half = 1.96 * math.sqrt(rate / (n * mean_follow_up))
        risk = 1 - math.exp(-rate * horizon)
        upper = 1 - math.exp(-(rate + half) * horizon)
        lower = 1 - math.exp(-(rate - half) * horizon)
        return max(upper - risk, risk - lower) > 0.05

    low, high = 0, 1
    while misses(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if misses(middle) else (low, middle)
    return high


def _expected_shrinkage(n: int, parameters: int, r2: float) -> float:
    """Shrinkage that n patients can expect: Van Houwelingen's 1 - p / LR, solved for itself."""
    ratio = -n * math.log(1 - r2)
    return max(0.0, 1 - parameters / ratio)


def _conclude(
    n: int, events: int, parameters: int, criteria: dict[str, int], *, r2: float, rare: int
) -> SampleSize:
    needed = max(criteria.values())
    share = events / n
    binding = max(criteria, key=lambda name: criteria[name])
    expected = _expected_shrinkage(n, parameters, r2)
    enough = n >= needed
    verdict = "meets" if enough else "falls short of"
    statement = (
        f"With {n} patients, {events} events and {parameters} candidate parameters"
        f" ({rare / parameters:.1f} events per parameter) the study {verdict} the {needed} patients"
        f" ({share * needed:.0f} events) that the criteria of Riley et al. ask for at an expected"
        f" Cox-Snell R2 of {r2:.3f}; the binding criterion is: {binding}. The expected global"
        f" shrinkage factor is {expected:.2f}."
    )
    warnings = []
    if not enough:
        warnings.append(f"{n} patients are fewer than the {needed} that Riley's criteria ask for")
    if rare / parameters < 10:
        warnings.append(f"{rare / parameters:.1f} events per parameter: fewer than 10")
    return SampleSize(
        criteria=criteria,
        required_n=needed,
        required_events=share * needed,
        required_epp=share * needed / parameters,
        n=n,
        events=events,
        parameters=parameters,
        events_per_parameter=rare / parameters,
        expected_shrinkage=expected,
        r2_cox_snell=r2,
        sufficient=enough,
        statement=statement,
        warnings=tuple(warnings),
    )
