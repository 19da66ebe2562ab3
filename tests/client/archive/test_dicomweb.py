"""Search, retrieval and storage over DICOMweb, with a real archive; faults with a faulty one."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pydicom
import pytest
from certificates import Authority
from orthanc import Orthanc, free_port

from dlild_client.archive.addresses import parse_web_address
from dlild_client.archive.dicomweb import DicomWeb, find_web_settings
from dlild_client.archive.scan import open_scan
from dlild_client.errors import (
    BadSettingsError,
    ConnectionFailedError,
    KeyRefusedError,
    NoSeriesError,
    NotCTError,
    NotReadyError,
    RefusedError,
    ServerError,
    TimedOutError,
    TLSFailedError,
    TooLargeError,
)
from dlild_client.reading.read import read_volume


def service(url: str, **variables: object) -> DicomWeb:
    return DicomWeb(
        find_web_settings(
            parse_web_address(url),
            {f"DLILD_DICOMWEB_{name}": str(value) for name, value in variables.items()},
        )
    )


def study_of(folder) -> str:
    return pydicom.dcmread(next(folder.rglob("*.dcm")), stop_before_pixels=True).StudyInstanceUID


# ---- a real archive -----------------------------------------------------------------------------


def test_a_study_of_an_archive_reads_as_its_folder_does(orthanc, archived_ct):
    progress = []
    with open_scan(orthanc.dicomweb, study_of(archived_ct), None) as scan:
        scan.fetch(lambda *stage: progress.append(stage))
        scan.fetch(None)  # retrieved once
        assert scan.path.stat().st_mode & 0o077 == 0
        volume = read_volume(scan.path)
    assert not scan.path.exists()
    expected = read_volume(archived_ct)
    assert volume.series.digest == expected.series.digest
    assert (volume.array == expected.array).all()
    assert volume.flags == expected.flags
    assert progress[-1] == ("retrieve", 275, 275)


def test_the_series_is_chosen_as_from_a_folder(orthanc, post, series_writer, chest_maker, tmp_path):
    coarse = chest_maker((20, 40, 50), (12.0, 6.0, 6.0))
    series_writer.write(coarse, "coarse")
    series_writer.write(chest_maker((40, 40, 50), (6.0, 6.0, 6.0)), "fine", numbered(4))
    series_writer.write(coarse, "report", other_modality)
    post(orthanc, tmp_path)
    study = series_writer.study
    found = service(orthanc.dicomweb).find_series(study)
    assert sorted((s.modality, s.images) for s in found) == [("CT", 20), ("CT", 40), ("MR", 20)]
    with open_scan(orthanc.dicomweb, study, None) as scan:
        scan.fetch(None)
        assert len(list(scan.path.iterdir())) == 60  # no MR
        assert read_volume(scan.path).shape == (40, 40, 50)
    coarse = next(s.uid for s in found if (s.modality, s.images) == ("CT", 20))
    with open_scan(orthanc.dicomweb, study, coarse) as scan:
        scan.fetch(None)
        assert len(list(scan.path.iterdir())) == 20
    with open_scan(orthanc.dicomweb, study, "4") as scan:
        scan.fetch(None)
        assert read_volume(scan.path, series="4").shape == (40, 40, 50)
    with (
        open_scan(orthanc.dicomweb, study, "77") as scan,
        pytest.raises(NoSeriesError, match="none of 3 series"),
    ):
        scan.fetch(None)


def test_a_study_without_ct_is_no_chest_ct(orthanc, post, series_writer, scan, tmp_path):
    series_writer.write(scan, "mr", other_modality)
    post(orthanc, tmp_path)
    with (
        open_scan(orthanc.dicomweb, series_writer.study, None) as given,
        pytest.raises(NotCTError, match=r"no CT series \(only MR\)"),
    ):
        given.fetch(None)


def test_a_study_that_is_not_there_is_one_error_without_its_uid(orthanc):
    with (
        open_scan(orthanc.dicomweb, "1.2.3.4.5", None) as scan,
        pytest.raises(NoSeriesError, match="no study with this UID") as caught,
    ):
        scan.fetch(None)
    assert "1.2.3.4.5" not in str(caught.value)


def test_objects_are_stored_once_however_often_they_are_sent(orthanc, series_writer, scan):
    folder = series_writer.write(scan, "stored")
    objects = [pydicom.dcmread(path) for path in sorted(folder.iterdir())[:3]]
    for _ in range(3):
        service(orthanc.dicomweb).store(objects)
    uids = [i["uid"] for i in orthanc.instances()]
    assert all(uids.count(o.SOPInstanceUID) == 1 for o in objects)


def test_an_archive_with_users_takes_the_right_one_only(tmp_path):
    password = tmp_path / "password"
    password.write_text("s3cret\n")
    right = {"USER": "ward", "PASSWORD_FILE": password}
    with Orthanc(tmp_path / "users", users={"ward": "s3cret"}) as archive:
        with pytest.raises(NoSeriesError):
            service(archive.dicomweb, **right).find_series("1.2.3")
        for wrong in ({}, right | {"USER": "other"}, {"TOKEN": "x"}):
            with pytest.raises(KeyRefusedError, match="user, password or token"):
                service(archive.dicomweb, **wrong).find_series("1.2.3")


# ---- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"USER": "ward"}, "both user and password"),
        ({"USER": "ward", "PASSWORD": "x", "TOKEN": "y"}, "both a token and a user"),
        ({"TOKEN_FILE": "missing-file"}, "cannot be read"),
        ({"TOKEN": "a\nb"}, "control character"),
        ({"TIMEOUT_S": "soon"}, "not a positive number"),
        ({"CERT": "client.crt"}, "both cert and key"),
        ({"CA": "missing.pem"}, "missing.pem"),
    ],
)
def test_a_wrong_setting_is_one_line(variables, words):
    with pytest.raises(BadSettingsError, match=words):
        service("dicomweb+https://pacs.example/dicom-web", **variables)


def test_a_secret_is_not_sent_in_clear_text_and_not_shown():
    with pytest.raises(BadSettingsError, match="without encryption") as caught:
        service("dicomweb+http://pacs.example/dicom-web", TOKEN="s3cret")
    assert "s3cret" not in str(caught.value)
    settings = find_web_settings(
        parse_web_address("dicomweb+https://pacs.example"), {"DLILD_DICOMWEB_TOKEN": "s3cret"}
    )
    assert "s3cret" not in repr(settings)


def test_study_belongs_to_an_archive_and_an_archive_needs_a_study(tmp_path):
    with (
        pytest.raises(BadSettingsError, match="leave --study out"),
        open_scan(str(tmp_path), "1.2", None),
    ):
        pass
    with (
        pytest.raises(BadSettingsError, match="which study"),
        open_scan("dicomweb+https://h", None, None),
    ):
        pass
    with (
        pytest.raises(BadSettingsError, match="--study is no UID"),
        open_scan("dicomweb+https://h", "Jones", None),
    ):
        pass


# ---- faulty archives ----------------------------------------------------------------------------


def json_of(*rows: object) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        body = json.dumps(rows).encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "application/dicom+json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def status(code: int) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: handler.send_error(code)


def html(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html")
    handler.end_headers()
    handler.wfile.write(b"<html>log in</html>")


SERIES = {
    "0020000E": {"vr": "UI", "Value": ["1.2.3"]},
    "00080060": {"vr": "CS", "Value": ["CT"]},
    "00201209": {"vr": "IS", "Value": [3]},
}


def multipart(*parts: bytes, forever: bool = False) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        if "/instances" not in handler.path and not handler.path.endswith("/series/1.2.3"):
            json_of(SERIES)(handler)
            return
        handler.send_response(200)
        handler.send_header(
            "Content-Type", 'multipart/related; type="application/dicom"; boundary=b'
        )
        handler.end_headers()
        for part in parts:
            handler.wfile.write(b"\r\n--b\r\nContent-Type: application/dicom\r\n\r\n" + part)
        while forever:
            handler.wfile.write(bytes(1 << 20))
        handler.wfile.write(b"\r\n--b--")

    return answer


@contextmanager
def faulty(
    answer: Callable[[BaseHTTPRequestHandler], None], tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(OSError):  # the client has hung up
                answer(self)

        def do_POST(self) -> None:
            # Read whole: a connection that is closed before would hide the answer.
            with suppress(ValueError):
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    self.rfile.read(size + 2)
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"dicomweb+http{'s' if tls else ''}://127.0.0.1:{server.server_port}/dicom-web"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (status(403), KeyRefusedError, "not permitted"),
        (status(404), ServerError, "no DICOMweb service at this path"),
        (status(400), RefusedError, "HTTP status 400"),
        (status(503), NotReadyError, "HTTP status 503"),
        (html, ServerError, "not that of a DICOMweb service"),
        (json_of(1, 2), ServerError, "not that of a DICOMweb service"),
        (multipart(b"no DICOM"), ServerError, "not that of a DICOMweb service"),
        (multipart(), ConnectionFailedError, "0 of the 3 images"),
    ],
    ids=["403", "404", "400", "503", "html", "json", "garbage", "short"],
)
def test_an_archive_that_refuses_or_is_none_is_one_error(answer, error, words, tmp_path):
    with faulty(answer) as url, pytest.raises(error, match=words) as caught:
        service(url).retrieve("1.2.840.99", tmp_path)
    assert "1.2.840.99" not in str(caught.value)
    assert type(caught.value) is error


def stored_in_part(handler: BaseHTTPRequestHandler) -> None:
    failed = {"00081197": {"vr": "US", "Value": [0xA700]}}
    body = json.dumps({"00081198": {"vr": "SQ", "Value": [failed]}}).encode()
    handler.send_response(202)
    handler.send_header("Content-Type", "application/dicom+json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (status(403), KeyRefusedError, "HTTP status 403 to store"),
        (status(409), RefusedError, "HTTP status 409 to store"),
        (status(413), RefusedError, "no message of this size"),
        (status(500), NotReadyError, "HTTP status 500 to store"),
        (stored_in_part, RefusedError, "refused 1 of 2 objects (failure reason 0xA700)"),
    ],
)
def test_an_archive_that_does_not_store_everything_is_one_error(
    answer, error, words, series_writer, scan
):
    folder = series_writer.write(scan, "refused")
    objects = [pydicom.dcmread(path) for path in sorted(folder.iterdir())[:2]]
    with faulty(answer) as url, pytest.raises(error, match=re.escape(words)) as caught:
        service(url).store(objects)
    assert objects[0].StudyInstanceUID not in str(caught.value)


def test_certificates_of_both_sides_are_checked(tmp_path):
    # Orthanc 1.10 of Debian 12 resets TLS connections; a server of the standard library does not.
    authority, stranger = Authority(tmp_path / "a"), Authority(tmp_path / "b", "Stranger")
    pair, mine, foreign = (
        authority.issue("server"), authority.issue("client"), stranger.issue("client")
    )  # fmt: skip
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.cert, pair.key)
    with faulty(json_of(SERIES), tls) as url:
        assert service(url, CA=authority.ca).find_series("1.2.3")[0].uid == "1.2.3"
        with pytest.raises(TLSFailedError, match="certificate verify failed"):
            service(url).find_series("1.2.3")
        with pytest.raises(TLSFailedError, match="certificate verify failed"):
            service(url, CA=stranger.ca).find_series("1.2.3")
        with pytest.raises(ConnectionFailedError):
            service(url.replace("https", "http")).find_series("1.2.3")
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(authority.ca)
    with faulty(json_of(SERIES), tls) as url:
        service(url, CA=authority.ca, CERT=mine.cert, KEY=mine.key).find_series("1.2.3")
        for other in ({}, {"CERT": foreign.cert, "KEY": foreign.key}):
            with pytest.raises(ConnectionFailedError):
                service(url, CA=authority.ca, **other).find_series("1.2.3")


def test_libraries_log_no_uid(caplog, tmp_path):
    with (
        caplog.at_level(0),
        faulty(status(503)) as url,
        pytest.raises(NotReadyError),
    ):
        service(url).retrieve("1.2.840.99", tmp_path)
    assert "1.2.840.99" not in caplog.text


def test_an_object_without_end_is_not_buffered_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("dlild_client.archive.dicomweb.MAXIMUM_FILE_BYTES", 8 << 20)
    with faulty(multipart(forever=True)) as url, pytest.raises(TooLargeError):
        service(url).retrieve("1.2.840.99", tmp_path)


def test_an_absent_and_a_silent_archive_are_one_error(tmp_path):
    with pytest.raises(ConnectionFailedError, match="connection refused"):
        service(f"dicomweb+http://127.0.0.1:{free_port()}/x").find_series("1.2.3")
    stop = threading.Event()
    with faulty(lambda _: stop.wait(10)) as url:
        with pytest.raises(TimedOutError, match=r"within 0.3 s"):
            service(url, TIMEOUT_S=0.3).find_series("1.2.3")
        stop.set()


def test_a_full_disk_ends_in_one_error(orthanc, archived_ct, tmp_path, monkeypatch):
    monkeypatch.setattr("dlild_client.archive.dicomweb.FREE_BYTES", 1 << 60)
    with pytest.raises(Exception, match="the temporary folder cannot hold the study"):
        service(orthanc.dicomweb).retrieve(study_of(archived_ct), tmp_path)


# ---- helpers ------------------------------------------------------------------------------------


def numbered(number: int):
    def edit(ds, _index):
        ds.SeriesNumber = number

    return edit


def other_modality(ds, _index):
    ds.Modality = "MR"
