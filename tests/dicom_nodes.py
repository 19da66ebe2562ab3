"""Studies of small synthetic CT images, a sender, and a node that can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE

from dlild_client.archive.queue import digest_of

ROOT = Path(__file__).parents[1]


def small_ct(study: str, series: str, number: int, patient: str = "Doe^Jane") -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = generate_uid(entropy_srcs=[series, str(number)])
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
    ds.PatientName, ds.PatientID = patient, "4711"
    ds.Modality, ds.InstanceNumber = "CT", number
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
    ds.Rows = ds.Columns = 16
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 1
    ds.PixelData = bytes(512)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def small_studies(count: int, images: int) -> list[list[Dataset]]:
    studies = []
    for _ in range(count):
        study, series = generate_uid(), generate_uid()
        studies.append([small_ct(study, series, i) for i in range(images)])
    return studies


def send(
    port: int,
    objects: Iterable[Dataset],
    *,
    calling: str = "SENDER",
    called: str = "DLILD",
    patience_s: float = 60.0,
) -> list[int]:
    """Send objects, each again until the node has acknowledged it; returns the last statuses."""
    waiting = list(objects)
    statuses: dict[str, int] = {}
    deadline = time.monotonic() + patience_s
    while waiting:
        assert time.monotonic() < deadline, f"{len(waiting)} objects are not acknowledged"
        entity = AE(calling)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 5
        for sop_class in {o.SOPClassUID for o in waiting}:
            entity.add_requested_context(sop_class, ExplicitVRLittleEndian)
        association = entity.associate("127.0.0.1", port, ae_title=called)
        if not association.is_established:
            time.sleep(0.1)
            continue
        for ds in list(waiting):
            try:
                status = association.send_c_store(ds)
            except RuntimeError:
                break
            if "Status" not in status:
                break
            statuses[ds.SOPInstanceUID] = status.Status
            if status.Status >> 8 != 0xA7:
                waiting.remove(ds)
        if association.is_established:
            association.release()
    return list(statuses.values())


class NodeProcess:
    """`run_node.py` as a process, which can be killed and started again over one spool."""

    def __init__(self, spool: Path, destination: str, **settings: Any) -> None:
        self.settings = {
            "title": "DLILD",
            "host": "127.0.0.1",
            "port": 0,
            "spool": str(spool),
            "destination": destination,
            "senders": ["SENDER", "ORTHANC"],
            "quiet_s": 0.7,
            "first_wait_s": 0.2,
            "longest_wait_s": 1.0,
            "free_bytes": 1,
        } | settings
        self.spool, self.port = spool, int(self.settings["port"])
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> NodeProcess:
        path = os.pathsep.join([str(ROOT / "client" / "src"), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [
                sys.executable,
                str(ROOT / "tests" / "client" / "archive" / "run_node.py"),
                json.dumps(self.settings),
            ],
            stdout=subprocess.PIPE,
            stderr=(self.spool.parent / "node.log").open("a"),
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert self._process.stdout is not None
        words = self._process.stdout.readline().split()
        assert words[:1] == ["ready"], (self.spool.parent / "node.log").read_text()[-2000:]
        self.port = self.settings["port"] = int(words[1])
        return self

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def stop(self, within_s: float = 30) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(within_s)

    def __enter__(self) -> NodeProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def audit(self) -> list[dict[str, Any]]:
        path = self.spool / "audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait_for(
        self, event: str, count: int = 1, within_s: float = 60, study: Dataset | None = None
    ) -> list[dict[str, Any]]:
        """Wait for events; with an object, for those of its study."""
        deadline = time.monotonic() + within_s
        wanted = None if study is None else digest_of(study.StudyInstanceUID)
        while True:
            found = [
                line
                for line in self.audit()
                if line["event"] == event and wanted in {None, line.get("study")}
            ]
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, self.audit()[-10:]
            time.sleep(0.05)
