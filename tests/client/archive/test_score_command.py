"""`dlild score` with a study of a real archive; the server that scores is a fake."""

from __future__ import annotations

import json
import os
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from client.commands import assert_one_line, dlild, typed_dlild
from client.writers import write_image
from orthanc import Orthanc, free_port

ROOT = Path(__file__).parents[3]


@pytest.fixture
def archived(orthanc, post, series_writer, small) -> tuple[str, Path]:
    """A study with a chest in the archive; returns its UID, and a folder with the same."""
    folder = series_writer.write(small)
    post(orthanc, folder)
    return series_writer.study, folder


def test_a_study_of_an_archive_is_scored_as_its_folder_is(orthanc, archived, server, tmp_path):
    study, folder = archived
    done = dlild(
        "score", orthanc.dicomweb, "--study", study, "--url", server.url, "--json",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    local = dlild("score", folder, "--url", server.url, "--json")
    assert local.returncode == 0, local.stderr
    remote, local = json.loads(done.stdout), json.loads(local.stdout)
    assert remote | {"timings_s": 0} == local | {"timings_s": 0}
    assert (tmp_path / "out" / "result.json").is_file()
    assert study not in (tmp_path / "out" / "result.json").read_text()


@contextmanager
def read_only(orthanc: Orthanc, code: int | None) -> Iterator[str]:
    """An archive that answers every read, and every store with a status; None: it hangs up."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            request = urllib.request.Request(
                f"http://127.0.0.1:{orthanc.http_port}{self.path}",
                headers={k: v for k, v in self.headers.items() if k.lower() in {"accept"}},
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                body = answer.read()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.close_connection = True
            if code is None:
                return
            with suppress(ValueError):
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    self.rfile.read(size + 2)
            self.send_error(code)

        def log_message(self, *_: object) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.daemon_threads = True
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield f"dicomweb+http://127.0.0.1:{proxy.server_port}/dicom-web"
    finally:
        proxy.shutdown()
        proxy.server_close()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (None, "the connection broke"),
        (403, "HTTP status 403 to store"),
        pytest.param(409, "HTTP status 409 to store", marks=pytest.mark.slow),
        pytest.param(507, "HTTP status 507 to store", marks=pytest.mark.slow),
    ],
    ids=["away", "forbidden", "conflict", "full"],
)
def test_a_result_that_the_archive_does_not_take_is_printed_and_written_all_the_same(
    orthanc, archived, server, tmp_path, code, words
):
    study, _ = archived
    with read_only(orthanc, code) as url:
        done = dlild(
            "score", url, "--study", study, "--url", server.url, "--json", "--store",
            "--out", tmp_path / "out", "--sr",
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert study not in done.stderr
    printed = json.loads(done.stdout)
    assert printed == json.loads((tmp_path / "out" / "result.json").read_text())
    assert (tmp_path / "out" / "sr.dcm").is_file()
    # The same later, by hand: the archive is there again.
    again = dlild(
        "score", orthanc.dicomweb, "--study", study, "--url", server.url, "--json", "--store"
    )
    assert (again.returncode, again.stderr) == (0, "")
    (found,) = [
        s for s in orthanc.get("studies?expand") if s["MainDicomTags"]["StudyInstanceUID"] == study
    ]
    modalities = [orthanc.get(f"series/{s}")["MainDicomTags"]["Modality"] for s in found["Series"]]
    assert sorted(modalities) == ["CT", "OT", "SEG", "SR"]


def test_an_image_file_has_no_archive_to_store_in(server, chest, tmp_path):
    path = write_image(chest, tmp_path / "ct.nii.gz")
    url = ("--url", server.url)
    assert_one_line(dlild("score", path, "--store", *url), 2, "give dicomweb+https://")
    out = ("--out", tmp_path / "out")
    assert_one_line(dlild("score", path, "--seg", *out, *url), 3, "no DICOM series")
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_with_an_archive_is_one_line(orthanc, server, tmp_path):
    url, study = ("--url", server.url), ("--study", "1.2.3.4")
    assert_one_line(dlild("score", orthanc.dicomweb, *study, *url), 3, "no study with this UID")
    absent = f"dicomweb+http://127.0.0.1:{free_port()}/dicom-web"
    assert_one_line(dlild("score", absent, *study, *url), 1, "connection refused")
    assert_one_line(dlild("score", orthanc.dicomweb, *url), 2, "give --study")
    assert_one_line(dlild("score", "https://pacs/dicom-web", *study), 2, "use dicomweb+https://")
    assert_one_line(dlild("score", tmp_path, *study), 2, "leave --study out")
    wrong = {"DLILD_DICOMWEB_USER": "ward"}
    done = dlild("score", orthanc.dicomweb, *study, *url, **wrong)
    assert_one_line(done, 2, "both user and password")


def test_a_missing_extra_is_named(tmp_path):
    (tmp_path / "requests.py").write_text("raise ImportError")
    path = f"{tmp_path}{os.pathsep}{ROOT / 'client' / 'src'}"
    done = typed_dlild("score", "dicomweb+https://pacs", "--study", "1.2", PYTHONPATH=path)
    assert_one_line(done, 2, "pip install 'dlild-client[dicomweb]'")
