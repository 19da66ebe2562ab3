"""A scan, a real archive, the real server: results land in the study, once.

The archive is Orthanc, the sender dcmtk's `storescu`; scored through DICOMweb and through the node.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from orthanc import Orthanc, free_port, storescu

from dlild_deploy.server import EmbeddedServer

ROOT = Path(__file__).parents[2]
CT = ROOT.parent / "shared" / "data" / "lidc-idri-0314" / "dicom"
RESULT = ["OT", "SEG", "SR"]

pytestmark = [pytest.mark.server, pytest.mark.slow]


def dlild(*arguments: object) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT / "client" / "src"), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "dlild_client.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def added(archive: Orthanc) -> list[tuple[str, str]]:
    """Modality and UID of everything in the archive but the CT images; all in one study."""
    assert len(archive.get("studies")) == 1
    return sorted((i["modality"], i["uid"]) for i in archive.instances() if i["modality"] != "CT")


def test_results_land_in_the_study_by_dicomweb_and_by_the_node_and_only_once(
    embedded_server: EmbeddedServer, patient: Path, tmp_path: Path
) -> None:
    port, url = free_port(), ("--url", embedded_server.grpc_url)
    modalities = {"dlild": ["DLILD", "127.0.0.1", port]}
    with Orthanc(tmp_path / "orthanc", modalities=modalities) as archive:
        storescu(archive.dicom_port, patient)
        (study,) = archive.get("studies?expand")
        uid = study["MainDicomTags"]["StudyInstanceUID"]
        store = ("score", archive.dicomweb, "--study", uid, "--store", *url)
        for _ in range(2):  # the second adds nothing
            done = dlild(*store)
            output, _ = done.communicate(timeout=300)
            assert done.returncode == 0, output
            first = added(archive)
            assert [modality for modality, _ in first] == RESULT
        # The node derives the same UIDs, so that it adds nothing either.
        node = dlild(
            "listen", "--aet", "DLILD", "--port", port, "--peer", "ORTHANC", "--peer", "SENDER",
            "--destination", archive.peer, "--spool", tmp_path / "spool", "--quiet-s", "2",
            "--http-port", "-1", "--request-commitment", "--free-gib", "0.01", *url,
        )  # fmt: skip
        try:
            audit = tmp_path / "spool" / "audit.jsonl"
            wait_for(audit, '"started"')
            # The archive routes the whole study to it, with the results that are there already.
            archive.post("modalities/dlild/store", study["ID"])
            text = wait_for(audit, '"committed"')
            assert '"failed"' not in text
            assert added(archive) == first
            # The same study, sent by a scanner, is known and is not answered again.
            storescu(port, patient, title="DLILD")
            time.sleep(4)
            assert audit.read_text().count('"scoring"') == 1
            node.send_signal(signal.SIGTERM)
            assert node.wait(60) == 0
        finally:
            node.kill()
        assert uid not in audit.read_text()


@pytest.mark.skipif(not CT.is_dir(), reason="no ../shared/data beside the repository")
def test_the_node_alone_answers_and_an_archive_that_is_away_gets_its_answer(
    embedded_server: EmbeddedServer, tmp_path: Path
) -> None:
    port = free_port()
    archive = Orthanc(tmp_path / "orthanc").start()
    storescu(archive.dicom_port, CT)
    archive.stop()
    node = dlild(
        "listen", "--aet", "DLILD", "--port", port, "--peer", "SENDER",
        "--destination", archive.dicomweb, "--spool", tmp_path / "spool", "--quiet-s", "1",
        "--http-port", "-1", "--free-gib", "0.01", "--url", embedded_server.grpc_url,
    )  # fmt: skip
    try:
        audit = tmp_path / "spool" / "audit.jsonl"
        wait_for(audit, '"started"')
        storescu(port, CT, title="DLILD")
        assert '"ConnectionFailed"' in wait_for(audit, '"again"')
        archive.start()
        wait_for(audit, '"sent"')
        assert [modality for modality, _ in added(archive)] == RESULT
        report(archive, tmp_path)
    finally:
        node.kill()
        archive.stop()


def report(archive: Orthanc, folder: Path) -> None:
    """The SR that the archive holds is readable by another program."""
    if shutil.which("dsrdump") is None:
        return
    (identifier,) = [
        one["ID"]
        for one in archive.get("instances?expand")
        if archive.get(f"instances/{one['ID']}/simplified-tags")["Modality"] == "SR"
    ]
    path = folder / "sr.dcm"
    path.write_bytes(archive.file(identifier))
    done = subprocess.run(["dsrdump", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "DL-ILD" in done.stdout


def wait_for(path: Path, words: str, within_s: float = 240) -> str:
    deadline = time.monotonic() + within_s
    while True:
        text = path.read_text() if path.exists() else ""
        if words in text:
            return text
        assert time.monotonic() < deadline, text[-3000:]
        time.sleep(0.2)
