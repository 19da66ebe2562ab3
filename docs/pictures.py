"""Draw the pictures of the documentation from the code; ``--check`` fails where one is stale.

``docs/pictures/journey.svg`` shows what happens to a scan, ``docs/pictures/packages.svg`` which
package imports which. SVG is written as text: the same code gives the same bytes on every machine.
Needs the standard library and git.
"""

from __future__ import annotations

import ast
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from html import escape
from pathlib import Path

from docs.references import ROOT, definitions, tracked

OUT = ROOT / "docs" / "pictures"
DISTRIBUTIONS = ("client", "export", "analysis", "deploy")
COLOURS = {
    "client": "#dbeafe",
    "server": "#dcfce7",
    "export": "#fef3c7",
    "analysis": "#f3e8ff",
    "operations": "#fee2e2",
    "file": "#f5f5f5",
}
INK, GREY = "#1f2937", "#6b7280"
CHARACTER = 7.2
"""Width of a letter of 12 pixels, on average; boxes are made for it."""

CHAINED = 3
"""Rows of the journey whose end is the start of the next."""

IMPORTS = (
    "In a column, a row imports only rows below it; a slash marks a package. "
    "dlild_export imports dlild_client, deploy imports both; nothing else crosses columns."
)
FILES = (
    "Between columns go files: contract.json and the modules that `make configs` renders into "
    "model folders; result.json from client to analysis; model.onnx from export to the repository."
)
ACROSS = {
    ("dlild_export", "dlild_client"),
    ("dlild_deploy", "dlild_client"),
    ("dlild_deploy", "dlild_export"),
}
FONTS = "Helvetica, Arial, DejaVu Sans, sans-serif"
PANEL = 330
"""Width of a column of the packages."""

Graph = Mapping[str, set[str]]


@dataclass
class Canvas:
    """An SVG picture under construction; lengths in pixels, y downwards."""

    width: int
    height: int
    parts: list[str] = field(default_factory=list)

    def box(self, x: float, y: float, w: float, h: float, fill: str, stroke: str = GREY) -> None:
        """Draw a rectangle with round corners."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="6" '
            f'fill="{fill}" stroke="{stroke}"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: int = 12,
        ink: str = INK,
        anchor: str = "middle",
        bold: bool = False,
    ) -> None:
        """Write one line; `y` is its base line."""
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{ink}" '
            f'text-anchor="{anchor}"{weight}>{escape(words)}</text>'
        )

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        """Draw a line through points, with a head at the last."""
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{GREY}"{dash} marker-end="url(#head)"/>'
        )

    def svg(self) -> str:
        """Return the file."""
        head = (
            '<marker id="head" viewBox="0 0 8 8" refX="8" refY="4" '
            f'markerWidth="8" markerHeight="8" orient="auto">'
            f'<path d="M0,0 L8,4 L0,8 z" fill="{GREY}"/></marker>'
        )
        size = f'width="{self.width}" height="{self.height}"'
        start = (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} '
            f'viewBox="0 0 {self.width} {self.height}" font-family="{FONTS}">'
        )
        ground = f'<rect {size} fill="white"/>'
        return "\n".join((start, f"<defs>{head}</defs>", ground, *self.parts, "</svg>\n"))


# ---- the journey ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """One act of a journey: its name, a line about it, and the function that does it."""

    title: str
    about: str
    symbol: str = ""


def rows_of_stages() -> tuple[tuple[str, str, tuple[Stage, ...]], ...]:
    """Return title, colour and stages of every row of the journey."""
    contract = json.loads((ROOT / "model_repository" / "contract.json").read_text("utf-8"))
    spacing = contract["grid"]["spacing_mm"][0]
    stream = f"one gRPC stream a scan, at most {contract['windows']['in_flight']} windows in flight"
    return (
        ("The client prepares the scan", "client", (
            Stage("DICOM, NIfTI, NRRD", "folder, zip, file", "survey_series"),
            Stage("one series", "ranked, or asked for", "rank"),
            Stage("Volume", "HU and geometry", "read_volume"),
            Stage("model grid", f"{spacing:g} mm, LPS", "to_grid"),
            Stage("lung box", "lungs and a margin", "find_lungs"),
            Stage("windows", "fewest voxels", "plan_windows"),
        )),
        (f"The server scores it, in Triton's model dlild: {stream}, FP16 HU", "server", (
            Stage("dlild", "admits scans", "OpenScans"),
            Stage("ild_unet", "HU to probabilities", "Engine"),
            Stage("blending", "overlap weights", "window_weights"),
            Stage("label map", "rule of the contract", "label_voxels"),
            Stage("DL-ILD, volumes", "by class and zone", "measure"),
        )),
        ("The client checks the answer and writes it", "client", (
            Stage("Result", "recomputed, flags", "build_result"),
            Stage("result.json", "labels.nii.gz, PNG", "write_result"),
            Stage("results.csv", "a batch of scans", "run_batch"),
        )),
        ("A cohort: many results and a clinical table", "analysis", (
            Stage("Cohort", "validated table", "load_cohort"),
            Stage("outcome", "progression rule", "assess"),
            Stage("analysis", "ROC, KM, Cox, CV", "analyse"),
            Stage("report", "HTML, tables, JSON", "write_report"),
            Stage("model.json", "risk of new patients", "build_model"),
        )),
        ("The weights: from labelled scans or phantoms to a new model version", "export", (
            Stage("cases", "checked, on the grid", "check_dataset"),
            Stage("training", "3D U-Net", "train"),
            Stage("ONNX", "calibrated", "export_onnx"),
            Stage("evaluation", "the floor", "verdict"),
            Stage("release", "a version folder", "release"),
        )),
    )  # fmt: skip


def journey() -> str:
    """Draw what happens to a scan, to a cohort, and to the weights."""
    w, h, gap, left, band = 150, 58, 30, 20, 118
    rows = rows_of_stages()
    canvas = Canvas(left + 6 * (w + gap), 12 + band * len(rows))
    for number, (title, colour, stages) in enumerate(rows):
        top = 40 + number * band
        canvas.text(left, top - 12, title, anchor="start", bold=True, size=13)
        for column, stage in enumerate(stages):
            if stage.symbol not in definitions():
                raise SystemExit(f"docs/pictures.py: no source defines {stage.symbol} any more")
            x = left + column * (w + gap)
            canvas.box(x, top, w, h, COLOURS[colour])
            canvas.text(x + w / 2, top + 18, stage.title, bold=True)
            canvas.text(x + w / 2, top + 34, stage.about)
            canvas.text(x + w / 2, top + 50, stage.symbol, ink=GREY, size=11)
            if column:
                canvas.arrow((x - gap, top + h / 2), (x, top + h / 2))
        if number < CHAINED:
            right, bottom, below = (
                left + len(stages) * (w + gap) - gap - w / 2,
                top + h,
                top + band + h / 2,
            )
            canvas.arrow(
                (right, bottom), (right, bottom + 12), (8, bottom + 12), (8, below), (left, below)
            )
    return canvas.svg()


# ---- the packages --------------------------------------------------------------------------------


def package_of(module: str) -> str:
    """Return the package of a distribution that a module lies in, or the module at its top."""
    return ".".join(module.split(".")[:2])


def imports() -> Graph:
    """Return, for each package of the three distributions, the packages that it imports."""
    graph: dict[str, set[str]] = defaultdict(set)
    for name in DISTRIBUTIONS:
        base = ROOT / name / "src"
        for path in tracked(f"{name}/src/dlild_{name}/*.py"):
            stem = ".".join(path.relative_to(base).with_suffix("").parts)
            module = stem.removesuffix(".__init__")
            if "." in module and path.stem != "__main__":  # these import all of a distribution
                graph[package_of(module)] |= set(map(package_of, imported(path)))
    return {package: others & set(graph) - {package} for package, others in graph.items()}


def imported(path: Path) -> Iterable[str]:
    """Yield the modules of ours that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dlild_"):
            inner = "." in str(node.module)
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from [str(node.module)] if inner else names
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("dlild_"))


def reachable(graph: Graph, start: str) -> set[str]:
    """Return what a package imports, at any distance; with itself where it is in a cycle."""
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        package = waiting.pop()
        if package not in seen:
            seen.add(package)
            waiting.extend(graph[package])
    return seen


def levels(graph: Graph, distribution: str) -> list[list[str]]:
    """Return the packages of a distribution in levels: each imports lower levels only.

    Packages that import each other in a cycle share a name, joined by a plus sign.
    """
    start = f"dlild_{distribution}."
    own = {p: others for p, others in graph.items() if p.startswith(start)}
    own = {p: {o for o in others if o in own} for p, others in own.items()}
    reach = {p: reachable(own, p) for p in own}
    cycle = {p: " + ".join(sorted({p} | {o for o in reach[p] if p in reach[o]})) for p in own}
    below: dict[str, set[str]] = defaultdict(set)
    for package, others in own.items():
        below[cycle[package]] |= {cycle[o] for o in others} - {cycle[package]}
    height: dict[str, int] = {}
    for name in TopologicalSorter(below).static_order():
        height[name] = 1 + max((height[other] for other in below[name]), default=-1)
    return [
        sorted(n.replace(start, "") for n in height if height[n] == level)
        for level in range(max(height.values(), default=-1), -1, -1)
    ]


def rows_of(names: Iterable[str], width: float) -> list[list[str]]:
    """Break names into rows of boxes that fit a width."""
    rows: list[list[str]] = [[]]
    used = 0.0
    for name in names:
        need = len(name) * CHARACTER + 26
        if used + need > width and rows[-1]:
            rows.append([])
            used = 0.0
        rows[-1].append(name)
        used += need
    return rows


def panel(
    canvas: Canvas, x: float, top: float, title: str, colour: str, groups: list[list[str]]
) -> float:
    """Draw a titled frame with a band of boxes for each group; return where it ends."""
    y, first = top + 40.0, len(canvas.parts)
    for group in groups:
        for row in rows_of(group, PANEL - 36):
            at = x + 18
            for name in row:
                wide = len(name) * CHARACTER + 18
                canvas.box(at, y, wide, 24, COLOURS[colour if name.endswith("/") else "file"])
                canvas.text(at + wide / 2, y + 16, name)
                at += wide + 8
            y += 30
        y += 10
    frame = Canvas(0, 0)
    frame.box(x + 6, top, PANEL - 12, y - top, "white")
    frame.text(x + PANEL / 2, top + 24, title, bold=True, size=14)
    canvas.parts[first:first] = frame.parts
    return y


def packages() -> str:
    """Draw the packages of each distribution in levels, the model folders, and operations."""
    graph = imports()
    check_across(graph)
    canvas = Canvas(PANEL * 4, 0)
    top, ends = 46.0, []
    for column, name in enumerate(("analysis", "export", "client")):
        groups = named(levels(graph, name), name)
        ends.append(panel(canvas, column * PANEL, top, f"dlild_{name}", name, groups))
    end = panel(canvas, 3 * PANEL, top, "model_repository", "server", [folders("model_repository")])
    operations = levels(graph, "deploy")
    if operations:
        end = panel(
            canvas, 3 * PANEL, end + 16, "dlild_deploy", "operations", named(operations, "deploy")
        )
    ends.append(panel(canvas, 3 * PANEL, end + 16, "deploy", "operations", [folders("deploy")]))
    canvas.text(12, 24, IMPORTS, anchor="start")
    canvas.text(12, max(ends) + 24, FILES, anchor="start")
    canvas.height = int(max(ends)) + 40
    return canvas.svg()


def named(groups: list[list[str]], name: str) -> list[list[str]]:
    """Mark the packages among the names in levels with a slash."""
    base = ROOT / name / "src" / f"dlild_{name}"
    return [[f"{n}/" if (base / n).is_dir() else n for n in group] for group in groups]


def check_across(graph: Graph) -> None:
    """Stop where the picture's sentence on imports between distributions does not hold."""
    for package, others in graph.items():
        for other in others:
            pair = package.split(".")[0], other.split(".")[0]
            if pair[0] != pair[1] and pair not in ACROSS:
                raise SystemExit(f"docs/pictures.py: {package} imports {other}")


def folders(top: str) -> list[str]:
    """Return the folders in a folder."""
    paths = (path.relative_to(ROOT / top).parts for path in tracked(f"{top}/*"))
    return sorted({f"{parts[0]}/" for parts in paths if len(parts) > 1} - {"src/"})


def main() -> int:
    """Write the pictures, or with ``--check`` return 1 where one differs from the code."""
    stale = []
    for name, draw in (("journey.svg", journey), ("packages.svg", packages)):
        path, drawn = OUT / name, draw()
        if path.is_file() and path.read_text("utf-8") == drawn:
            continue
        if "--check" in sys.argv[1:]:
            stale.append(f"{path.relative_to(ROOT)} is stale: run `make pictures`")
        else:
            OUT.mkdir(exist_ok=True)
            path.write_text(drawn, "utf-8")
    print("\n".join(stale), end="\n" if stale else "", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
