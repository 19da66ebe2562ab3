"""Recipes of weights: what is run, in which order, and going on after a stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dlild_export.cli import app
from dlild_export.recipe import Command, RecipeError, plan, read_recipe, run_plan

RECIPES = Path(__file__).parents[2] / "export" / "recipes"
SMALL = """
name = "small"
[defaults.phantom]
folder = "{out}/cases"
lung_masks = "{lung_masks}"
[[steps]]
command = "phantom"
lung_hu = [-950, -890]
[[steps]]
command = "plant"
scan = "{scan}"
folder = "{out}/cases"
doubtful = "unknown"
[[steps]]
command = "train"
folder = "{out}/cases"
run = "{out}/net"
stage = ["6:16:1", "2:24:1"]
fixed_statistics = false
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def _run(path: Path, out: Path, codes: list[int]) -> tuple[list[str], list[int]]:
    ran: list[str] = []

    def execute(command: Command) -> int:
        ran.append(command[0])
        return codes[len(ran) - 1]

    recipe = read_recipe(path)
    return ran, [code for _, code in run_plan(recipe, plan(recipe, out), out, execute)]


def test_steps_become_commands(small: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    for name in ("b", "a"):
        (scans / name).mkdir(parents=True)

    with_scans = plan(read_recipe(small), Path("o"), lung_masks=Path("m"), scans=scans)
    without = plan(read_recipe(small), Path("o"))

    assert [" ".join(command) for command in with_scans] == [
        "phantom o/cases --lung-masks m --lung-hu -950 -890",
        f"plant {scans}/a o/cases --doubtful unknown",
        f"plant {scans}/b o/cases --doubtful unknown",
        "train o/cases o/net --stage 6:16:1 --stage 2:24:1 --no-fixed-statistics",
    ]
    assert [" ".join(command) for command in without] == [
        "phantom o/cases --lung-hu -950 -890",
        "train o/cases o/net --stage 6:16:1 --stage 2:24:1 --no-fixed-statistics",
    ]


def test_it_goes_on_after_a_stop(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    assert _run(small, out, [0, 143]) == (["phantom", "train"], [-1, 0, -1, 143])
    assert _run(small, out, [0]) == (["train"], [-1, 0])
    assert _run(small, out, []) == ([], [])
    assert (out / "recipe.toml").read_text() == SMALL


def test_another_plan_is_not_mixed_into_a_folder(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _run(small, out, [0, 1])

    small.write_text(SMALL.replace("6:16:1", "7:16:1"))
    assert _run(small, out, [1])[0] == ["train"]  # what is not done yet may change

    small.write_text(SMALL.replace("-950", "-940"))
    with pytest.raises(RecipeError, match=r"step 1 was .*-950.* and is .*-940.*another folder"):
        _run(small, out, [])


def test_start_weights_are_checked(small: Path, tmp_path: Path) -> None:
    small.write_text(SMALL + f'[sha256]\n"{tmp_path}/model.onnx" = "00"\n')
    with pytest.raises(RecipeError, match=r"must have SHA-256 00, found no file here"):
        _run(small, tmp_path / "out", [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "Invalid value"),
        ("name = 'x'", r"no \[\[steps\]\]"),
        ("step = 1", "unknown keys step"),
        ("[[steps]]\ncommand = 'rm'", "step 1: command is 'rm', give one of phantom"),
    ],
)
def test_faults_are_named(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "faulty.toml"
    path.write_text(text)

    with pytest.raises(RecipeError, match=rf"faulty\.toml.*{said}"):
        read_recipe(path)


def test_an_argument_and_an_input_that_lack_are_named(small: Path) -> None:
    small.write_text("[[steps]]\ncommand = 'train'\nfolder = '{elsewhere}'\n")
    with pytest.raises(RecipeError, match=r"step 1: \{elsewhere\} is none of the inputs out"):
        plan(read_recipe(small), Path("o"))
    small.write_text("[[steps]]\ncommand = 'train'\nfolder = 'x'\n")
    with pytest.raises(RecipeError, match="step 1: train needs run"):
        plan(read_recipe(small), Path("o"))


@pytest.mark.parametrize("path", sorted(RECIPES.glob("weights-v?.toml")), ids=lambda p: p.stem)
def test_the_recipes_of_the_weights_are_plans_of_known_options(path: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["recipe", str(path), "--out", str(tmp_path), "--plan"])

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-1].lstrip().split()[0] == str(len(lines))
    assert any(" train " in line for line in lines)
    assert not list(tmp_path.iterdir())


def test_a_record_is_not_run(tmp_path: Path) -> None:
    path = RECIPES / "weights-v4.toml"

    result = CliRunner().invoke(app, ["recipe", str(path), "--out", str(tmp_path)])

    assert result.exit_code == 3
    assert "is a record, and is not run: five trainings" in result.stderr.replace("\n", " ")


def test_an_unknown_option_is_found_before_anything_runs(small: Path, tmp_path: Path) -> None:
    small.write_text(SMALL.replace("fixed_statistics", "fixed_statistic"))

    result = CliRunner().invoke(app, ["recipe", str(small), "--out", str(tmp_path / "out")])

    assert result.exit_code == 2
    assert "--no-fixed-statistic" in result.output
    assert not (tmp_path / "out").exists()


def test_the_command_runs_the_steps(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "phantoms.toml"
    path.write_text(
        "[[steps]]\ncommand = 'phantom'\nfolder = '{out}/cases'\ncount = 1\nspacing = 6.0\n"
        "format = 'cache'\n[[steps]]\ncommand = 'onnx'\nrun = '{out}/cases'\n"
    )
    out = tmp_path / "out"

    result = CliRunner().invoke(app, ["recipe", str(path), "--out", str(out)])

    assert result.exit_code == 3
    assert "step 2 of 2: dlild-export onnx" in result.stderr.replace("\n", " ")
    assert (out / "cases" / "phantom-000000.npz").is_file()
    assert len(json.loads((out / "recipe-state.json").read_text())) == 1
    assert "no checkpoint here" in capfd.readouterr().err
