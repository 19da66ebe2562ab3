"""A bundle for a site without internet, with checksums and bills of materials: ``make bundle``.

It holds tracked files of the checkout only, so that no key, certificate or setting of this machine
travels, and all of the model repository, as a site's own versions and plans are not tracked.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from dlild_deploy import verify_bundle
from dlild_deploy.checkout import DEPLOY, MODEL_REPOSITORY, ROOT, TOOLS
from dlild_deploy.errors import BundleError
from dlild_deploy.verify_bundle import SUMS, files_of, sha256

PARTS = (
    "LICENSE", "README.md", "CHANGELOG.md", "MODEL_CARD.md", "Makefile", "VERSION",
    "client", "deploy", "docs", "requirements",
)  # fmt: skip
DOCKERFILES = {"dlild-server": "Dockerfile --target server", "dlild-node": "Dockerfile.node"}
"""Our images, and what each is built from in `deploy/docker`."""
LOCKS = {
    "client": "demo.lock",
    "server-image": "container.lock",
    "node-image": "node.lock",
    "embedded-server": "server.lock",
}
"""What each bill of materials is made of."""
WHEELS = ("client", "deploy")

_IMAGE = re.compile(r'^\s*image:\s*"?([^"\s]+)"?\s*$', re.MULTILINE)
_DEFAULT = re.compile(r"\$\{\w+:?-([^}]*)\}")
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def make_bundle(folder: Path, *, wheels: bool) -> None:
    """Make a bundle under another name, and rename it when it is complete.

    Parameters
    ----------
    folder : Path
    wheels : bool
        Build and fetch the packages of the client.

    Raises
    ------
    BundleError
        The folder is there, a program is missing or fails, or a package is not the locked one.
    """
    if folder.exists():
        raise BundleError(f"{folder} is there already: remove it, or name another")
    partly = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partly, ignore_errors=True)
    try:
        partly.mkdir(parents=True)
        _copy(partly)
        (partly / "images.txt").write_text(images_text(), "utf-8")
        _write_bills(partly / "sbom")
        if wheels:
            _gather_wheels(partly / "wheels")
        shutil.copy(Path(verify_bundle.__file__), partly / "verify.py")
        write_sums(partly)
        partly.replace(folder)
    except OSError as error:
        raise BundleError(f"{folder} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(partly, ignore_errors=True)


def write_sums(folder: Path) -> None:
    """Write `SHA256SUMS` over all files of a folder."""
    lines = [
        f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n"
        for path in files_of(folder)
        if path != folder / SUMS
    ]
    (folder / SUMS).write_text("".join(lines), "utf-8")


def images() -> tuple[list[str], list[str]]:
    """Return our images, and those that Compose fetches, with their default tags."""
    files = sorted((DEPLOY / "compose").glob("compose*.yaml"))
    text = "".join(path.read_text("utf-8") for path in files)
    names = {_DEFAULT.sub(r"\1", name) for name in _IMAGE.findall(text)}
    ours = sorted(name for name in names if _repository(name) in DOCKERFILES)
    if [_repository(name) for name in ours] != sorted(DOCKERFILES):
        raise BundleError(f"Compose names {ours}; one of each of {sorted(DOCKERFILES)} is expected")
    return ours, sorted(names - set(ours))


def _repository(image: str) -> str:
    return image.partition(":")[0]


def images_text() -> str:
    """Return the list of images, and the commands that copy them to the site."""
    ours, others = images()
    both = " ".join([*ours, *others])
    return "\n".join(
        [
            "# Images, and how to copy them to the site. Tags are the defaults of compose.yaml.",
            "# 1. With internet: build ours, fetch the others, and save all in one archive.",
            *(
                f"docker build -f deploy/docker/{DOCKERFILES[_repository(name)]} -t {name} ."
                for name in ours
            ),
            *(f"docker pull {name}" for name in others),
            f"docker save {both} | gzip > images.tar.gz",
            "sha256sum images.tar.gz",
            "# 2. Without: compare the sum, then",
            "docker load --input images.tar.gz",
            "# For Kubernetes, each: docker tag NAME REGISTRY/NAME; docker push REGISTRY/NAME",
            "",
        ]
    )  # fmt: skip


def _copy(target: Path) -> None:
    for path in (*_tracked(), *_models()):
        copy = target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, copy)


def _tracked() -> Iterator[Path]:
    listed = _run(["git", "-C", str(ROOT), "ls-files", "-z", "--", *PARTS], "git ls-files")
    for name in filter(None, listed.split("\0")):
        # A file that was removed and not yet committed is still listed.
        if (ROOT / name).is_file():
            yield Path(name)


def _models() -> Iterator[Path]:
    for path in files_of(MODEL_REPOSITORY):
        if "__pycache__" not in path.parts:
            yield path.relative_to(ROOT)


def _write_bills(folder: Path) -> None:
    """Write a CycloneDX bill of materials for each lock file; the tool checks it by its schema."""
    folder.mkdir()
    program = shutil.which("cyclonedx-py", path=f"{os.environ['PATH']}{os.pathsep}{TOOLS}")
    if program is None:
        raise BundleError("cyclonedx-py is not installed: run `make deploy-tools`")
    for name, lock in LOCKS.items():
        bill = folder / f"{name}.cdx.json"
        command = [program, "requirements", str(ROOT / "requirements" / lock)]
        command += ["--pyproject", str(ROOT / "client" / "pyproject.toml")] * (name == "client")
        command += ["--output-reproducible", "--validate", "--of", "JSON", "-o", str(bill)]
        _run(command, "cyclonedx-py")
        parts = len(json.loads(bill.read_text("utf-8"))["components"])
        pins = len(_PIN.findall((ROOT / "requirements" / lock).read_text("utf-8")))
        if parts != pins:
            raise BundleError(f"{bill.name} has {parts} components, {lock} {pins}: look at both")


def _gather_wheels(folder: Path) -> None:
    """Build client and operations, and fetch what they need in the locked versions."""
    lock = (ROOT / "requirements" / "demo.lock").read_text("utf-8")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    folder.mkdir()
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{n}=={v}\n" for n, v in _PIN.findall(lock)), "utf-8")
    with tempfile.TemporaryDirectory() as built:
        for name in WHEELS:
            # A build leaves its traces beside the source.
            source = shutil.copytree(ROOT / name, Path(built) / name)
            _run([*pip, "wheel", "--no-deps", "-w", str(folder), str(source)], "pip wheel")
    own = sorted(folder.glob("dlild_*.whl"))
    fetch = ["download", "--only-binary=:all:", "-c", str(constraints), "-d", str(folder)]
    _run([*pip, *fetch, *map(str, own)], "pip download")
    constraints.unlink()
    locked = set(_HASH.findall(lock))
    for wheel in sorted(set(folder.glob("*.whl")) - set(own)):
        if sha256(wheel) not in locked:
            raise BundleError(f"{wheel.name} is not the file that demo.lock names: run `make lock`")


def _run(command: Sequence[str], name: str) -> str:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    except OSError as error:
        raise BundleError(f"{name} cannot be run: {error.strerror}") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise BundleError(f"{name} ended with code {done.returncode}: {said}")
    return done.stdout
