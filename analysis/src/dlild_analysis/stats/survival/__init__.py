"""Survival: Kaplan-Meier, log-rank, restricted means, concordance, time-dependent AUC."""

from __future__ import annotations

from dlild_analysis.stats.survival.concordance import (
    ConcordanceComparison,
    Weight,
    compare_concordance,
    concordance_value,
    harrell_c,
    uno_c,
)
from dlild_analysis.stats.survival.curves import (
    ConfType,
    KaplanMeier,
    LogRank,
    kaplan_meier,
    log_rank,
    numbers_at_risk,
    risk_influence,
    survival_at,
)
from dlild_analysis.stats.survival.group_tests import LogRankWeight, weighted_log_rank
from dlild_analysis.stats.survival.interval_censored import (
    IntervalCensoredFit,
    fit_interval_censored,
)
from dlild_analysis.stats.survival.restricted_mean import RmstComparison, rmst, rmst_difference
from dlild_analysis.stats.survival.time_dependent_auc import (
    IntegratedAuc,
    TimeAucComparison,
    compare_time_auc,
    integrated_time_auc,
    time_auc,
    time_auc_curve,
)

__all__ = [
    "ConcordanceComparison",
    "ConfType",
    "IntegratedAuc",
    "IntervalCensoredFit",
    "KaplanMeier",
    "LogRank",
    "LogRankWeight",
    "RmstComparison",
    "TimeAucComparison",
    "Weight",
    "compare_concordance",
    "compare_time_auc",
    "concordance_value",
    "fit_interval_censored",
    "harrell_c",
    "integrated_time_auc",
    "kaplan_meier",
    "log_rank",
    "numbers_at_risk",
    "risk_influence",
    "rmst",
    "rmst_difference",
    "survival_at",
    "time_auc",
    "time_auc_curve",
    "uno_c",
    "weighted_log_rank",
]
