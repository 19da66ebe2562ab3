"""The public OSIC table with public CT fractions, from .xlsx to the report, recomputed.

The data are not stored: DLILD_OSIC names a folder with `train.csv` (FVC of 176 patients; Kaggle's
OSIC Pulmonary Fibrosis Progression, as in github.com/omerhac/osic-fibrosis) and `fractions.csv`
(`Data/pivot_area_b0_0602_aug_all_12120p8.csv` of github.com/jiayiwus1x/IPFImage).
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.statistics import logrank_test
from scipy import stats

from dlild_analysis.cli import main

FOLDER = os.environ.get("DLILD_OSIC", "")
SCRIPT = Path(__file__).parents[1] / "golden/osic/recompute.R"
Z = stats.norm.ppf(0.975)
EDITS = {  # the five lines of the proposed TOML that are edited
    'title = "A cohort with interstitial lung disease"': 'title = "OSIC"',
    'time_origin = "the HRCT"': 'time_origin = "the baseline CT"',
    'reference = "Male"': 'reference = "Female"',
    'reference = "Ex-smoker"': 'reference = "Never smoked"',
    '# groups = "youden"': 'groups = "median"  #',
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER, reason="DLILD_OSIC names no folder with the OSIC tables"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("osic")
    book, toml = folder / "registry.xlsx", folder / "study.toml"
    with pd.ExcelWriter(book) as writer:
        for sheet, name in (("FVC", "train"), ("CT", "fractions")):
            pd.read_csv(Path(FOLDER) / f"{name}.csv").to_excel(
                writer, sheet_name=sheet, index=False
            )
    assert main(["init", str(book), "--out", str(toml)]) == 0
    text = toml.read_text()
    for old, new in EDITS.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    toml.write_text(text)
    assert main(["fit", str(book), "--config", str(toml), "--out", str(folder / "report")]) == 0
    return folder / "report"


@pytest.fixture(scope="module")
def tables(report):
    def read(name):
        (path,) = (report / "tables").glob(f"table*_{name}.csv")
        return list(csv.reader(path.open()))

    return read


@pytest.fixture(scope="module")
def derived():
    """Read the tables anew, by the words of the rule: patients, and their visits to month 12."""
    fvc = pd.read_csv(Path(FOLDER) / "train.csv").drop_duplicates(["Patient", "Weeks"])
    fractions = pd.read_csv(Path(FOLDER) / "fractions.csv").set_index("patient")
    fvc["months"] = fvc["Weeks"] * 7 * 12 / 365.25
    rows = []
    for name, own in fvc.groupby("Patient", sort=False):
        base = own.loc[own["months"].abs().idxmin()]
        if abs(base["months"]) > 3:
            continue
        later = own[own["months"] > 0].sort_values("months")
        fell = later[100 * (base["FVC"] - later["FVC"]) >= 10 * base["FVC"] - 1e-6]
        time = (fell if len(fell) else later.tail(1))["months"].iloc[0]
        rows.append({**base, "Patient": name, "time": time, "event": int(len(fell) > 0)})
    d = pd.DataFrame(rows)
    d["fib"] = 100 * d["Patient"].map(fractions["fibrosis|overall"])
    d["high"] = np.where(d["fib"].isna(), np.nan, d["fib"] >= d["fib"].median())
    d["y"] = np.where(d["event"] * (d["time"] <= 12) == 1, 1, np.where(d["time"] >= 11, 0, np.nan))
    d["male"] = 1 * (d["Sex"] == "Male")
    d["now"] = 1 * (d["SmokingStatus"] == "Currently smokes")
    d["ex"] = 1 * (d["SmokingStatus"] == "Ex-smoker")
    keep = ["Patient", "fib", "high", "male", "now", "ex"]
    v = fvc[fvc["months"].between(-3, 12)].merge(d[keep], on="Patient")
    return d, v.assign(years=v["months"] / 12)


def in_python(d, v):
    """Recompute with scipy, statsmodels and lifelines, as `recompute.R` does."""
    k, y = d[d["fib"].notna()], d[d["y"].notna()]
    yk, joint = y[y["fib"].notna()], ["fib", "Age", "male", "now", "ex"]

    def ratio(beta, error):
        return [
            *np.exp([beta, beta - Z * error, beta + Z * error]),
            2 * stats.norm.sf(abs(beta / error)),
        ]

    def logit(rows, names):
        fit = smf.logit(f"y ~ {' + '.join(names)}", rows).fit(disp=0)
        return ratio(fit.params[names[0]], fit.bse[names[0]])

    def cox(rows, names):
        fit = CoxPHFitter().fit(rows[["time", "event", *names]], "time", "event").summary
        return ratio(*fit.loc[names[0], ["coef", "se(coef)"]])

    def placements(rows, score):
        case, control = score[rows["y"] == 1].to_numpy(), score[rows["y"] == 0].to_numpy()
        order = (case[:, None] > control) + 0.5 * (case[:, None] == control)
        return order.mean(), order.mean(axis=1), order.mean(axis=0)

    def delong(value, over_cases, over_controls):
        error = np.sqrt(
            over_cases.var(ddof=1) / over_cases.size
            + over_controls.var(ddof=1) / over_controls.size
        )
        return [value, value - Z * error, value + Z * error, 2 * stats.norm.sf(abs(value / error))]

    a, b = placements(yk, yk["fib"]), placements(yk, -yk["Percent"])

    def curve(rows):
        fit = KaplanMeierFitter().fit(rows["time"], rows["event"])
        limits = fit.confidence_interval_survival_function_
        found = []
        for month in (6, 12):
            found += [100 * fit.predict(month), *(100 * limits[limits.index <= month].iloc[-1])]
        return [*found, fit.median_survival_time_]

    def slopes(value):
        w = v[v["fib"].notna()].assign(tens=v["fib"] / 10)

        def fit(formula, rows, weights):
            made = smf.mixedlm(f"{value} ~ {formula}", rows, groups="Patient", re_formula="~years")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = made.fit(reml=True, method=["bfgs", "lbfgs"])
            names = list(made.fe_params.index)
            vector = np.array([weights.get(name, 0.0) for name in names])
            covariance = made.cov_params().loc[names, names].to_numpy()
            estimate, error = vector @ made.fe_params, np.sqrt(vector @ covariance @ vector)
            df = rows["Patient"].nunique() - len(names)
            half = stats.t.ppf(0.975, df) * error
            return [
                estimate,
                estimate - half,
                estimate + half,
                2 * stats.t.sf(abs(estimate / error), df),
            ]

        return {
            "all": fit("years", v, {"years": 1}),
            "low": fit("high * years", w, {"years": 1}),
            "high": fit("high * years", w, {"years": 1, "high:years": 1}),
            "difference": fit("high * years", w, {"high:years": 1}),
            "tens": fit("tens * years", w, {"tens:years": 1}),
            "adjusted": fit("(tens + Age + male + now + ex) * years", w, {"tens:years": 1}),
        }

    low, high = k[k["high"] == 0], k[k["high"] == 1]
    test = logrank_test(low["time"], high["time"], low["event"], high["event"])
    r = stats.pearsonr(k["fib"], k["Percent"])
    return {
        "pearson": [r.statistic, *r.confidence_interval()],
        "spearman": stats.spearmanr(k["fib"], k["Percent"]).statistic,
        "auc": {
            "score": delong(*a)[:3],
            "fvc": delong(*placements(y, -y["Percent"]))[:3],
            "difference": delong(*(one - two for one, two in zip(a, b, strict=True))),
        },
        "logistic": {
            "score": logit(yk, ["fib"]),
            "fvc": logit(y, ["Percent"]),
            "age": logit(y, ["Age"]),
            "sex": logit(y, ["male"]),
            "joint": logit(yk, joint),
        },
        "cox": {
            "score": cox(k, ["fib"]),
            "fvc": cox(d, ["Percent"]),
            "age": cox(d, ["Age"]),
            "sex": cox(d, ["male"]),
            "joint": cox(k, joint),
            "high": cox(k, ["high"]),
        },
        "survival": {"all": curve(d), "low": curve(low), "high": curve(high)},
        "log_rank": [test.test_statistic, test.p_value],
        "FVC": slopes("FVC"),
        "Percent": slopes("Percent"),
    }


def in_r(d, v, folder):
    d.to_csv(folder / "patients.csv", index=False)
    v.to_csv(folder / "visits.csv", index=False)
    subprocess.run(["Rscript", str(SCRIPT), str(folder)], check=True, timeout=300)
    return json.loads((folder / "recomputed.json").read_text())


def with_interval(values, digits):
    one, low, high = (f"{float(f'{value:.12g}'):.{digits}f}" for value in values[:3])
    text = f"{one} ({low} to {high})"
    return text.replace("(-0 ", "(0 ").replace("to -0)", "to 0)")


def p_text(p):
    return (
        "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}" if p < 0.995 else "> 0.99"
    )


def check(found, tables):
    """Compare with what the report prints, digit by digit."""

    def row(name, start, column=0, **more):
        hits = [
            r
            for r in tables(name)
            if r[column].startswith(start) and all(r[int(k[1:])] == t for k, t in more.items())
        ]
        assert len(hits) == 1, (name, start, len(hits))
        return hits[0]

    label = "Fibrosis on CT"
    assert row("correlations", label)[3] == with_interval(found["pearson"], 3)
    assert row("correlations", label)[5].startswith(f"{found['spearman']:.3f} (")
    roc = found["auc"]
    assert row("roc", f"{label} (%)")[1] == with_interval(roc["score"], 3)
    assert row("roc", "FVC % predicted")[1] == with_interval(roc["fvc"], 3)
    assert row("roc", f"{label} minus")[1:3] == [
        with_interval(roc["difference"], 3),
        p_text(roc["difference"][3]),
    ]
    for table in ("logistic", "cox"):
        for key, start in (("score", label), ("fvc", "FVC"), ("age", "Age"), ("sex", "Sex")):
            more = {"_1": f"{label} (%)"} if key == "score" else {}
            cells = row(table, start, 1, _0="univariable", **more)
            assert cells[3:5] == [with_interval(found[table][key], 3), p_text(found[table][key][3])]
        cells = row(table, label, 1, _0="multivariable")
        assert cells[3:5] == [
            with_interval(found[table]["joint"], 3),
            p_text(found[table]["joint"][3]),
        ]
    assert row("cox", f"{label} high", 1)[3] == with_interval(found["cox"]["high"], 3)
    for key, start in (("all", "All"), ("low", "Low"), ("high", "High")):
        cells, values = row("survival", start), found["survival"][key]
        for column, at in ((3, values[0:3]), (4, values[3:6])):
            assert cells[column] == with_interval(at, 1).replace(" (", " % (")
        assert cells[5] == f"{values[6]:.1f}"


def check_slopes(found, tables, *, intervals=True):
    """Compare annual changes with what the report prints."""

    def same(shown, values, digits):
        text = with_interval(values, digits)
        assert shown == text if intervals else shown.split(" (")[0] == text.split(" (")[0]

    rows = tables("fvc_decline")

    def one(start):
        (cells,) = (cells for cells in rows if cells[0].startswith(start))
        return cells

    for measure, unit, digits in (("FVC", "mL", 0), ("Percent", "points", 2)):
        values, name = found[measure], "FVC % predicted" if measure == "Percent" else measure
        for key, words in (
            ("all", "all"),
            ("low", "low score"),
            ("high", "high score"),
            ("difference", "high minus low"),
        ):
            same(one(f"{name}, {unit} a year: {words}")[1], values[key], digits)
        cells = one(f"{name}, {unit} a year: effect of Fibrosis on CT")
        same(cells[1], values["tens"], digits)
        same(cells[2], values["adjusted"], digits)
        assert cells[3] == p_text(values["adjusted"][3])


def test_flow_adds_up_from_176_to_every_model(report):
    flow = json.loads((report / "results.json").read_text())["flow"]
    assert flow["table"]["patients"] == 176
    assert 176 - sum(item["patients"] for item in flow["left_out"]) == flow["cohort"] == 108
    assert flow["horizon"]["known"] + flow["horizon"]["unknown"] == 108
    assert len(flow["models"]) > 20
    for item in flow["models"]:
        lacking = [gap["patients"] for gap in item["missing"]]
        assert max(lacking, default=0) <= item["eligible"] - item["n"] <= sum(lacking), item[
            "label"
        ]


def test_scipy_statsmodels_and_lifelines_print_the_same(tables, derived):
    d, v = derived
    assert (len(d), int(d["event"].sum()), int(d["y"].sum())) == (108, 67, 56)
    found = in_python(d, v)
    check(found, tables)
    # MixedLM takes its errors from another information matrix; its limits differ by 0.2 %.
    check_slopes(found, tables, intervals=False)


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="R is not installed")
def test_r_prints_the_same(tables, derived, tmp_path):
    found = in_r(*derived, tmp_path)
    check(found, tables)
    check_slopes(found, tables)
