from __future__ import annotations

import pytest

from dlild_client.archive.addresses import (
    Peer,
    WebAddress,
    check_uid,
    is_web_address,
    parse_destination,
    parse_peer,
    parse_web_address,
)
from dlild_client.errors import BadAddressError, BadSettingsError


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("dicomweb+https://pacs/dicom-web", "https://pacs/dicom-web"),
        (
            "dicomweb+https://pacs.hospital.example:8443/a/b/",
            "https://pacs.hospital.example:8443/a/b",
        ),
        ("DICOMweb+HTTP://127.0.0.1:8042/dicom-web", "http://127.0.0.1:8042/dicom-web"),
        ("dicomweb+http://[::1]:8042", "http://[::1]:8042"),
    ],
)
def test_the_address_of_a_service_is_its_base_url(text, url):
    assert parse_web_address(text).url == url


@pytest.mark.parametrize(
    "text",
    [
        "https://pacs/dicom-web",
        "dicomweb+ftp://pacs",
        "dicomweb+https://",
        "dicomweb+https://pacs:0/x",
        "dicomweb+https://pacs:port/x",
        "dicomweb+https://pacs/x?y=1",
        "dicomweb+https://pacs/../x",
        "dicomweb+https://pa cs/x",
        "dicomweb+https://pacs..example/x",
        f"dicomweb+https://{'p' * 64}.example/x",
        "dicomweb+https://10.0.0.256/x",
    ],
)
def test_another_address_is_one_error_that_says_the_form(text):
    with pytest.raises(BadAddressError, match=r"use dicomweb\+https://pacs.example/dicom-web"):
        parse_web_address(text)


def test_a_password_in_an_address_is_not_repeated():
    with pytest.raises(BadAddressError) as caught:
        parse_web_address("dicomweb+https://me:secret@pacs/x")
    assert "secret" not in str(caught.value)


def test_a_path_is_no_address():
    assert not is_web_address("scan/dicom")
    assert not is_web_address("/data/dicomweb.zip")
    assert is_web_address("dicomweb+https://pacs")


def test_a_node_is_a_title_a_host_and_a_port():
    assert parse_peer("PACS@10.0.0.4:104") == Peer("PACS", "10.0.0.4", 104)
    assert parse_peer("MY PACS@[::1]:11112") == Peer("MY PACS", "::1", 11112)
    assert parse_destination("PACS@pacs:104") == Peer("PACS", "pacs", 104)
    assert parse_destination("dicomweb+http://127.0.0.1/x") == WebAddress("http://127.0.0.1/x")


@pytest.mark.parametrize(
    "text",
    [
        "PACS",
        "PACS@host",
        "@host:104",
        "PACS@host:0",
        "PACS@host:99999",
        "A" * 17 + "@h:1",
        "A\\B@h:1",
        "PACS@pacs..example:104",
    ],
)
def test_another_form_of_node_is_one_error(text):
    with pytest.raises(BadAddressError):
        parse_destination(text)


def test_what_is_no_uid_is_not_quoted():
    assert check_uid("1.2.840.10008", "--study") == "1.2.840.10008"
    for text in ("../../etc", "1..2", "Jones", "1" * 65, ""):
        with pytest.raises(BadSettingsError) as caught:
            check_uid(text, "--study")
        assert "Jones" not in str(caught.value)
