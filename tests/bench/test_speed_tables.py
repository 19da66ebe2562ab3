"""The tables of `make bench`, of figures that were made up."""

from __future__ import annotations

from bench.speed_tables import tables

STAGES = {"read": 1.0, "total": 2.0}


def figures(processor_s: float, peak: float) -> dict:
    return {
        "machine": {"processor": "P", "cores": 2, "openvino": "1", "torch": "2"},
        "scan": {
            "name": "a scan", "slices": 3, "grid_shape": [1, 2, 3], "box_shape": [1, 1, 1],
            "windows": 1, "window_shape": [1, 1, 1],
        },
        "threads": 2,
        "precision": "fp32",
        "contenders": {
            "product": {"seconds": [1.0, 2.0], "dl_ild_percent": 1.5, "median_s": 1.5}
        },
        "targets": {"product / engine": {"value": 1.1, "limit": 1.15, "at_most": True}},
        "processor_s": {"engine": 1.0, "product: client": 0.5},
        "stages_s": STAGES,
        "product_stages_s": STAGES,
        "bytes": {"sent": 1_000_000, "received": 2_000_000},
        "client_memory": {"start": 1 << 20, "peak": 2 << 20},
        "server_memory": {"dlild": {"ready": 1 << 20, "peak": 3 << 20}},
        "shared_memory": 1 << 20,
        "in_a_row_s": [2.0, 1.0, 1.0],
        "outputs": {
            "seconds": 1.5, "processor_s": processor_s, "peak_before": 100e6, "peak": peak,
        },
    }  # fmt: skip


def row(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"| {start}"))


def test_what_all_outputs_add_is_held_against_its_targets():
    text = tables(figures(1.2, 350e6))
    seconds, memory = "SEG, SR, capture and report add, proc", "SEG, SR, capture and report add, to"
    assert "1.20 (1.50), " in row(text, seconds)
    assert "met" in row(text, seconds)
    assert "250, " in row(text, memory)
    assert "met" in row(text, memory)
    missed = tables(figures(2.1, 401e6))
    assert "missed" in row(missed, seconds)
    assert "missed" in row(missed, memory)
