"""Small scans, certificates and keys for tests of the proxy, and how to start servers behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from bench.support.small import AERATED_HU, DENSER_HU
from export.tiny import write_repository

from dlild_client import TLS, Client, Limits, Retries
from dlild_client.volume import Volume
from dlild_deploy.certificates import issue_certificates
from dlild_deploy.errors import LauncherError
from dlild_deploy.proxy import api_keys
from dlild_deploy.proxy.cluster import Cluster, make_servers
from dlild_deploy.proxy.haproxy import Proxy, find_haproxy
from dlild_deploy.server.preflight import check_platform
from dlild_export.phantom import Pattern, PhantomSpec, make_phantom
from dlild_export.serving.configs import write_configs

CLIENT = "trial"
# A phantom of 3 mm taken for a finer one: the chest of a child, with few windows.
SPACING_MM = (1.8, 1.8, 1.8)


@dataclass(frozen=True)
class Papers:
    """Certificates and keys of a proxy, and of its client.

    Attributes
    ----------
    folder : Path
        Of ``make certs``.
    keys : Path
        ``keys.map`` of the proxy.
    key : str
        The client's.
    """

    folder: Path
    keys: Path
    key: str

    @property
    def tls(self) -> TLS:
        """What the client shows and trusts."""
        mine = self.folder / f"client-{CLIENT}"
        return TLS(self.folder / "ca.crt", mine.with_suffix(".crt"), mine.with_suffix(".key"))

    def client(self, proxy: Proxy, *, scans: int = 4, attempts: int = 10) -> Client:
        """Return a client that may use the proxy."""
        return Client(
            proxy.url,
            tls=self.tls,
            api_key=self.key,
            limits=Limits(scans=scans),
            retries=Retries(attempts=attempts),
        )


def make_papers(folder: Path) -> Papers:
    """Make certificates and a key, with the programs that a hospital uses."""
    issue_certificates.make(folder, [], [CLIENT], 7)
    path = folder / "keys.map"
    return Papers(folder, path, api_keys.add_key(path, {}, CLIENT))


def small_tiny_repository(folder: Path, repository: Path) -> Path:
    """Copy the repository with the tiny network and small windows: a small scan has several."""
    copied = write_repository(folder, repository)
    contract = json.loads((copied / "contract.json").read_text("utf-8"))
    contract["windows"] |= {"maximum": [64, 80, 80], "maximum_voxels": 64 * 80 * 80}
    (copied / "contract.json").write_text(json.dumps(contract), "utf-8")
    # Slots for all scans on two servers: a scan that finds none waits, which is tried elsewhere.
    limits = json.loads((copied / "limits.json").read_text("utf-8")) | {"open_scans": 24}
    (copied / "limits.json").write_text(json.dumps(limits), "utf-8")
    write_configs(copied)
    return copied


@cache
def _phantom() -> np.ndarray:
    spec = PhantomSpec(seed=11, pattern=Pattern.UIP, severity=0.05)
    return np.asarray(make_phantom(spec, spacing_mm=3.0).hu)


def small_volumes(count: int) -> list[Volume]:
    """One small phantom, denser from the base up to different heights."""
    volumes = []
    for number in range(count):
        hu = _phantom().copy()
        denser = hu[: len(hu) * number // count]
        denser[(denser > AERATED_HU[0]) & (denser < AERATED_HU[1])] += DENSER_HU
        volumes.append(Volume(hu, SPACING_MM))
    return volumes


@contextmanager
def running(
    count: int,
    papers: Papers,
    repository: Path,
    logs: Path,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:
    """Run servers behind the proxy; skip, saying why, where this machine cannot."""
    try:
        check_platform()
        find_haproxy()
    except LauncherError as reason:
        pytest.skip(str(reason))
    logs.mkdir(parents=True, exist_ok=True)
    proxy = Proxy(
        papers.folder,
        papers.keys,
        port=0,
        log_path=logs / "haproxy.log",
        settings=settings,
    )
    servers = make_servers(count, repository=repository, log_folder=logs)
    with Cluster(servers, proxy) as cluster:
        yield cluster
