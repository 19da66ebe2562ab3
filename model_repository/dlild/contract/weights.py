"""Whether the files that a server loads are those that were released.

Standard library alone, also run by itself: the launcher, the image's entrypoint, and whoever wants
to know ask

    python3 MODEL_REPOSITORY/ild_unet/contract/weights.py MODEL_REPOSITORY PROFILE

which prints nothing and ends with 0 where every served version is what `releases.json` names.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NETWORK, INT8_NETWORK = "model.onnx", "model.int8.onnx"
PLAN, RECORD = "model.plan", "model.plan.json"
UNRELEASED = "0" * 64
"""In place of a digest: no weights were released yet, and any are taken."""


class WeightsError(ValueError):
    """A file is missing, or is not what was released; one line that says which, and what to do."""


def check_network(path: Path, version: str, released_sha256: str) -> None:
    """Check a network's file against the digest that it was released with.

    Parameters
    ----------
    path : Path
        The ONNX file.
    version : str
        Of the network.
    released_sha256 : str
        64 hexadecimal digits; `UNRELEASED` takes any file.

    Raises
    ------
    WeightsError
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no network here; restore the file that was released")
    digest = _sha256(path)
    if released_sha256 not in (digest, UNRELEASED):
        raise WeightsError(
            f"{path} has sha256 {digest}, version {version} was released with {released_sha256}: "
            "restore the file that was released, or release these weights as a new version"
        )


def check_plan(
    folder: Path, version: str, released_sha256: str, windows: Mapping[str, Any]
) -> None:
    """Check a TensorRT plan by the record that was written when it was built.

    Parameters
    ----------
    folder : Path
        Of the version: the plan, and beside it the record.
    version : str
        Of the network.
    released_sha256 : str
        Digest of the network that the plan must have been built from.
    windows : mapping
        `windows` of the contract: the plan must take just these shapes.

    Raises
    ------
    WeightsError
    """
    plan, remedy = folder / PLAN, "build it on this GPU with 'dlild-export tensorrt'"
    if not plan.is_file():
        raise WeightsError(f"the TensorRT plan is not there: {plan}; {remedy}")
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        built = {name: record[name] for name in ("version", "weights_sha256", "plan_sha256")}
        bounds = [record["windows"][name] for name in ("minimum", "maximum")]
    except (OSError, ValueError, KeyError, TypeError):
        raise WeightsError(
            f"{folder / RECORD} does not say what {PLAN} was built from; {remedy}"
        ) from None
    if UNRELEASED != released_sha256 != built["weights_sha256"]:
        raise WeightsError(
            f"{plan} was built from weights with sha256 {built['weights_sha256']}, version "
            f"{version} was released with {released_sha256}; {remedy}"
        )
    digest = _sha256(plan)
    if str(built["version"]) != version or built["plan_sha256"] != digest:
        raise WeightsError(
            f"{plan} has sha256 {digest} and lies under version {version}; its record is of "
            f"version {built['version']} with {built['plan_sha256']}; {remedy}"
        )
    wanted = [list(windows[name]) for name in ("minimum", "maximum")]
    if bounds != wanted:
        raise WeightsError(
            f"{plan} takes windows of {bounds[0]} to {bounds[1]}, contract.json has {wanted[0]} to "
            f"{wanted[1]}; {remedy}"
        )


def check_version(
    folder: Path,
    engine: str,
    version: str,
    released_sha256: str,
    windows: Mapping[str, Any],
    int8_sha256: str | None = None,
) -> None:
    """Check what an engine loads of one version.

    Parameters
    ----------
    folder : Path
        `ild_unet/<version>` of the model repository.
    engine : str
        Of the profile: `tensorrt` loads the plan, all others the network.
    version, released_sha256, windows
        As of `check_plan`.
    int8_sha256 : str or None
        Digest of the INT8 form of the network, which OpenVINO alone loads; None: it has none.

    Raises
    ------
    WeightsError
    """
    if engine == "tensorrt":
        check_plan(folder, version, released_sha256, windows)
    else:
        check_network(folder / NETWORK, version, released_sha256)
    if engine == "openvino" and int8_sha256:
        check_network(folder / INT8_NETWORK, version, int8_sha256)


def check_repository(repository: Path, profile: str) -> None:
    """Check every version that a model repository serves.

    Parameters
    ----------
    repository : Path
        The folder with `contract.json` and `releases.json`.
    profile : str
        Name of the profile: which engine, and so which files.

    Raises
    ------
    WeightsError
    """
    contract = _document(repository / "contract.json")
    releases = _document(repository / "releases.json")
    try:
        engine = contract["profiles"][profile]["engine"]
        for version in map(str, releases["serving"]):
            check_version(
                repository / "ild_unet" / version,
                engine,
                version,
                releases["releases"][version]["weights_sha256"],
                contract["windows"],
                releases["releases"][version].get("int8_sha256"),
            )
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{repository}: contract.json and releases.json lack {error}") from None


def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read ({type(error).__name__})") from None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def main(arguments: list[str]) -> int:
    """Check a repository from the command line; 1 and one line where something is wrong."""
    repository, profile = arguments
    try:
        check_repository(Path(repository), profile)
    except WeightsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
