"""A real archive with real and synthetic studies."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from orthanc import Orthanc, storescu


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as archive:
        yield archive


@pytest.fixture(scope="session")
def real_ct(shared_data: Path) -> Path:
    return shared_data / "lidc-idri-0314" / "dicom"


@pytest.fixture(scope="session")
def archived_ct(orthanc: Orthanc, real_ct: Path) -> Path:
    """The real CT, sent to the archive as a scanner sends it; returns its folder."""
    storescu(orthanc.dicom_port, real_ct)
    return real_ct


@pytest.fixture(autouse=True)
def no_dicomweb_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKEN", "TOKEN_FILE", "USER", "PASSWORD", "PASSWORD_FILE", "CA", "CERT", "KEY"):
        monkeypatch.delenv(f"DLILD_DICOMWEB_{name}", raising=False)


@pytest.fixture(scope="session")
def post() -> Callable[[Orthanc, Path], None]:
    """Put the files of a folder into an archive by Orthanc's own interface: faster than DIMSE."""

    def put(archive: Orthanc, folder: Path) -> None:
        for path in sorted(folder.rglob("*.dcm")):
            request = urllib.request.Request(
                f"http://127.0.0.1:{archive.http_port}/instances", data=path.read_bytes()
            )
            urllib.request.urlopen(request, timeout=30).close()

    return put
