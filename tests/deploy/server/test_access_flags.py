"""TLS and key of the embedded server: the flags, and what is wrong with the options."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlild_deploy.errors import LauncherError
from dlild_deploy.server.access_flags import (
    GUARDED,
    ServerTLS,
    access_flags,
    read_access,
)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    paths = {name: tmp_path / name for name in ("cert", "key", "ca", "api-key")}
    for path in paths.values():
        path.write_text("s3cret\n")
    return paths


def read(**options: Path) -> tuple[ServerTLS | None, str | None]:
    names = ("cert", "key", "ca", "api_key_file")
    return read_access(**{name: options.get(name) for name in names})


def test_nothing_asked_is_an_open_server() -> None:
    assert access_flags(*read()) == []


def test_tls_mutual_tls_and_key(files: dict[str, Path]) -> None:
    one_way = {"cert": files["cert"], "key": files["key"]}
    tls, key = read(**one_way)
    assert (tls, key) == (ServerTLS(files["cert"], files["key"]), None)
    assert access_flags(tls, key) == [
        "--grpc-use-ssl=1",
        f"--grpc-server-cert={files['cert']}",
        f"--grpc-server-key={files['key']}",
    ]
    flags = access_flags(*read(**one_way, ca=files["ca"], api_key_file=files["api-key"]))
    assert "--grpc-use-ssl-mutual=1" in flags
    assert f"--grpc-root-cert={files['ca']}" in flags
    assert flags[-1] == f"--grpc-restricted-protocol={','.join(GUARDED)}:x-ild-key=s3cret"


def test_probes_need_no_key_and_all_else_does() -> None:
    assert "health" not in GUARDED
    assert {"inference", "metadata", "model-config", "model-repository", "shared-memory"} <= set(
        GUARDED
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cert": Path("cert")}, "both --tls-cert and --tls-key"),
        ({"ca": Path("ca")}, "both --tls-cert and --tls-key"),
        ({"api_key_file": Path("absent")}, "absent cannot be read"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Path], words: str) -> None:
    with pytest.raises(LauncherError, match=words):
        read(**options)


def test_files_that_are_missing_and_keys_that_cannot_travel(files: dict[str, Path]) -> None:
    with pytest.raises(LauncherError, match="TLS key"):
        access_flags(ServerTLS(files["cert"], Path("absent")), None)
    for key in ("", "two words", "größe"):
        with pytest.raises(LauncherError, match="API key") as refusal:
            access_flags(None, key)
        assert not key or key not in str(refusal.value)
