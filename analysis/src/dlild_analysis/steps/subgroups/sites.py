"""Patients of several sites: strata, clusters, and each site by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import cox, survival
from dlild_analysis.stats.results import Estimate
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.cutoff import Cutoff, high_group
from dlild_analysis.steps.data import Data
from dlild_analysis.steps.per_points import LEAST_EVENTS, PER_POINTS, in_tens, ratio_among
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import DASH, estimate, not_done, p_of, p_words
from dlild_analysis.steps.step import Analysis, Gap, ModelStage, Step

FEW_CLUSTERS = 20


@dataclass(frozen=True)
class Site:
    """The score at one site: hazard ratio per ten points."""

    name: str
    patients: int
    events: int
    ratio: Estimate | NotDone


@dataclass(frozen=True)
class Sites:
    """What the step found: hazard ratios of the score per ten points.

    Attributes
    ----------
    patients, missing, events : int
        With score and site; those who lack one; events.
    pooled, stratified, clustered : Estimate or NotDone
        All sites as one; a baseline hazard for each; standard errors by cluster.
    log_rank : LogRank or NotDone
        High against low, stratified by site.
    sites : tuple of Site
        Each by itself.
    """

    label: str
    patients: int
    missing: int
    events: int
    pooled: Estimate | NotDone
    stratified: Estimate | NotDone
    clustered: Estimate | NotDone
    log_rank: survival.LogRank | NotDone
    sites: tuple[Site, ...]
    warnings: tuple[str, ...] = ()


def by_site(data: Data, cutoff: Cutoff | NotDone) -> Sites:
    """Fit the score with sites as strata, as clusters, and one by one.

    Raises
    ------
    NotDoneError
        `analysis.site` names no covariate, or there is one site only.
    """
    name = data.study.plan.site
    if name is None:
        raise NotDoneError("analysis.site names no covariate")
    if not data.available((name,)):
        raise NotDoneError(f"the cohort has one {data.label(name)} only")
    sample = data.sample(("score", name), "survival")
    site = data.cohort.patients[name].iloc[sample.position].astype(str).to_numpy()
    tens = in_tens(data, sample)[:, None]
    arguments = (sample.time, sample.event)
    names = np.unique(site)
    warnings: tuple[str, ...] = ()
    if names.size < FEW_CLUSTERS:
        warnings = (f"{names.size} clusters are few: errors by cluster are too small",)
    return Sites(
        data.label(name),
        sample.n,
        sample.missing,
        int(sample.event.sum()),
        pooled=attempt(ratio_among, tens, sample, np.ones(sample.n, dtype=bool)),
        stratified=attempt(
            lambda: cox.fit_stratified_cox(tens, *arguments, site, ["score"])[0].hazard_ratio
        ),
        clustered=attempt(
            lambda: cox.fit_clustered_cox(tens, *arguments, site, ["score"])[0].hazard_ratio
        ),
        log_rank=attempt(
            lambda: survival.weighted_log_rank(
                *arguments, high_group(data, sample, cutoff), strata=site
            )
        ),
        sites=tuple(
            Site(
                str(one),
                int((site == one).sum()),
                int(sample.event[site == one].sum()),
                attempt(ratio_among, tens, sample, site == one),
            )
            for one in names
        ),
        warnings=warnings,
    )


def sentences(result: Sites, data: Data) -> list[str]:
    """Report strata and clusters."""
    found = [
        (
            f"{len(result.sites)} sites ({result.label}), {result.patients} patients, "
            f"{result.events} events."
        )
    ]
    for words, part in (
        ("stratified by site", result.stratified),
        ("with errors by cluster", result.clustered),
    ):
        if isinstance(part, NotDone):
            found.append(f"Cox regression {words}: {not_done(part)}.")
        else:
            found.append(
                f"{data.label('score')} per {PER_POINTS:g} points, {words}: HR {estimate(part)}, "
                f"{p_words(part.p_value)}."
            )
    if not isinstance(result.log_rank, NotDone):
        found.append(
            f"High against low, stratified by site: log-rank "
            f"{p_words(result.log_rank.test.p_value)}."
        )
    return found


def table(result: Sites, analysis: Analysis) -> Table | None:
    """Hazard ratios of the score over sites."""
    all_of_them = f"{result.patients} / {result.events}"
    rows = [
        ("All, as one", all_of_them, estimate(result.pooled), p_of(result.pooled)),
        ("All, stratified", all_of_them, estimate(result.stratified), p_of(result.stratified)),
        ("All, clustered", all_of_them, estimate(result.clustered), p_of(result.clustered)),
        *(
            (site.name, f"{site.patients} / {site.events}", estimate(site.ratio), p_of(site.ratio))
            for site in result.sites
        ),
    ]
    return Table(
        "sites",
        f"{analysis.data.label('score')} per {PER_POINTS:g} points: hazard ratio by site",
        (result.label, "Patients / events", "HR (95 % CI)", "P"),
        rows,
        f"{DASH}: fewer than {LEAST_EVENTS} events. Stratified: a baseline hazard for each site.",
    )


def populations(result: Sites, data: Data) -> list[ModelStage]:
    """Count the patients of the stratified model."""
    part, score = result.stratified, data.label("score")
    return [
        ModelStage(
            f"Cox, stratified by site: {score}",
            main=False,
            outcome="time to event",
            eligible=result.patients + result.missing,
            missing=(Gap(f"{score} or site", result.missing),) if result.missing else (),
            n=result.patients,
            events=result.events,
            because=part.not_done_because if isinstance(part, NotDone) else "",
        )
    ]


SITES: Step[Sites] = Step(
    "sites",
    "Sites",
    compute=lambda analysis, _: by_site(analysis.data, analysis.cutoff),
    sentences=sentences,
    tables=(table,),
    libraries=("numpy", "scipy", "lifelines"),
    populations=populations,
)
