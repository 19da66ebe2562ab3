"""Print what the distributions ask for, without each other: the input of the lock files.

Usage: python requirements/collect.py client export analysis export[train]
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def requirements(name: str) -> list[str]:
    """Return the requirements of a distribution, or of one of its extras, of the outside world."""
    folder, _, extra = name.rstrip("]").partition("[")
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
    asked = project["optional-dependencies"][extra] if extra else project["dependencies"]
    # torch is installed apart: see the Makefile.
    return [line for line in asked if not re.match(r"(dlild-|torch\b)", line)]


if __name__ == "__main__":
    print("\n".join(sorted({line for name in sys.argv[1:] for line in requirements(name)})))
