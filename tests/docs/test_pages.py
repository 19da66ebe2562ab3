"""The pages say of the code what is so: links, paths, symbols, and the two pictures."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        ("docs.references", "python -m docs.references --fix follows a definition that has moved"),
        ("docs.pictures", "make pictures"),
    ],
)
def test_the_pages_agree_with_the_code(command: str, remedy: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", command, "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\n{remedy}"


def test_contributing_answers_the_questions_that_were_asked() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    _, _, table = page.partition("| question | answer |")
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(rows) == 30
    assert all("`" in row for row in rows)
