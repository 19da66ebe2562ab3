"""The Grafana dashboard, and the Helm chart's copies of it and of the alert rules.

Change the panels here, then ``make dashboard``; `dlild-deploy dashboard --check` names each file
that is not as it is made. Needs the standard library only.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlild_deploy.checkout import DEPLOY

MONITORING = DEPLOY / "monitoring"
DASHBOARD = MONITORING / "grafana" / "dashboards" / "dlild.json"
CHART_FILES = DEPLOY / "helm" / "dlild" / "files"
SOURCE = {"type": "prometheus", "uid": "${source}"}
COLUMNS = 24
HEIGHT = 8


@dataclass(frozen=True)
class Panel:
    """One graph, or one number.

    Attributes
    ----------
    title : str
        What it shows, with its unit where Grafana does not print one.
    queries : dict of str to str
        Legend and PromQL; ``{{label}}`` in a legend is filled in by Grafana.
    unit : str
        Grafana's name of the unit.
    explains : str
        What to read off it, shown behind the small i.
    width : int
        Of 24 columns.
    kind : str
        ``timeseries`` or ``stat``.
    """

    title: str
    queries: dict[str, str]
    unit: str
    explains: str
    width: int = 8
    kind: str = "timeseries"


# $server is chosen on the dashboard; $__rate_interval is Grafana's.
HERE_ONLY = 'instance=~"$server"'
ENDED = f"increase(dlild_scans_total{{{HERE_ONLY}}}[1h])"
ROWS: dict[str, tuple[Panel, ...]] = {
    "Now": (
        Panel(
            "Servers that answer",
            {"": 'sum(up{job="dlild"})'},
            "short",
            "Compare with the number of servers that you run.",
            4,
            "stat",
        ),
        Panel(
            "Open scans",
            {"": f"sum(dlild_open_scans{{{HERE_ONLY}}})"},
            "short",
            "Scans that are being sent and scored at this moment.",
            4,
            "stat",
        ),
        Panel(
            "Scans scored in the last hour",
            {"": f'sum(increase(dlild_scans_total{{{HERE_ONLY}, outcome="done"}}[1h]))'},
            "short",
            "What your machine does; compare with its capacity in the runbook.",
            4,
            "stat",
        ),
        Panel(
            "95 of 100 scans take at most",
            {
                "": "histogram_quantile(0.95, sum by (le) (increase("
                f"dlild_scan_duration_seconds_bucket{{{HERE_ONLY}}}[1h])))"
            },
            "s",
            "From first window to score, in the last hour. The target is in targets.yml.",
            4,
            "stat",
        ),
        Panel(
            "Certificate ends in",
            {"": 'min(probe_ssl_earliest_cert_expiry{job="dlild-tls"}) - time()'},
            "s",
            "Of all ports that are watched, the first to end.",
            4,
            "stat",
        ),
        Panel(
            "Alerts that fire",
            {"": 'count(ALERTS{alertname=~"Dlild.+", alertstate="firing"}) or vector(0)'},
            "short",
            "Alertmanager lists them.",
            4,
            "stat",
        ),
    ),
    "Scans": (
        Panel(
            "Ended scans an hour, by outcome",
            {"{{outcome}}": f"sum by (outcome) ({ENDED})"},
            "short",
            "done is a score. REFUSED: a client sends what it must not. INCOMPLETE, GONE, IDLE, "
            "YIELDED: the network between. BUSY: too many at once. FAILED: the server.",
        ),
        Panel(
            "Open scans",
            {"{{instance}}": f"dlild_open_scans{{{HERE_ONLY}}}"},
            "short",
            "A line that stays up while none is scored is a server that hangs.",
        ),
        Panel(
            "Seconds a scan",
            {
                f"{share} of 100": f"histogram_quantile({share / 100}, sum by (le) (rate("
                f"dlild_scan_duration_seconds_bucket{{{HERE_ONLY}}}[$__rate_interval])))"
                for share in (50, 95)
            },
            "s",
            "From first window to score: sending, waiting, network and blending together.",
        ),
    ),
    "Where the time goes": (
        Panel(
            "A window waits for the network",
            {
                "{{instance}}": "rate(dlild_wait_seconds_total"
                f"{{{HERE_ONLY}}}[$__rate_interval]) / "
                f"rate(dlild_windows_total{{{HERE_ONLY}}}[$__rate_interval])"
            },
            "s",
            "Grows when more is sent than the network can do: add a server.",
        ),
        Panel(
            "A window in the network",
            {
                "{{instance}}": "rate(nv_inference_compute_infer_duration_us"
                f'{{{HERE_ONLY}, model="ild_unet"}}[$__rate_interval]) / '
                "rate(nv_inference_request_success"
                f'{{{HERE_ONLY}, model="ild_unet"}}[$__rate_interval])'
            },
            "µs",
            "The engine alone. It should not change from day to day.",
        ),
        Panel(
            "Seconds a scan, blending and scoring",
            {
                "{{stage}}": "sum by (stage) (rate(dlild_scan_seconds_total"
                f'{{{HERE_ONLY}, stage=~"blend|score"}}[$__rate_interval])) / '
                "scalar(sum(rate(dlild_scans_total"
                f'{{{HERE_ONLY}, outcome="done"}}[$__rate_interval])))'
            },
            "s",
            "The work of `dlild` itself, on the CPU.",
        ),
        Panel(
            "Windows a second",
            {"{{instance}}": f"rate(dlild_windows_total{{{HERE_ONLY}}}[$__rate_interval])"},
            "short",
            "The throughput that a load test measures too.",
        ),
        Panel(
            "Windows waiting",
            {"{{instance}}": f"dlild_waiting_windows{{{HERE_ONLY}}}"},
            "short",
            "Windows of open scans that the network has not begun.",
        ),
        Panel(
            "Requests that failed, a minute",
            {
                "{{model}} {{reason}}": "sum by (model, reason) (60 * rate("
                f"nv_inference_request_failure{{{HERE_ONLY}}}[$__rate_interval]))"
            },
            "short",
            "Triton's own count of windows, by model.",
        ),
    ),
    "Memory and processors": (
        Panel(
            "Memory of the container",
            {
                f"{{{{instance}}}} {state}": f"dlild_memory_budget_bytes{{{HERE_ONLY}, "
                f'what="memory", state="{state}"}}'
                for state in ("used", "total")
            },
            "bytes",
            "Beyond the total the kernel kills the server.",
        ),
        Panel(
            "Shared memory",
            {
                f"{{{{instance}}}} {state}": f"dlild_memory_budget_bytes{{{HERE_ONLY}, "
                f'what="shared_memory", state="{state}"}}'
                for state in ("used", "total")
            },
            "bytes",
            "Between Triton and its Python models. A full one fails every scan.",
        ),
        Panel(
            "Held for open scans",
            {"{{instance}}": f"dlild_bytes_held{{{HERE_ONLY}}}"},
            "bytes",
            "Each scan at its peak. At open_bytes of limits.json further scans are BUSY.",
        ),
        Panel(
            "GPU at work",
            {"{{instance}} {{gpu_uuid}}": f"nv_gpu_utilization{{{HERE_ONLY}}}"},
            "percentunit",
            "Share of the time. Empty on a machine without a GPU.",
        ),
        Panel(
            "GPU memory",
            {
                "{{instance}} used": f"nv_gpu_memory_used_bytes{{{HERE_ONLY}}}",
                "{{instance}} total": f"nv_gpu_memory_total_bytes{{{HERE_ONLY}}}",
            },
            "bytes",
            "Empty on a machine without a GPU.",
        ),
        Panel(
            "CPU at work",
            {"{{instance}}": f"nv_cpu_utilization{{{HERE_ONLY}}}"},
            "percentunit",
            "Of the whole machine.",
        ),
    ),
}


def build() -> dict[str, Any]:
    """Build the dashboard.

    Returns
    -------
    dict
        What Grafana imports.
    """
    return {
        "uid": "dlild",
        "title": "DL-ILD",
        "tags": ["dlild"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_source(), _servers()]},
        "panels": list(_panels()),
    }


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _servers() -> dict[str, Any]:
    return {
        "name": "server",
        "label": "Server",
        "type": "query",
        "datasource": SOURCE,
        "query": 'label_values(up{job="dlild"}, instance)',
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }


def _panels() -> Iterator[dict[str, Any]]:
    number, y = 0, 0
    for title, panels in ROWS.items():
        number += 1
        position = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": title, "gridPos": position, "panels": []}
        y += 1
        x = 0
        for panel in panels:
            number += 1
            if x + panel.width > COLUMNS:
                x, y = 0, y + HEIGHT
            position = {"x": x, "y": y, "w": panel.width, "h": HEIGHT}
            yield _panel(number, panel, position)
            x += panel.width
        y += HEIGHT


def _panel(number: int, panel: Panel, position: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + index), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
        for index, (legend, expr) in enumerate(panel.queries.items())
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.explains,
        "datasource": SOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


def outputs() -> dict[Path, str]:
    """Name every file that is made, with its content.

    Returns
    -------
    dict of Path to str
    """
    dashboard = json.dumps(build(), indent=2, ensure_ascii=False) + "\n"
    return {
        DASHBOARD: dashboard,
        CHART_FILES / "dlild.json": dashboard,
        CHART_FILES / "alerts.yml": (MONITORING / "alerts.yml").read_text("utf-8"),
    }


def write_outputs() -> list[Path]:
    """Write every file that is not as it is made; return these."""
    stale = stale_outputs()
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(outputs()[path], "utf-8")
    return stale


def stale_outputs() -> list[Path]:
    """Return the files that are not as they are made."""
    return [
        path
        for path, text in outputs().items()
        if not path.is_file() or path.read_text("utf-8") != text
    ]
