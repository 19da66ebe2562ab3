"""The score's hazard ratio in subgroups, with tests of interaction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from dlild_analysis.errors import NotDoneError
from dlild_analysis.stats import cox
from dlild_analysis.stats.arrays import FloatArray
from dlild_analysis.stats.results import Estimate, HypothesisTest
from dlild_analysis.steps.attempts import NotDone, attempt
from dlild_analysis.steps.data import Data, Sample
from dlild_analysis.steps.per_points import LEAST_EVENTS, in_tens, label_per_points, ratio_among
from dlild_analysis.steps.presentation.style import forest_plot
from dlild_analysis.steps.presentation.table import Table
from dlild_analysis.steps.presentation.text import estimate, number, p_of, p_words
from dlild_analysis.steps.step import Analysis, Drawing, Gap, ModelStage, Step


@dataclass(frozen=True)
class Subgroup:
    """The score in one subgroup: hazard ratio per ten points."""

    label: str
    patients: int
    events: int
    ratio: Estimate | NotDone


@dataclass(frozen=True)
class Subgrouping:
    """Subgroups by one covariate.

    Attributes
    ----------
    name, label : str
        The covariate.
    groups : tuple of Subgroup
        Levels of a category, or a number below and from its median on.
    interaction : HypothesisTest or NotDone
        Likelihood-ratio test of the products of the score with the subgroups.
    patients, missing : int
        In the model of the interaction, and those who lack the covariate.
    """

    name: str
    label: str
    groups: tuple[Subgroup, ...]
    interaction: HypothesisTest | NotDone
    patients: int
    missing: int


@dataclass(frozen=True)
class Subgroups:
    """What the step found."""

    score: str
    covariates: tuple[Subgrouping | NotDone, ...]


def subgroups(data: Data) -> Subgroups:
    """Fit the score in subgroups of every covariate of the study.

    Raises
    ------
    NotDoneError
        There is no score or no covariate.
    """
    names = data.available(tuple(item.name for item in data.study.covariates))
    if not data.available(("score",)) or not names:
        raise NotDoneError("it needs a score and a covariate")
    return Subgroups(
        label_per_points(data), tuple(attempt(_subgrouping, data, name) for name in names)
    )


def _subgrouping(data: Data, name: str) -> Subgrouping:
    sample = data.sample(("score", name), "survival")
    labels, member = _members(data, sample, name)
    if len(labels) < 2:
        raise NotDoneError(f"all patients are in one group of {data.label(name)}")
    tens = in_tens(data, sample)
    groups = tuple(
        Subgroup(
            label,
            patients=int((member == index).sum()),
            events=int(sample.event[member == index].sum()),
            ratio=attempt(ratio_among, tens, sample, member == index),
        )
        for index, label in enumerate(labels)
    )
    return Subgrouping(
        name,
        data.label(name),
        groups,
        attempt(_interaction, tens, member, sample),
        sample.n,
        sample.missing,
    )


def _members(data: Data, sample: Sample, name: str) -> tuple[list[str], NDArray[np.int64]]:
    """Name the subgroups, and number each patient's."""
    covariate = data.study.covariate(name)
    values = data.cohort.patients[name].iloc[sample.position]
    label = data.label(name)
    if covariate is not None and covariate.kind == "category":
        levels = [level for level in data.levels(name) if (values == level).any()]
        member = np.array([levels.index(str(value)) for value in values], dtype=np.int64)
        return [f"{label}: {level}" for level in levels], member
    numbers = values.to_numpy(dtype=np.float64)
    middle = float(np.median(numbers))
    unit = f" {covariate.unit}" if covariate is not None and covariate.unit else ""
    upper = (numbers >= middle).astype(np.int64)
    if upper.min() == upper.max():
        return [label], upper
    text = number(middle, 0 if middle == round(middle) else 1)
    return [f"{label} below {text}{unit}", f"{label} {text}{unit} and more"], upper


def _interaction(tens: FloatArray, member: NDArray[np.int64], sample: Sample) -> HypothesisTest:
    marks = (member[:, None] == np.arange(1, member.max() + 1)).astype(np.float64)
    if sample.event.sum() < 1 + 2 * marks.shape[1]:
        raise NotDoneError(f"{sample.event.sum()} events are too few for the interaction")
    plain = np.column_stack([tens, marks])
    arguments = (sample.time, sample.event)
    without = cox.fit_cox(plain, *arguments)
    having = cox.fit_cox(np.column_stack([plain, marks * tens[:, None]]), *arguments)
    statistic = max(0.0, 2 * (having.log_likelihood - without.log_likelihood))
    return HypothesisTest(
        statistic=statistic,
        df=marks.shape[1],
        p_value=float(scipy_stats.chi2.sf(statistic, marks.shape[1])),
        n=sample.n,
        method="interaction, likelihood-ratio test in Cox regression",
    )


def sentences(result: Subgroups, _data: Data) -> list[str]:
    """Report the tests of interaction."""
    found = []
    for item in result.covariates:
        if isinstance(item, NotDone) or isinstance(item.interaction, NotDone):
            continue
        found.append(
            f"Interaction of the score with {item.label}: {p_words(item.interaction.p_value)}."
        )
    if len(found) > 1:
        found.append("The tests of interaction are not corrected for their number.")
    return found


def table(result: Subgroups, _analysis: Analysis) -> Table | None:
    """Hazard ratios of the score by subgroup."""
    rows = [
        (
            group.label,
            f"{group.patients} / {group.events}",
            estimate(group.ratio),
            p_of(item.interaction) if index == 0 else "",
        )
        for item in result.covariates
        if not isinstance(item, NotDone)
        for index, group in enumerate(item.groups)
    ]
    return Table(
        "subgroups",
        f"{result.score}: hazard ratio by subgroup",
        ("Subgroup", "Patients / events", "HR (95 % CI)", "P of interaction"),
        rows,
        f"A subgroup with fewer than {LEAST_EVENTS} events has no hazard ratio. Numbers are parted "
        "at their median.",
    )


def figure(result: Subgroups, _analysis: Analysis) -> Figure | None:
    """Hazard ratios of the score by subgroup."""
    lines = [
        (group.label, group.ratio, f"n = {group.patients}")
        for item in result.covariates
        if not isinstance(item, NotDone)
        for group in item.groups
        if not isinstance(group.ratio, NotDone)
    ]
    return forest_plot(lines, f"Hazard ratio of {result.score}")


def populations(result: Subgroups, data: Data) -> list[ModelStage]:
    """Count the patients of each interaction."""
    score = data.label("score")
    return [
        ModelStage(
            f"Cox, interaction: {score} and {item.label}",
            main=False,
            outcome="time to event",
            eligible=item.patients + item.missing,
            missing=(Gap(f"{score} or {item.label}", item.missing),) if item.missing else (),
            n=item.patients,
            events=sum(group.events for group in item.groups),
            because=item.interaction.not_done_because
            if isinstance(item.interaction, NotDone)
            else "",
        )
        for item in result.covariates
        if not isinstance(item, NotDone)
    ]


SUBGROUPS: Step[Subgroups] = Step(
    "subgroups",
    "Subgroups",
    compute=lambda analysis, _: subgroups(analysis.data),
    sentences=sentences,
    tables=(table,),
    figures=(Drawing("subgroups", figure, "Hazard ratio of the score by subgroup."),),
    populations=populations,
)
