"""The tables of `make bench`, in Markdown."""

from __future__ import annotations

import statistics
from typing import Any

from bench.report import table, verdict
from bench.support.memory import MIB

WORDS = {
    "product": "in-memory volume to result, through Triton",
    "engine": "the same windows, OpenVINO in one process: the floor",
    "naive_remote": "FP32 windows one by one by unary gRPC, FP32 back, MONAI blends",
    "monai_openvino": "MONAI's sliding window round our own engine in one process, on the lung box",
    "json_remote": "the same windows by HTTP, as JSON both ways: MONAI Deploy's remote model",
    "monai_box": "MONAI's sliding window, torch, on the lung box",
    "monai_full": "the same on the full field of view",
    "nnunet_box": "nnU-Net's predictor, torch, on the lung box",
    "before": "`product` of an earlier checkout, with its own server and weights",
}

OUTPUTS_S, OUTPUTS_MB = 2.0, 300.0
"""What all outputs of a scan may add to it."""


def tables(figures: dict[str, Any]) -> str:
    """Lay out all that `make bench` measured.

    Parameters
    ----------
    figures : dict
        The part ``speed`` of bench.json.
    """
    scan, box = figures["scan"], figures["machine"]
    head = (
        f"{scan['name']}: {scan['slices']} slices, grid {_shape(scan['grid_shape'])}, lung box "
        f"{_shape(scan['box_shape'])}, {scan['windows']} windows of "
        f"{_shape(scan['window_shape'])}. "
        f"{box['processor']}, {box['cores']} cores, {figures['threads']} threads for everyone; "
        f"OpenVINO {box['openvino']} {figures['precision']}, torch {box['torch']}.\n"
    )
    parts = (
        head,
        _contenders(figures),
        _targets(figures),
        _processor(figures["processor_s"]),
        "Seconds by stage:\n",
        _stages(figures),
        _costs(figures),
    )
    return "\n".join(parts)


def _shape(shape: list[int]) -> str:
    return " x ".join(map(str, shape))


def _contenders(figures: dict[str, Any]) -> str:
    rows = []
    for name, found in figures["contenders"].items():
        seconds = found["seconds"]
        score = found["dl_ild_percent"]
        rows.append(
            (
                f"`{name}`",
                WORDS[name],
                f"{found['median_s']:.2f}",
                f"{min(seconds):.2f} to {max(seconds):.2f}",
                len(seconds),
                "" if score != score else f"{score:.2f}",
            )
        )
    return table(("", "what it is", "median, s", "range", "runs", "DL-ILD, %"), rows)


def _targets(figures: dict[str, Any]) -> str:
    rows = [
        (name, f"{t['value']:.2f}", verdict(t["value"], t["limit"], at_most=t["at_most"]))
        for name, t in figures["targets"].items()
    ]
    return table(("ratio (median over the rounds that both ran in)", "", "target"), rows)


def _processor(seconds: dict[str, float]) -> str:
    engine = seconds["engine"]
    product = sum(s for name, s in seconds.items() if name != "engine")
    rows = [
        (
            name if name == "engine" else f"{name.split(': ')[0]}: `{name.split(': ')[1]}`",
            f"{s:.2f}",
        )
        for name, s in seconds.items()
    ]
    rows.append(("product, all", f"{product:.2f}"))
    return (
        table(("processor seconds of one scan, all cores", ""), rows)
        + f"\nIn processor seconds, product / engine is {product / engine:.2f}.\n"
    )


def _stages(figures: dict[str, Any]) -> str:
    journey, memory = figures["stages_s"], figures["product_stages_s"]
    names = [name for name in journey if name != "total"] + ["total"]
    rows = [
        (name, f"{journey[name]:.2f}", f"{memory[name]:.2f}" if name in memory else "")
        for name in names
    ]
    return table(("stage", "DICOM on disk to JSON, fresh process", "in-memory volume"), rows)


def _costs(figures: dict[str, Any]) -> str:
    sent, received = figures["bytes"]["sent"], figures["bytes"]["received"]
    client, server = figures["client_memory"], figures["server_memory"]
    first, *later = figures["in_a_row_s"]
    rows = [
        ("bytes sent, MB", f"{sent / 1e6:.2f}"),
        ("bytes received, MB", f"{received / 1e6:.2f}"),
        ("client's peak memory (before any scan), MiB", _of(client["peak"], client["start"])),
        *_outputs(figures["outputs"]),
        *(
            (f"server's peak memory, `{name}` (when ready), MiB", _of(held["peak"], held["ready"]))
            for name, held in server.items()
        ),
        ("server's /dev/shm, MiB", f"{figures['shared_memory'] / MIB:.0f}"),
        (
            "first scan of a fresh server; median of the next four, s",
            f"{first:.2f}; {statistics.median(later):.2f}",
        ),
    ]
    return table(("one scan", ""), rows)


def _outputs(found: dict[str, float]) -> list[tuple[str, str]]:
    """Rows of what SEG, SR, capture and report add to a scan, against their targets."""
    seconds, added = found["processor_s"], found["peak"] - found["peak_before"]
    what = "SEG, SR, capture and report add"
    return [
        (
            f"{what}, processor seconds (seconds)",
            f"{seconds:.2f} ({found['seconds']:.2f}), " + verdict(seconds, OUTPUTS_S, at_most=True),
        ),
        (
            f"{what}, to the client's peak memory, MB",
            f"{added / 1e6:.0f}, " + verdict(added / 1e6, OUTPUTS_MB, at_most=True),
        ),
    ]


def _of(peak: int, before: int) -> str:
    return f"{peak / MIB:.0f} ({before / MIB:.0f})"
