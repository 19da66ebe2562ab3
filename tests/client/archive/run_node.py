"""A node in a process of its own, with a scorer that answers without a server: for kills.

The answer is a Secondary Capture whose UID is derived from the objects of the study, as the UIDs of
real results are from the scan: of other objects it would be another one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from dlild_client.archive.addresses import parse_destination
from dlild_client.archive.node import Node, run_until_stopped
from dlild_client.archive.node_settings import NodeSettings, server_tls
from dlild_client.errors import NotChestError
from dlild_client.transport.cancel import CancelToken

SLOW_S = 0.05


def score(folder: Path, _cancel: CancelToken) -> Sequence[Dataset]:
    time.sleep(SLOW_S)
    headers = [dcmread(path, stop_before_pixels=True) for path in sorted(folder.iterdir())]
    if headers[0].get("BodyPartExamined") == "HEAD":
        raise NotChestError("no lungs; give a chest CT")
    uids = sorted(str(h.SOPInstanceUID) for h in headers)
    capture = Dataset()
    capture.SOPClassUID = SecondaryCaptureImageStorage
    capture.SOPInstanceUID = generate_uid(entropy_srcs=uids)
    capture.StudyInstanceUID = headers[0].StudyInstanceUID
    capture.SeriesInstanceUID = generate_uid(entropy_srcs=[*uids, "series"])
    capture.PatientID = headers[0].PatientID
    capture.PatientName = headers[0].PatientName
    capture.Modality = "OT"
    capture.InstanceNumber = len(uids)
    capture.file_meta = FileMetaDataset()
    capture.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    capture.file_meta.MediaStorageSOPClassUID = capture.SOPClassUID
    capture.file_meta.MediaStorageSOPInstanceUID = capture.SOPInstanceUID
    return [capture]


def main() -> None:
    given = json.loads(sys.argv[1])
    tls = {name: Path(path) for name, path in given.pop("listen_tls", {}).items()}
    settings = NodeSettings(
        **given
        | {
            "spool": Path(given["spool"]),
            "destination": parse_destination(given["destination"]),
            "senders": tuple(given.get("senders", ())),
            "tls": server_tls(tls["cert"], tls["key"], tls["ca"]) if tls else None,
        }
    )
    node = Node(settings, score)
    print("ready", node.port, flush=True)
    run_until_stopped(node)


if __name__ == "__main__":
    main()
