"""The coherence audit: the paper's verdicts, and each check on figures that are true or false."""

from __future__ import annotations

import pytest

from dlild_analysis import StudyError, audit
from dlild_analysis.audit import CHECKS, example_path
from dlild_analysis.audit.correlation_checks import fisher_z, meng_z
from dlild_analysis.audit.pair_checks import hanley_mcneil_error
from dlild_analysis.audit.printed import read_printed


@pytest.fixture(scope="module")
def paper():
    _, findings = audit(example_path())
    return {finding.title: finding for finding in findings}


def run(tmp_path, body):
    path = tmp_path / "figures.toml"
    path.write_text(f"[[check]]\n{body}\n")
    return audit(path)[1][0]


def test_events_of_the_paper(paper):
    finding = paper["42 progressions against the two-year survivals"]
    assert finding.verdict == "incoherent"
    assert finding.derived["expected_events_without_censoring"] == pytest.approx(34.552)
    assert round(finding.derived["patients_high_needed"]) == 80


def test_hazard_ratio_of_the_paper(paper):
    finding = paper["Cox HR 2.872 against the survivals"]
    assert finding.verdict == "tension"
    assert finding.derived["implied_ratio"]["12"] == pytest.approx(12.2, abs=0.05)
    assert finding.derived["implied_ratio"]["24"] == pytest.approx(3.7, abs=0.05)


def test_areas_of_the_paper(paper):
    finding = paper["AUC of DL-ILD and of the visual score"]
    (low_a, high_a), (low_b, high_b) = finding.derived["intervals"]
    assert [round(x, 2) for x in (low_a, high_a, low_b, high_b)] == [0.79, 0.94, 0.61, 0.81]
    assert "paired test" in finding.words


@pytest.mark.parametrize(
    ("title", "independent", "low", "high"),
    [
        ("FVC %: Z 2.593 against r -0.762", 0.571, 0.60, 0.66),
        ("DLCO %: Z 2.598 against r -0.685", 0.451, 0.50, 0.57),
    ],
)
def test_correlations_of_the_paper(paper, title, independent, low, high):
    finding = paper[title]
    assert finding.verdict == "cannot tell"
    assert finding.derived["r_b_independent"] == pytest.approx(independent, abs=5e-4)
    implied = finding.derived["r_b_dependent_meng"].values()
    assert (round(min(implied), 2), round(max(implied), 2)) == (low, high)


def test_the_rest_of_the_paper_is_coherent(paper):
    for title in (
        "Z 2.593 against P 0.010",
        "Z 2.598 against P 0.009",
        "r -0.762 with FVC %",
        "Precision of the Cox HR against 42 events",
    ):
        assert paper[title].verdict == "coherent"
    assert all(finding.formula and finding.source and finding.words for finding in paper.values())


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        (
            'kind = "ci-against-p"\nestimate = "2.00"\nci = ["1.20", "3.33"]\np = "0.008"',
            "coherent",
        ),
        (
            'kind = "ci-against-p"\nestimate = "2.00"\nci = ["1.20", "3.33"]\np = "0.20"',
            "incoherent",
        ),
        (
            'kind = "ci-against-p"\nestimate = "2.00"\nci = ["1.20", "6.00"]\np = "0.09"',
            "incoherent",
        ),
        (
            (
                'kind = "ci-against-p"\nscale = "linear"\nestimate = "1.5"\nci = ["0.5", "2.5"]\n'
                'p = "0.003"'
            ),
            "coherent",
        ),
        ('kind = "percent-against-counts"\npercent = "37.5"\ntotal = 112', "coherent"),
        ('kind = "percent-against-counts"\npercent = "37.9"\ntotal = 112', "incoherent"),
        ('kind = "percent-against-counts"\npercent = "37.5%"\ntotal = 112', "coherent"),
        (
            'kind = "statistic-against-p"\nstatistic = "chi2"\nvalue = "3.84"\ndf = 1\np = "0.05"',
            "coherent",
        ),
        (
            'kind = "statistic-against-p"\nstatistic = "t"\nvalue = "2.10"\ndf = 30\np = "0.01"',
            "incoherent",
        ),
        ('kind = "statistic-against-p"\nvalue = "4.1"\np = "< 0.001"', "coherent"),
        ('kind = "correlation-against-p"\nr = "0.30"\npatients = 40\np = "< 0.001"', "incoherent"),
        (
            'kind = "hazard-ratio-against-events"\nhazard_ratio = "1.5"\np = "0.001"\nevents = 30',
            "incoherent",
        ),
        (
            (
                'kind = "auc-against-counts"\nauc = ["0.80"]\nci = ["0.79", "0.81"]\nevents = '
                "20\nnon_events = 30"
            ),
            "incoherent",
        ),
        (
            (
                'kind = "z-against-correlations"\nr_a = "0.8"\nr_b = "0.6"\nr_ab = "0.7"\nz = '
                '"9.9"\npatients = 100'
            ),
            "incoherent",
        ),
        (
            (
                'kind = "events-against-survival"\npatients = 100\nevents = 45\nsurvival_high = { '
                '"24" = "40%" }\n'
                'survival_low = { "24" = "70%" }'
            ),
            "coherent",
        ),
        (
            (
                'kind = "events-against-survival"\npatients = 100\nevents = 20\nsurvival_high = { '
                '"24" = "40%" }\n'
                'survival_low = { "24" = "70%" }'
            ),
            "tension",
        ),
    ],
)
def test_verdicts(tmp_path, body, verdict):
    assert run(tmp_path, body).verdict == verdict


def test_a_z_is_recognised(tmp_path):
    z = meng_z(0.762, 0.63, 0.7, 112)
    body = (
        'kind = "z-against-correlations"\nr_a = "-0.762"\nr_b = "-0.63"\nr_ab = "0.7"\nz = '
        f'"{z:.3f}"\npatients = 112'
    )
    finding = run(tmp_path, body)
    assert finding.verdict == "coherent"
    assert "Meng's dependent test" in finding.words
    assert fisher_z(0.762, 0.571, 112) == pytest.approx(2.593, abs=0.01)


def test_hanley_and_mcneil():
    """Their own example (Radiology 1982): 58 normal, 51 abnormal, area 0.893, SE about 0.032."""
    assert hanley_mcneil_error(0.893, 51, 58) == pytest.approx(0.032, abs=1e-3)


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [("0.010", 0.0095, 0.0105), ("< 0.001", 0, 0.001), ("53.7%", 0.5365, 0.5375), (42, 42, 42)],
)
def test_printed_numbers(value, low, high):
    number = read_printed(value, "x")
    assert (number.low, number.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('kind = "horoscope"', "write one of"),
        ('kind = "ci-against-p"\nestimate = "two"\np = "0.1"', "write a number"),
        ('kind = "ci-against-p"\np = "0.1"', "estimate is missing"),
        ('kind = "percent-against-counts"\npercent = "5"\ntotal = 9\nmood = 1', "not a key"),
        (
            (
                'kind = "events-against-survival"\npatients = 9\nevents = 3\n'
                'survival_low = { "24" = 1.4 }'
            ),
            "is missing",
        ),
    ],
)
def test_mistakes(tmp_path, body, words):
    with pytest.raises(StudyError) as caught:
        run(tmp_path, body)
    assert words in str(caught.value)


def test_every_check_is_reachable():
    assert len(CHECKS) == 10
