"""The bundle for a site without internet: whole, without secrets, and a changed byte shows."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from deploy.checkers import ROOT, checker

from dlild_deploy import bundle, cli, verify_bundle

NOWHERE = "http://127.0.0.1:9"
SERVED = json.loads((ROOT / "model_repository/contract.json").read_text("utf-8"))["model"][
    "version"
]
WEIGHTS = f"ild_unet/{SERVED}/model.onnx"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a bundle that was made without a network, and the digest that was printed."""
    tool = Path(checker("cyclonedx-py"))
    folder = tmp_path_factory.mktemp("carried") / "dlild-bundle"
    done = subprocess.run(
        [sys.executable, "-m", "dlild_deploy", "bundle", folder],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | {"PATH": f"{tool.parent}{os.pathsep}{os.environ['PATH']}"}
        | dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "PIP_INDEX_URL"), NOWHERE),
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout.splitlines()[-1]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return a folder with sums."""
    folder = tmp_path / "bundle"
    (folder / "sub").mkdir(parents=True)
    (folder / "one").write_bytes(b"one\n" * 1000)
    (folder / "sub" / "two words").write_bytes(b"two")
    bundle.write_sums(folder)
    return folder


def test_it_is_whole_for_our_checker_and_for_coreutils(made: tuple[Path, str]) -> None:
    folder, digest = made

    assert cli.main(["verify", str(folder), "--digest", digest]) == 0
    # With the Python of the site, and nothing of ours beside.
    subprocess.run([sys.executable, "-I", folder / "verify.py", folder], check=True)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


def test_it_holds_what_is_needed_and_no_secret(made: tuple[Path, str]) -> None:
    folder, _ = made
    names = {path.relative_to(folder).as_posix() for path in verify_bundle.files_of(folder)}

    assert names >= {
        "deploy/README.md",
        "deploy/compose/compose.yaml",
        "deploy/helm/dlild/Chart.yaml",
        "deploy/proxy/haproxy.cfg",
        "deploy/monitoring/alerts.yml",
        "deploy/monitoring/node-targets.yml",
        "deploy/compose/compose.node.yaml",
        "deploy/docker/Dockerfile.node",
        "requirements/node.lock",
        "sbom/node-image.cdx.json",
        "docs/wire.md",
        "model_repository/contract.json",
        f"model_repository/{WEIGHTS}",
        "client/pyproject.toml",
        "images.txt",
    }
    told = subprocess.run(
        ["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True
    )
    made_here = {"images.txt", "verify.py", "SHA256SUMS"}
    foreign = names - set(told.stdout.splitlines()) - made_here
    assert {name.partition("/")[0] for name in foreign} <= {"sbom", "model_repository"}
    assert not [name for name in names if name.endswith((".key", ".env", ".pyc", ".api-key"))]


def test_the_bills_of_materials_name_every_locked_package(made: tuple[Path, str]) -> None:
    folder, _ = made
    for name, lock in bundle.LOCKS.items():
        bill = json.loads((folder / "sbom" / f"{name}.cdx.json").read_text("utf-8"))
        assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
        text = (ROOT / "requirements" / lock).read_text("utf-8")
        for part in bill["components"]:
            assert part["purl"].startswith(f"pkg:pypi/{part['name'].lower().replace('_', '-')}@")
            assert f"{part['name']}=={part['version']}" in text
            (reference,) = part["externalReferences"]
            assert all(entry["content"] in text for entry in reference["hashes"])


def test_the_list_of_images_is_that_of_compose() -> None:
    text = bundle.images_text()
    services: dict[str, dict[str, str]] = {}
    for path in (ROOT / "deploy/compose").glob("compose*.yaml"):
        # !reset and !override are Compose's own words.
        read = yaml.safe_load(re.sub(r"!(?:reset|override)\b", "", path.read_text("utf-8")))
        services |= {n: s for n, s in read["services"].items() if "image" in s}

    ours, others = bundle.images()
    assert [name.partition(":")[0] for name in ours] == ["dlild-node", "dlild-server"]
    assert len(services) == len(others) + len(ours) >= 7
    for name in ours:
        (built,) = re.findall(rf"^docker build -f (\S+) .*-t {name} \.$", text, flags=re.MULTILINE)
        assert (ROOT / built).is_file()
        assert f"docker pull {name}" not in text
    for name in (*ours, *others):
        assert re.fullmatch(r"[a-z0-9./-]+:[a-zA-Z0-9._-]+", name)
        (saved,) = re.findall(r"^docker save (.*) \|", text, flags=re.MULTILINE)
        assert name in saved.split()
    assert "${" not in text


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_flipped_byte_is_found_in_the_real_bundle(made: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = made
    copied = shutil.copytree(folder, tmp_path / "copied")
    flip(copied / "model_repository" / WEIGHTS)

    assert list(verify_bundle.faults(copied)) == [f"model_repository/{WEIGHTS} has changed"]
    assert cli.main(["verify", str(copied)]) == 1


def test_what_is_missing_or_added_is_found(small: Path) -> None:
    assert list(verify_bundle.faults(small)) == []
    (small / "one").unlink()
    (small / "three").symlink_to("sub/two words")

    assert list(verify_bundle.faults(small)) == ["one is missing", "three was added"]


def test_sums_that_were_changed_with_the_files_are_found_by_their_digest(small: Path) -> None:
    digest = verify_bundle.sha256(small / "SHA256SUMS")
    flip(small / "one")
    bundle.write_sums(small)

    assert cli.main(["verify", str(small)]) == 0
    assert cli.main(["verify", str(small), "--digest", digest]) == 1


@pytest.mark.parametrize(
    "line", ["nonsense", f"{'0' * 64}  ../outside", f"{'0' * 64}  /etc/passwd"]
)
def test_sums_that_are_none_get_one_line(
    small: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (small / "SHA256SUMS").write_text(line + "\n")

    assert cli.main(["verify", str(small)]) == 1
    assert "line 1 is not a digest and a name" in capsys.readouterr().err


def test_a_folder_that_is_there_is_not_touched(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bundle", str(small)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert list(verify_bundle.faults(small)) == []


def test_without_the_tool_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bundle.shutil, "which", lambda *_, **__: None)

    assert cli.main(["bundle", str(tmp_path / "b")]) == 1
    assert "run `make deploy-tools`" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
