"""How large the study was, every cut-off, every rule, and missing values filled in."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlild_analysis.errors import AnalysisError, NotDoneError
from dlild_analysis.pipeline.binary import choose_cutoff
from dlild_analysis.pipeline.data import Data
from dlild_analysis.pipeline.progress import Progress
from dlild_analysis.pipeline.step import attempt
from dlild_analysis.progression import all_rules, assess
from dlild_analysis.stats import cox, roc, sample_size, survival

EVENTS_PER_PARAMETER = 10


def few_events(data: Data) -> str:
    """Say that the covariates of analysis.adjust are too many for the events; empty where not."""
    names = data.available(data.study.plan.adjust)
    parameters = len(data.terms(names))
    if data.outcome.events >= EVENTS_PER_PARAMETER * parameters:
        return ""
    return (
        f"too few events for the covariates asked: {data.outcome.events} for {parameters} "
        f"parameters of analysis.adjust ({', '.join(names)}), "
        f"{data.outcome.events / parameters:.1f} each, and {EVENTS_PER_PARAMETER} are customary"
    )


def study_size(data: Data) -> dict[str, Any]:
    """State events per parameter, and what Riley's criteria would have asked for."""
    names = data.available(data.study.plan.adjust)
    parameters = max(len(data.terms(names)), 1)
    values: dict[str, Any] = {
        "parameters": parameters,
        "columns": [term.label for term in data.terms(names)],
    }
    values["time_to_event"] = attempt(_size_survival, data, parameters)
    values["two_way"] = attempt(_size_binary, data, parameters)
    return values


def _size_survival(data: Data, parameters: int) -> Any:
    sample = data.sample((), "survival")
    return sample_size.sample_size_survival(
        sample.n,
        int(sample.event.sum()),
        parameters,
        mean_follow_up=float(sample.time.mean()),
        horizon=min(data.study.plan.horizon, float(sample.time.max())),
    )


def _size_binary(data: Data, parameters: int) -> Any:
    sample = data.sample((), "binary")
    return sample_size.sample_size_binary(sample.n, int(sample.progressed.sum()), parameters)


def every_cutoff(data: Data, seed: int, progress: Progress) -> dict[str, Any]:
    """Try every cut-off of the score, and show the price of choosing the best."""
    if not data.available(("score",)):
        raise NotDoneError("there is no score")
    return {
        "used_cutoff": data.cutoff,
        "origin": data.cutoff_origin,
        "time_to_event": attempt(
            _scan_survival, data, np.random.default_rng([seed, 400]), progress
        ),
        "two_way": attempt(_scan_binary, data, np.random.default_rng([seed, 401]), progress),
    }


def _scan_survival(data: Data, rng: np.random.Generator, progress: Progress) -> Any:
    sample = data.sample(("score",), "survival")
    return roc.scan_cutoffs_survival(
        sample.time,
        sample.event,
        sample.design.iloc[:, 0],
        rng=rng,
        permutations=_permutations(sample.n),
        progress=progress.bar("permutations: log-rank"),
    )


def _scan_binary(data: Data, rng: np.random.Generator, progress: Progress) -> Any:
    sample = data.sample(("score",), "binary")
    return roc.scan_cutoffs_binary(
        sample.progressed,
        sample.design.iloc[:, 0],
        rng=rng,
        permutations=_permutations(sample.n),
        progress=progress.bar("permutations: two by two"),
    )


def _permutations(n: int) -> int:
    return 1_000 if n <= 5_000 else 200


def compare_rules(data: Data) -> dict[str, Any]:
    """Run the main figures under every rule and every way to count death."""
    names = ["recorded@1"] if data.cohort.has("time", "status") else []
    names += [f"{rule.name}@{rule.version}" for rule in all_rules()]
    deaths = any(name in data.cohort.patients for name in ("death", "transplant"))
    deaths |= data.cohort.has("status") and bool((data.cohort.patients["status"] == 2).any())
    policies = ("event", "competing", "ignore") if deaths else ("event",)
    rows = []
    for name in names:
        for policy in policies:
            row = _one_rule(data, name, policy)
            rows.append({"rule": name, "death": policy if deaths else "none known", **row})
            if "not_done_because" in row:
                break
    return {"rules": rows, "note": "Cut-offs are chosen anew under each rule, as the study asks."}


def _one_rule(data: Data, name: str, policy: str) -> dict[str, Any]:
    try:
        outcome = assess(data.cohort, name, policy)
    except AnalysisError as error:
        return {"not_done_because": str(error)}
    other = Data(data.cohort, outcome)
    chosen = attempt(choose_cutoff, other)
    return {
        "title": outcome.title,
        "statement": outcome.statement,
        "source": outcome.source,
        "events": outcome.events,
        "competing_events": outcome.competing,
        "patients": int(np.isfinite(outcome.time).sum()),
        "criteria": outcome.reasons,
        "cutoff": chosen.get("cutoff"),
        "cox_score": attempt(_cox_score, other),
        "time_auc_score": attempt(_auc_score, other),
        "log_rank": attempt(_log_rank, other),
        "survival_at": attempt(_survival, other),
    }


def _cox_score(data: Data) -> Any:
    sample = data.sample(("score",), "survival")
    return cox.fit_cox(sample.design, sample.time, sample.event).terms[0]


def _auc_score(data: Data) -> Any:
    sample = data.sample(("score",), "survival")
    horizon = min(data.study.plan.horizon, float(sample.time.max()))
    return survival.time_auc(sample.time, sample.event, sample.design.iloc[:, 0], horizon)


def _log_rank(data: Data) -> Any:
    sample = data.sample(("score",), "survival")
    return survival.log_rank(sample.time, sample.event, data.high(sample))


def _survival(data: Data) -> dict[str, Any]:
    sample = data.sample(("score",), "survival")
    high = data.high(sample)
    horizons = list(data.study.plan.horizons_months)
    return {
        name: dict(
            zip(
                [f"{h:g}" for h in horizons],
                survival.survival_at(
                    survival.kaplan_meier(sample.time[high == code], sample.event[high == code]),
                    horizons,
                ),
                strict=True,
            )
        )
        for code, name in enumerate(("low", "high"))
    }
