"""Combine the data files of coverage, and print one line a package: statements, missed, covered."""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path


def main() -> int:
    """Print the table; 1 where there is nothing to combine."""
    coverage = [sys.executable, "-m", "coverage"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        for words in (("combine", "--quiet"), ("json", "--quiet", "-o", str(report))):
            if subprocess.run([*coverage, *words], check=False).returncode:
                return 1
        files = json.loads(report.read_text("utf-8"))["files"]
    statements: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    for path, file in files.items():
        for name in (_package(path), "all"):
            statements[name] += file["summary"]["num_statements"]
            missed[name] += file["summary"]["missing_lines"]
    print(f"{'package':<36}{'statements':>12}{'missed':>10}{'covered':>10}")
    for name in sorted(statements, key=lambda name: (name == "all", name)):
        share = 100 * (1 - missed[name] / max(1, statements[name]))
        print(f"{name:<36}{statements[name]:>12}{missed[name]:>10}{share:>8.1f} %")
    return 0


def _package(path: str) -> str:
    """Return the distribution's package and the first folder in it, or the folder of a model."""
    folders = Path(path).parent.parts
    inside = folders[folders.index("src") + 1 :] if "src" in folders else folders
    return ".".join(inside[:2])


if __name__ == "__main__":
    raise SystemExit(main())
