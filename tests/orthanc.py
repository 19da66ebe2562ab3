"""Orthanc, a real archive: a process on free ports of loopback, with its DICOMweb plugin."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

PLUGINS = Path("/usr/share/orthanc/plugins")
STARTS_WITHIN_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Orthanc:
    """An archive whose storage outlives its process: it can be stopped and started again."""

    def __init__(
        self,
        folder: Path,
        *,
        modalities: dict[str, list[Any]] | None = None,
        users: dict[str, str] | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        self.program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
        if self.program is None or not list(PLUGINS.glob("libOrthancDicomWeb*")):
            pytest.skip("Debian packages orthanc and orthanc-dicomweb are not installed")
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.http_port, self.dicom_port = free_port(), free_port()
        self.config = {
            "Name": "test",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "Plugins": [str(PLUGINS)],
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "DicomAet": "ORTHANC",
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": users is not None,
            "RegisteredUsers": users or {},
            "DicomModalities": modalities or {},
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        } | (more or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dicomweb(self) -> str:
        return f"dicomweb+http://127.0.0.1:{self.http_port}/dicom-web"

    @property
    def peer(self) -> str:
        return f"ORTHANC@127.0.0.1:{self.dicom_port}"

    def start(self) -> Orthanc:
        configuration = self.folder / "orthanc.json"
        configuration.write_text(json.dumps(self.config))
        with (self.folder / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.program), str(configuration)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + STARTS_WITHIN_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.http_port), 1).close()
                return self
            except OSError:
                text = (self.folder / "orthanc.log").read_text(errors="replace")
                assert self._process.poll() is None, text[-2000:]
                assert time.monotonic() < deadline, text[-2000:]
                time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def __enter__(self) -> Orthanc:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.http_port}/{path}", timeout=30
        ) as answer:
            return json.load(answer)

    def post(self, path: str, body: str) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}/{path}", data=body.encode()
        )
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)

    def file(self, identifier: str) -> bytes:
        url = f"http://127.0.0.1:{self.http_port}/instances/{identifier}/file"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return bytes(answer.read())

    def instances(self) -> list[dict[str, Any]]:
        """Every object with its modality, study and UIDs, as Orthanc's own interface lists them.

        Objects are listed first, so that one that arrives meanwhile lacks no parent.
        """
        objects, series, studies = (
            self.get(f"{level}?expand") for level in ("instances", "series", "studies")
        )
        series_of = {one["ID"]: one for one in series}
        study_of = {one["ID"]: one for one in studies}
        return [
            {
                "modality": parent["MainDicomTags"].get("Modality"),
                "study": parent["ParentStudy"],
                "study_uid": study_of[parent["ParentStudy"]]["MainDicomTags"]["StudyInstanceUID"],
                "uid": one["MainDicomTags"]["SOPInstanceUID"],
            }
            for one in objects
            for parent in [series_of[one["ParentSeries"]]]
        ]


def storescu(port: int, *paths: Path, title: str = "ORTHANC", calling: str = "SENDER") -> None:
    """Send files, as a scanner does, by the program of dcmtk."""
    program = shutil.which("storescu")
    if program is None:
        pytest.skip("the Debian package dcmtk is not installed")
    subprocess.run(
        [
            program,
            "-aec",
            title,
            "-aet",
            calling,
            "+sd",
            "+r",
            "+sp",
            "*.dcm",
            "127.0.0.1",
            str(port),
            *map(str, paths),
        ],
        check=True,
        capture_output=True,
        timeout=300,
    )
