"""The command: exit codes, one-line errors, no traceback."""

from __future__ import annotations

import json

import pytest

from dlild_analysis.cli import commands, main


def test_simulate_fit_predict(tmp_path, capsys):
    cohort, study, out = tmp_path / "c.csv", tmp_path / "s.toml", tmp_path / "out"
    assert (
        main(
            [
                "simulate",
                "--like",
                "paper",
                "--n",
                "112",
                "--seed",
                "3",
                "--out",
                str(cohort),
                "--config",
                str(study),
            ]
        )
        == 0
    )
    study.write_text(study.read_text() + "bootstraps = 20\nrepeats = 1\n")
    assert main(["check", str(cohort), "--config", str(study)]) == 0
    assert main(["fit", str(cohort), "--config", str(study), "--out", str(out)]) == 0
    progress = capsys.readouterr().err
    assert "Cox regression" in progress
    assert "bootstrap AUC" in progress
    assert (out / "report.html").exists()
    new = tmp_path / "new.csv"
    new.write_text("id,dl_ild_percent,age,sex\na,33,60,F\n")
    assert (
        main(["predict", str(out / "model.json"), str(new), "--out", str(tmp_path / "risk.csv")])
        == 0
    )
    assert (tmp_path / "risk.csv").read_text().startswith("id,risk_12_months")
    new.write_text("id,dl_ild_percent,age,sex\na,99,60,F\n")
    assert main(["predict", str(out / "model.json"), str(new)]) == 3


def test_faults_exit_3_and_are_listed(files, capsys):
    table, study = files(
        lambda frame: frame.assign(fvc_percent=frame["fvc_percent"].where(frame.index > 2, 500))
    )
    assert main(["check", str(table), "--config", str(study)]) == 3
    err = capsys.readouterr().err
    assert err.count("fault: row") == 3
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["fit", "none.csv", "--config", "none.toml", "--out", "x"], 3),
        (["fit", "none.csv"], 2),
        (["dance"], 2),
        (["audit"], 2),
        (["audit", "none.toml"], 3),
        (["simulate", "--like", "dream", "--out", "x.csv"], 2),
        (["simulate", "--n", "0", "--out", "x.csv"], 2),
        (["predict", "none.json", "none.csv"], 3),
        (["audit", "--example", "--strict"], 1),
        (["audit", "--example"], 0),
        (["rules"], 0),
    ],
)
def test_exit_codes(tmp_path, monkeypatch, capsys, arguments, code):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    if code in (2, 3):
        assert err.startswith("error: ")
        assert err.count("\n") == 1


def test_ctrl_c_ends_with_130(monkeypatch, capsys):
    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "app", interrupted)
    assert main(["rules"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_audit_writes_json(tmp_path, capsys):
    assert main(["audit", "--example", "--out", str(tmp_path / "a.json")]) == 0
    assert len(json.loads((tmp_path / "a.json").read_text())["findings"]) == 13
    assert "[incoherent] 42 progressions" in capsys.readouterr().out


def test_rules_are_listed_with_sources(capsys):
    assert main(["rules"]) == 0
    out = capsys.readouterr().out
    for name in ("recorded@1", "relative-decline@1", "pf-ild@1", "ppf-2022@1"):
        assert name in out
    assert "Raghu" in out


def test_unknown_rule(files, capsys):
    table, study = files()
    study.write_text(study.read_text().replace('rule = "recorded"', 'rule = "hunch"'))
    assert (
        main(
            ["fit", str(table), "--config", str(study), "--out", str(table.parent / "o"), "--quiet"]
        )
        == 2
    )
    assert "no progression rule 'hunch'" in capsys.readouterr().err


def test_check_names_too_few_events_for_the_covariates(files, capsys):
    table, study = files(lambda frame: frame.assign(event=(frame.index < 30).astype(int)))
    assert main(["check", str(table), "--config", str(study)]) == 0
    assert "too few events" not in capsys.readouterr().out
    table, study = files(lambda frame: frame.assign(event=(frame.index < 5).astype(int)))
    assert main(["check", str(table), "--config", str(study)]) == 0
    told = capsys.readouterr().out
    assert "too few events for the covariates asked: 5 for 3 parameters" in told
    assert "5 events, 1 notes" in told
