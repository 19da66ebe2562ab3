from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dlild_analysis.stats import cox
from dlild_analysis.stats.errors import StatisticsError


@pytest.fixture(scope="module")
def intervals(table) -> pd.DataFrame:
    """Cut the registry at 12 and 24 months, as tests/golden/visits/make.R does."""
    frame, rows = table("registry"), []
    for index, patient in enumerate(frame.itertuples(), start=1):
        cuts = [cut for cut in (0.0, 12.0, 24.0) if cut < patient.time]
        for k, cut in enumerate(cuts):
            last = k == len(cuts) - 1
            rows.append(
                {
                    "patient": index,
                    "start": cut,
                    "stop": patient.time if last else cuts[k + 1],
                    "event": int(last and patient.cause > 0),
                    "score": patient.lesion + (0, 2, 3)[k] * (index % 4),
                    "age": patient.age,
                }
            )
    return pd.DataFrame(rows)


def fit(rows, columns=("score", "age")):
    return cox.fit_time_varying_cox(
        rows[list(columns)], rows["patient"], rows["start"], rows["stop"], rows["event"]
    )


def test_against_r(golden, intervals):
    expected = golden("visits")
    for rows, columns, key in (
        (intervals, ("score", "age"), "varying"),
        (intervals.assign(stop=np.ceil(intervals["stop"])), ("score",), "varying_ties"),
    ):
        found = fit(rows, columns)
        assert [t.beta for t in found.terms] == pytest.approx(
            np.atleast_1d(expected[key]["beta"]).tolist(), rel=1e-5
        )
        assert [t.std_error for t in found.terms] == pytest.approx(
            np.atleast_1d(expected[key]["se"]).tolist(), rel=1e-5
        )
        assert found.log_likelihood == pytest.approx(expected[key]["loglik"], rel=1e-8)
    assert found.n == 160


def test_without_a_change_it_is_cox_regression(intervals, registry):
    rows = intervals.assign(score=intervals["patient"].map(dict(enumerate(registry["lesion"], 1))))
    found = fit(rows).terms[0]
    plain = cox.fit_cox(registry[["lesion", "age"]], registry["time"], registry["event"]).terms[0]
    assert found.beta == pytest.approx(plain.beta, rel=1e-5)
    assert found.hazard_ratio.ci_high == pytest.approx(plain.hazard_ratio.ci_high, rel=1e-5)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda r: r.assign(stop=r["start"]), "is not below stop"),
        (lambda r: r.assign(start=0.0), "overlap"),
        (lambda r: r.assign(event=0), "0 events"),
        (lambda r: r.assign(event=1), "two events"),
        (lambda r: r.assign(score=3.0), "the same value"),
        (lambda r: r.assign(score=100.0 * r["event"]), "infinite|converge"),
    ],
)
def test_what_cannot_be_fitted_is_refused(intervals, edit, words):
    with pytest.raises(StatisticsError, match=words):
        fit(edit(intervals))
