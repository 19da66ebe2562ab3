import os
import platform
import socket
import sys
from pathlib import Path

import pytest

from dlild_deploy.errors import LauncherError
from dlild_deploy.server import preflight
from dlild_deploy.server.preflight import (
    KEPT_MEMORY,
    check_platform,
    check_port,
    check_repository,
    find_environment,
    server_variables,
)


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """An environment of the server as the probe tells of it, without the wheel's 200 MB."""
    home = tmp_path / "site/pytriton/tritonserver"
    for version in ("3.8", "3.11", "3.13"):
        stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
        stub.parent.mkdir(parents=True)
        stub.touch()
    facts = {
        "python": [3, 11],
        "site": str(home.parent),
        "numpy": "1.26.4",
        "openvino": "2026.4.0",
        "library": [None, None],
    }
    monkeypatch.setattr(preflight, "_probe", lambda _python: facts)
    return facts


def test_the_server_keeps_memory_unless_set_otherwise(wheel, tmp_path, monkeypatch):
    environment = find_environment(tmp_path / "bin" / "python")
    for name in KEPT_MEMORY:
        monkeypatch.delenv(name, raising=False)
    assert server_variables(environment).items() >= KEPT_MEMORY.items()
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "4096")
    variables = server_variables(environment)
    assert variables["MALLOC_TRIM_THRESHOLD_"] == "4096"
    assert variables["MALLOC_MMAP_THRESHOLD_"] == KEPT_MEMORY["MALLOC_MMAP_THRESHOLD_"]


def test_a_good_machine_passes(machine):
    check_platform()


@pytest.mark.parametrize(
    ("function", "answer", "says"),
    [
        ("system", "Darwin", "needs Linux x86-64, this is Darwin x86_64"),
        ("machine", "aarch64", "needs Linux x86-64, this is Linux aarch64"),
        ("libc_ver", ("glibc", "2.31"), r"needs glibc 2\.35 or newer, this system has 2\.31"),
        ("libc_ver", ("", ""), r"needs glibc 2\.35 or newer, this system has another C library"),
    ],
)
def test_other_machines_are_named(machine, function, answer, says):
    machine.setattr(platform, function, lambda: answer)
    with pytest.raises(LauncherError, match=says):
        check_platform()


def test_little_shared_memory_is_named(machine):
    machine.setattr(preflight, "shared_memory_free", lambda: 64 * 2**20)
    with pytest.raises(LauncherError, match="/dev/shm has 64 MiB free, the server needs 256 MiB"):
        check_platform()


def test_a_repository_with_all_it_needs_passes(model_repository):
    check_repository(model_repository, "embedded")


def test_a_missing_profile_names_the_model_and_the_file(model_repository):
    lost = model_repository / "dlild/configs/embedded.pbtxt"
    lost.unlink()
    with pytest.raises(LauncherError) as error:
        check_repository(model_repository, "embedded")
    assert "model dlild has no profile 'embedded'" in str(error.value)
    assert f"looked for {lost}, there are onnxruntime, tensorrt" in str(error.value)


def test_a_model_that_was_added_needs_the_profile_as_well(model_repository):
    added = model_repository / "progression"
    (added / "configs").mkdir(parents=True)
    for path in (added / "config.pbtxt", added / "configs/embedded.pbtxt"):
        path.write_text('name: "progression"\nbackend: "python"\n')
    check_repository(model_repository, "embedded")
    (added / "configs/embedded.pbtxt").unlink()
    with pytest.raises(LauncherError, match="model progression has no profile 'embedded'"):
        check_repository(model_repository, "embedded")


@pytest.mark.parametrize("profile", ["onnxruntime", "tensorrt"])
def test_a_profile_that_needs_a_container_says_so(model_repository, profile):
    with pytest.raises(LauncherError, match=f"Triton's {profile} backend"):
        check_repository(model_repository, profile)


def test_bytecode_that_a_removed_model_left_behind_is_cleared_away(model_repository):
    left = model_repository / "dlild_accumulator"
    (left / "contract/__pycache__").mkdir(parents=True)
    (left / "contract/__pycache__/errors.cpython-311.pyc").touch()
    check_repository(model_repository, "embedded")
    assert not left.exists()


def test_a_folder_that_is_no_model_is_named_and_kept(model_repository):
    (model_repository / "notes").mkdir()
    (model_repository / "notes/README.md").touch()
    with pytest.raises(LauncherError, match=r"notes is no model, .* remove it"):
        check_repository(model_repository, "embedded")
    assert (model_repository / "notes/README.md").exists()


def test_missing_weights_are_named(model_repository):
    (model_repository / "ild_unet/1/model.onnx").unlink()
    with pytest.raises(LauncherError, match=r"/1/model\.onnx: no network here; restore the file"):
        check_repository(model_repository, "embedded")


def test_weights_that_were_never_released_are_not_served(model_repository):
    (model_repository / "ild_unet/1/model.onnx").write_bytes(b"of another version")
    with pytest.raises(
        LauncherError, match=r"1/model\.onnx has sha256 \w+, version 1 was released"
    ):
        check_repository(model_repository, "embedded")


def test_another_folder_is_no_repository(tmp_path):
    with pytest.raises(LauncherError, match=r"has no contract\.json"):
        check_repository(tmp_path, "embedded")


def test_a_taken_port_is_named():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(LauncherError, match=f"grpc port {port} is taken .* --grpc-port"):
            check_port("grpc", port)


def test_a_free_port_is_chosen_for_zero():
    assert 1024 <= check_port("http", 0) <= 65535


def test_a_number_that_is_no_port_is_named():
    with pytest.raises(LauncherError, match="http port 70000 is no port"):
        check_port("http", 70000)


def test_the_environment_is_found(wheel, tmp_path):
    found = find_environment(tmp_path / "bin/python")
    assert found.stub.parent.name == "3.11"
    assert found.tritonserver.name == "tritonserver"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"site": None}, "nvidia-pytriton is not installed beside .*make venvs"),
        (
            {"python": [3, 14]},
            r"is Python 3\.14, nvidia-pytriton runs models on 3\.8, 3\.11",
        ),
        ({"numpy": "2.1.0"}, r"has numpy 2\.1\.0, it needs numpy older than 2"),
        ({"numpy": None}, "has numpy None, it needs numpy older than 2"),
        ({"openvino": None}, "openvino is not installed beside .*make venvs"),
    ],
)
def test_what_the_environment_lacks_is_named(wheel, tmp_path, change, says):
    wheel.update(change)
    with pytest.raises(LauncherError, match=says):
        find_environment(tmp_path / "bin/python")


def test_a_missing_library_is_named(wheel, tmp_path, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    ldd = tools / "ldd"
    ldd.write_text("#!/bin/sh\necho '	libpython3.11.so.1.0 => not found'\n")
    ldd.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(LauncherError, match=r"lacks libpython3\.11\.so\.1\.0: install it"):
        find_environment(tmp_path / "bin/python")


def test_a_missing_interpreter_is_named(tmp_path):
    with pytest.raises(LauncherError, match=r"no Python at .*nowhere: run `make venvs`"):
        find_environment(tmp_path / "nowhere")


def test_an_interpreter_that_does_not_run_is_named(tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(LauncherError, match="does not run"):
        find_environment(broken)


def test_the_probe_reads_a_real_interpreter():
    facts = preflight._probe(Path(sys.executable))
    assert facts["python"] == list(sys.version_info[:2])


def test_variables_of_this_python_do_not_reach_the_server(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    cleaned = preflight._clean(os.environ)
    assert "PYTHONPATH" not in cleaned
    assert cleaned["PYTHONNOUSERSITE"] == "1"
