"""A release: what is refused, what it writes, and that a failure changes nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from export.tiny import coarse_scan, tiny_run, write_run
from typer.testing import CliRunner

from dlild_client.contract import Releases, Repeatability, RepeatabilityCoefficient
from dlild_client.contract.schema import LARGEST_CLASS, LESIONS_TOGETHER
from dlild_export.cli import app
from dlild_export.data.digest import sha256
from dlild_export.release import changes
from dlild_export.release.evaluation_file import EvaluationFile, RecordedTarget, read_evaluation
from dlild_export.release.model_card import CardError, RunRecord, fill, read_run
from dlild_export.release.versions import Candidate, ReleaseError, release, replace_field, serve
from dlild_export.serving.configs import drift, read_documents, write_configs
from dlild_export.serving.onnx import export_run
from dlild_export.serving.parity import Parity, Row

MET = RecordedTarget("Dice, all lung", "at least 0.97", 0.98, met=True)
MISSED = RecordedTarget("Dice, all lesions", "at least 0.80", 0.713, met=False)


@pytest.fixture(scope="session")
def other_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that no repository holds yet."""
    run = write_run(tmp_path_factory.mktemp("other") / "run", 2)
    export_run(run)
    return run


@pytest.fixture
def card(repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(repository.parent / "MODEL_CARD.md", tmp_path))


def candidate(run: Path, *targets: RecordedTarget, below_floor: str | None = None) -> Candidate:
    weights = run / "model.onnx"
    evaluation = EvaluationFile(sha256(weights), "24 phantoms", "openvino bf16", targets, ())
    record = RunRecord("seed = 5", cases=3, seed=5, class_biases=())
    return Candidate(weights, evaluation, record, "Made of nothing.", below_floor)


def parity(run: Path, *differences: float) -> Parity:
    rows = tuple(
        Row("phantom 1", f"engine{place}", "bf16", "", 20.0 + d, d, 0.1, 2.0)
        for place, d in enumerate(differences)
    )
    return Parity(sha256(run / "model.onnx"), "a machine", rows)


def snapshot(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_release_adds_a_version_and_touches_no_other(tiny, card, other_run) -> None:
    before = snapshot(tiny)

    version = release(candidate(other_run, MET), parity(other_run, 0.0, 0.05), tiny, card)

    after, documents = snapshot(tiny), read_documents(tiny)
    digest = sha256(other_run / "model.onnx")
    assert version == 2
    assert set(after) - set(before) == {
        "ild_unet/2/model.onnx",
        "ild_unet/2/model.py",
        "dlild_volume/2/model.py",
        "dlild/2/model.py",
    }
    changed = {name for name in before if before[name] != after[name]}
    assert all(
        name in {"contract.json", "releases.json"} or name.endswith(".pbtxt") for name in changed
    )
    model, releases = documents.contract.model, documents.releases
    assert (model.version, releases.serving, model.weights_sha256) == (2, (2,), digest)
    assert set(releases.releases) == {1, 2}
    assert releases.releases[2].released is not None
    assert drift(tiny) == []
    assert [p.name for p in tiny.parent.iterdir() if p.name.startswith(".dlild")] == []


def test_the_contract_keeps_the_form_it_was_written_in(repository: Path) -> None:
    text = (repository / "contract.json").read_text("utf-8")
    model = json.loads(text)["model"] | {"version": 9}

    changed = replace_field(text, "model", model)

    lines = changed.splitlines()
    tail = text[text.index('  "grid"') :]
    assert json.loads(changed) == json.loads(text) | {"model": model}
    assert changed.endswith(tail)
    assert lines[3:5] == ['    "name": "dlild",', '    "version": 9,']
    with pytest.raises(ReleaseError, match='no field "model"'):
        replace_field("{}", "model", model)


def test_the_card_reports_all_and_keeps_what_was_written_by_hand(tiny, card, other_run) -> None:
    by_hand = card.read_text("utf-8").rpartition("## Limits")[2]

    release(candidate(other_run, MET), parity(other_run, 0.0, 0.05), tiny, card)

    text = card.read_text("utf-8")
    assert text.endswith(by_hand)
    for said in (
        "| version | 2 |",
        sha256(other_run / "model.onnx"),
        "Made of nothing.",
        "3 scans, seed 5",
        "| Dice, all lung | 0.980 | at least 0.97 | yes |",
        "| phantom 1 | engine1 bf16 | 20.05 | +0.050 | 0.100 | 2.0 |",
        "has not been run on a GPU",
        "research use only",
    ):
        assert said in text, said


def test_a_card_is_made_where_there_is_none_and_a_strange_one_is_refused(
    tiny, tmp_path, other_run
) -> None:
    strange = tmp_path / "strange.md"
    strange.write_text("# Ours\n")
    before = snapshot(tiny)
    with pytest.raises(CardError, match="must hold one `<!-- generated: version -->`"):
        release(candidate(other_run, MET), parity(other_run, 0.0), tiny, strange)
    assert snapshot(tiny) == before

    release(candidate(other_run, MET), parity(other_run, 0.0), tiny, tmp_path / "new.md")

    assert "For research use only" in (tmp_path / "new.md").read_text("utf-8")


def test_filling_twice_changes_nothing() -> None:
    card = "a\n<!-- generated: x -->\nold\n<!-- end: x -->\nb\n"
    once = fill(card, {"x": "new \\1 text"})
    assert once == "a\n<!-- generated: x -->\nnew \\1 text\n<!-- end: x -->\nb\n"
    assert fill(once, {"x": "new \\1 text"}) == once


def test_every_missed_target_is_named(tiny, card, other_run) -> None:
    worse = RecordedTarget("DL-ILD, size of the bias", "below 0.5", None, met=False)
    with pytest.raises(ReleaseError) as refusal:
        release(candidate(other_run, MET, MISSED, worse), parity(other_run, 0.0), tiny, card)
    assert str(refusal.value) == (
        "below the floor: Dice, all lesions is 0.713, must be at least 0.80; "
        "DL-ILD, size of the bias is without a value, must be below 0.5"
    )


def test_a_release_below_the_floor_carries_its_reason(tiny, card, other_run) -> None:
    with pytest.raises(ReleaseError, match="needs a reason"):
        release(candidate(other_run, MISSED, below_floor=" "), parity(other_run, 0.0), tiny, card)
    weak = candidate(other_run, MISSED, below_floor="for a\ndemo only")

    release(weak, parity(other_run, 0.0), tiny, card)

    assert read_documents(tiny).releases.releases[2].below_floor == "for a demo only"
    text = card.read_text("utf-8")
    assert "| **released below the floor** | for a demo only |" in text
    assert "| Dice, all lesions | 0.713 | at least 0.80 | **no** |" in text
    # It is of the repository, not of what clients are sent.
    assert "for a demo only" in (tiny / "releases.json").read_text("utf-8")
    assert "for a demo only" not in (tiny / "dlild" / "config.pbtxt").read_text("utf-8")


def test_a_reason_is_recorded_only_where_a_target_is_missed(tiny, card, other_run) -> None:
    release(candidate(other_run, MET, below_floor="in case"), parity(other_run, 0.0), tiny, card)
    assert read_documents(tiny).releases.releases[2].below_floor is None


def test_other_weights_and_released_ones_are_refused(tiny, card, other_run) -> None:
    mixed = candidate(other_run, MET)
    mixed = Candidate(tiny_run() / "model.onnx", mixed.evaluation, mixed.run)
    with pytest.raises(ReleaseError, match="the evaluation is of weights"):
        release(mixed, parity(other_run, 0.0), tiny, card)
    with pytest.raises(ReleaseError, match="these weights are version 1 already"):
        release(candidate(tiny_run(), MET), parity(tiny_run(), 0.0), tiny, card)
    with pytest.raises(ReleaseError, match="the parity figures are of weights"):
        release(candidate(other_run, MET), parity(tiny_run(), 0.0), tiny, card)


def test_weights_that_are_too_large_are_refused(tiny, card, tmp_path) -> None:
    run = tmp_path / "large"
    run.mkdir()
    with (run / "model.onnx").open("wb") as file:
        file.truncate(10_000_001)
    with pytest.raises(ReleaseError, match="10000001 bytes, a version has at most 10000000"):
        release(candidate(run, MET), parity(run, 0.0), tiny, card)


@pytest.mark.parametrize("differences", [(0.0, 0.06), (0.0, -0.2), (float("nan"),), ()])
def test_engines_that_differ_are_refused(differences, tiny, card, other_run) -> None:
    before = snapshot(tiny)
    with pytest.raises(ReleaseError, match=r"at most 0\.05 pass|no scan went through"):
        release(candidate(other_run, MET), parity(other_run, *differences), tiny, card)
    assert snapshot(tiny) == before


class StopHereError(BaseException):
    """What a test throws into the middle of a release."""


def test_a_failure_anywhere_leaves_everything_as_it_was(tiny, card, other_run, monkeypatch) -> None:
    before, page = snapshot(tiny), card.read_bytes()
    steps = {"left": 0}
    real = {name: getattr(changes.Changes, name) for name in ("_place_file", "_place_folder")}

    def failing(name):
        def place(self, *arguments):
            real[name](self, *arguments)
            steps["left"] -= 1
            if steps["left"] < 0:
                raise StopHereError

        return place

    for name in real:
        monkeypatch.setattr(changes.Changes, name, failing(name))
    for stop_after in range(18):
        steps["left"] = stop_after
        with pytest.raises(StopHereError):
            release(candidate(other_run, MET), parity(other_run, 0.0), tiny, card)
        assert snapshot(tiny) == before, stop_after
        assert not (tiny / "ild_unet" / "2").exists()
        assert card.read_bytes() == page
        assert not list(tiny.parent.glob(".dlild-release-*"))
    steps["left"] = 18
    assert release(candidate(other_run, MET), parity(other_run, 0.0), tiny, card) == 2
    assert steps["left"] == 0


def test_a_folder_that_is_there_is_never_overwritten(tiny, card, other_run, tmp_path) -> None:
    (tiny / "ild_unet" / "5").mkdir()
    assert release(candidate(other_run, MET), parity(other_run, 0.0), tiny, card) == 6

    with changes.changes_beside(tmp_path / "room") as change:
        change.write(tmp_path / "file", "new")
        change.add_folder(tiny)
        with pytest.raises(FileExistsError, match="never overwritten"):
            change.apply()
    assert not (tmp_path / "file").exists()


def test_each_version_labels_as_it_was_evaluated(tiny, card, other_run) -> None:
    text = (tiny / "contract.json").read_text("utf-8")
    score = json.loads(text)["score"]
    (tiny / "contract.json").write_text(
        replace_field(text, "score", score | {"labels": LESIONS_TOGETHER}), "utf-8"
    )
    write_configs(tiny)
    release(candidate(other_run, MET), parity(other_run, 0.0), tiny, card)

    rules = [read_documents(tiny).contract.score.labels]
    for version in (1, 2):
        serve(tiny, version)
        rules.append(read_documents(tiny).contract.score.labels)

    assert rules == [LESIONS_TOGETHER, LARGEST_CLASS, LESIONS_TOGETHER]
    assert drift(tiny) == []


def test_a_new_version_has_no_repeatability_until_it_is_measured(tiny, card, other_run) -> None:
    coefficient = RepeatabilityCoefficient(0.5, 0.3, 0.8)
    measured = Repeatability(coefficient, coefficient)
    documents = read_documents(tiny)
    first = replace(documents.releases.releases[1], repeatability=measured)
    (tiny / "releases.json").write_text(Releases((1,), {1: first}).to_json(), "utf-8")
    with pytest.raises(ValueError, match="version 1 two different repeatabilities"):
        write_configs(tiny)
    text = (tiny / "contract.json").read_text("utf-8")
    score = asdict(replace(documents.contract.score, repeatability=measured))
    (tiny / "contract.json").write_text(replace_field(text, "score", score), "utf-8")
    write_configs(tiny)

    release(candidate(other_run, MET), parity(other_run, 0.0), tiny, card)
    found = [read_documents(tiny).contract.score.repeatability]
    serve(tiny, 1)
    found.append(read_documents(tiny).contract.score.repeatability)

    assert found == [None, measured]


def test_the_step_back_and_forth(tiny, card, other_run) -> None:
    first = read_documents(tiny).contract.model.weights_sha256
    release(candidate(other_run, MET), parity(other_run, 0.0), tiny, card, keep_previous=True)
    assert read_documents(tiny).releases.serving == (1, 2)

    serve(tiny, 1, also=(2,))
    back = read_documents(tiny)
    serve(tiny, 2)
    forth = read_documents(tiny)

    assert (back.contract.model.version, back.releases.serving) == (1, (1, 2))
    assert back.contract.model.weights_sha256 == first
    assert (forth.contract.model.version, forth.releases.serving) == (2, (2,))
    assert drift(tiny) == []
    with pytest.raises(ReleaseError, match="version 7 was never released, only 1, 2"):
        serve(tiny, 7)
    (tiny / "ild_unet" / "1" / "model.onnx").write_bytes(b"other")
    with pytest.raises(ReleaseError, match="is not the file that was released"):
        serve(tiny, 1)


def write_evaluation(path: Path, digest: str, *targets: RecordedTarget, **changes: object) -> Path:
    floor = {
        "met": all(t.met for t in targets),
        "targets": [
            {"name": t.name, "rule": t.rule, "value": t.value, "met": t.met} for t in targets
        ],
    }
    raw = {
        "schema_version": 1,
        "about": {"weights_sha256": digest, "cases": "24 phantoms", "engine": "openvino bf16"},
        "floor": floor,
        "real": {"floor": None},
    }
    path.write_text(json.dumps(raw | changes))
    return path


def test_an_evaluation_is_read_strictly(tmp_path) -> None:
    path = write_evaluation(tmp_path / "evaluation.json", "d" * 64, MET, MISSED)
    assert read_evaluation(path).missed == (MISSED,)
    for changes_made, reason in (
        ({"schema_version": 2}, "schema version 2, this release reads 1"),
        ({"floor": None}, "no case with a truth was evaluated"),
        ({"about": {}}, "lacks 'weights_sha256'"),
        ({"floor": {"targets": [{"name": "x"}]}}, "lacks 'rule'"),
        ({"floor": 5}, "not an evaluation to release on"),
    ):
        with pytest.raises(ValueError, match=reason):
            read_evaluation(write_evaluation(path, "d" * 64, MET, **changes_made))
    path.write_text("no JSON")
    with pytest.raises(ValueError, match="not an evaluation to release on"):
        read_evaluation(path)


def test_the_command_names_the_reason_in_one_line(tiny, other_run, tmp_path) -> None:
    digest = sha256(other_run / "model.onnx")
    below = write_evaluation(tmp_path / "below.json", digest, MISSED)
    foreign = write_evaluation(tmp_path / "foreign.json", "d" * 64, MET)
    before = snapshot(tiny)

    for file, code, said in (
        (below, 1, "not released: below the floor: Dice, all lesions is 0.713"),
        (foreign, 1, "not released: the evaluation is of weights dddd"),
        (tmp_path / "absent.json", 3, "absent.json"),
    ):
        result = CliRunner().invoke(
            app, ["release", str(other_run), str(tiny), "--evaluation", str(file)]
        )
        assert result.exit_code == code, result.output
        assert said in result.stderr
        assert result.stderr.count("\n") == 1
    assert snapshot(tiny) == before


def test_the_command_releases(tiny, card, other_run, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        "dlild_export.serving.parity.gather_scans", lambda *_: {"coarse": coarse_scan()}
    )
    file = write_evaluation(
        tmp_path / "evaluation.json", sha256(other_run / "model.onnx"), MET, MISSED
    )
    notes = tmp_path / "notes.md"
    notes.write_text("Three volunteers.")

    options = ["--evaluation", str(file), "--notes", str(notes), "--keep-previous"]
    options += ["--allow-below-floor", "to try the server"]

    result = CliRunner().invoke(app, ["release", str(other_run), str(tiny), *options])

    assert result.exit_code == 0, result.output
    assert "| coarse | torch fp32 |" in result.stdout
    assert "released: version 2, sha256 " in result.stdout
    assert "error" not in result.stderr
    documents = read_documents(tiny)
    assert (documents.contract.model.version, documents.releases.serving) == (2, (1, 2))
    assert documents.releases.releases[2].below_floor == "to try the server"
    text = card.read_text("utf-8")
    assert "Three volunteers." in text
    assert "| coarse | openvino fp32 |" in text


def test_a_run_reports_how_it_was_made(tmp_path) -> None:
    run = write_run(tmp_path / "run", 1)
    told = read_run(run)
    assert (told.seed, told.cases, told.class_biases) == (0, None, ())
    assert json.loads(told.settings)["network"]["channels"] == [4, 8, 8, 8]

    (run / "config.toml").write_text("seed = 0\n")
    (run / "calibration.json").write_text('{"class_biases": [0, 0, 0.3]}')
    told = read_run(run / "checkpoint.pt")
    assert (told.settings, told.class_biases) == ("seed = 0\n", (0, 0, 0.3))


def test_the_serve_command(tiny) -> None:
    assert (
        CliRunner()
        .invoke(app, ["serve", str(tiny), "1"])
        .stdout.endswith("answers with version 1; loaded: 1\n")
    )
    refused = CliRunner().invoke(app, ["serve", str(tiny), "3"])
    assert refused.exit_code == 1
    assert "version 3 was never released" in refused.stderr
