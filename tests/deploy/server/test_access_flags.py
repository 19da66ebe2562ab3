"""TLS and key of the embedded server: the flags, and what is wrong with the options."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from guard import GUARDED, ServerTLS, add_options, guard_flags, read_options
from preflight import LauncherError


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    paths = {name: tmp_path / name for name in ("cert", "key", "ca", "api-key")}
    for path in paths.values():
        path.write_text("s3cret\n")
    return paths


def parse(*arguments: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args([str(argument) for argument in arguments])


def test_nothing_asked_is_an_open_server() -> None:
    assert guard_flags(*read_options(parse())) == []


def test_tls_mutual_tls_and_key(files: dict[str, Path]) -> None:
    one_way = ["--tls-cert", files["cert"], "--tls-key", files["key"]]
    tls, key = read_options(parse(*one_way))
    assert (tls, key) == (ServerTLS(files["cert"], files["key"]), None)
    assert guard_flags(tls, key) == [
        "--grpc-use-ssl=1",
        f"--grpc-server-cert={files['cert']}",
        f"--grpc-server-key={files['key']}",
    ]
    both = parse(*one_way, "--tls-ca", files["ca"], "--api-key-file", files["api-key"])
    flags = guard_flags(*read_options(both))
    assert "--grpc-use-ssl-mutual=1" in flags
    assert f"--grpc-root-cert={files['ca']}" in flags
    assert flags[-1] == f"--grpc-restricted-protocol={','.join(GUARDED)}:x-ild-key=s3cret"


def test_probes_need_no_key_and_all_else_does() -> None:
    assert "health" not in GUARDED
    assert {"inference", "metadata", "model-config", "model-repository", "shared-memory"} <= set(
        GUARDED
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tls-cert", "cert"], "both --tls-cert and --tls-key"),
        (["--tls-ca", "ca"], "both --tls-cert and --tls-key"),
        (["--api-key-file", "absent"], "absent cannot be read"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], words: str) -> None:
    with pytest.raises(LauncherError, match=words):
        read_options(parse(*arguments))


def test_files_that_are_missing_and_keys_that_cannot_travel(files: dict[str, Path]) -> None:
    with pytest.raises(LauncherError, match="TLS key"):
        guard_flags(ServerTLS(files["cert"], Path("absent")), None)
    for key in ("", "two words", "größe"):
        with pytest.raises(LauncherError, match="API key") as refusal:
            guard_flags(None, key)
        assert not key or key not in str(refusal.value)
