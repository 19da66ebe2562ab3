"""A new version in the model repository: checked, prepared beside, put in place at once."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dlild_client.contract import Release, Releases
from dlild_client.contract.schema import LARGEST_CLASS
from dlild_client.contract.weights import INT8_NETWORK
from dlild_export.data.contracts import CONTRACT, RELEASES
from dlild_export.data.digest import sha256
from dlild_export.release.changes import Changes, changes_beside
from dlild_export.release.evaluation_file import EvaluationFile
from dlild_export.release.model_card import (
    EMPTY_CARD,
    NOT_ON_A_GPU,
    RunRecord,
    evaluation_part,
    fill,
    parity_part,
    training_part,
    version_part,
)
from dlild_export.serving.config_text import Documents
from dlild_export.serving.configs import (
    MODELS,
    read_documents,
    render_all,
)
from dlild_export.serving.onnx import WEIGHTS
from dlild_export.serving.parity import Parity

LARGEST_BYTES = 10_000_000
"""Most bytes of a version's weights: every version stays in the history for good."""

NETWORK = "ild_unet"


class ReleaseError(RuntimeError):
    """These weights are not released; the message says why."""


@dataclass(frozen=True)
class Candidate:
    """Weights that want to become a version.

    Attributes
    ----------
    weights : pathlib.Path
        The ONNX file.
    evaluation : EvaluationFile
        Of these weights.
    run : RunRecord
        How they were made.
    notes : str
        What the card says of the data, in Markdown.
    below_floor : str or None
        Why they are released although the evaluation misses targets.
    """

    weights: Path
    evaluation: EvaluationFile
    run: RunRecord
    notes: str = ""
    below_floor: str | None = None


def check_candidate(candidate: Candidate, repository: Path) -> str:
    """Refuse what must not be released, as far as is known before the parity gate.

    Parameters
    ----------
    candidate : Candidate
    repository : pathlib.Path
        Model repository.

    Returns
    -------
    str
        Digest of the weights.

    Raises
    ------
    ReleaseError
        Other weights were evaluated, a target is missed, the weights are released already or too
        large.
    """
    digest = sha256(candidate.weights)
    evaluation = candidate.evaluation
    if evaluation.weights_sha256 != digest:
        raise ReleaseError(
            f"the evaluation is of weights {evaluation.weights_sha256}, these are {digest}: "
            "evaluate these"
        )
    for version, released in read_documents(repository).releases.releases.items():
        if released.weights_sha256 == digest:
            raise ReleaseError(f"these weights are version {version} already")
    size = candidate.weights.stat().st_size
    if size > LARGEST_BYTES:
        raise ReleaseError(
            f"{candidate.weights} has {size} bytes, a version has at most {LARGEST_BYTES}: train a "
            "smaller network"
        )
    if evaluation.missed and candidate.below_floor is None:
        named = "; ".join(map(str, evaluation.missed))
        raise ReleaseError(f"below the floor: {named}")
    if candidate.below_floor is not None and not candidate.below_floor.strip():
        raise ReleaseError("a release below the floor needs a reason")
    return digest


def release(
    candidate: Candidate,
    parity: Parity,
    repository: Path,
    card: Path,
    *,
    keep_previous: bool = False,
) -> int:
    """Add a version, and let the repository answer with it.

    Parameters
    ----------
    candidate : Candidate
    parity : Parity
        Of the same weights.
    repository : pathlib.Path
        Model repository.
    card : pathlib.Path
        Model card; written anew where there is none.
    keep_previous : bool
        Keep the former network loaded as well, for a change while scans run.

    Returns
    -------
    int
        Number of the version.

    Raises
    ------
    ReleaseError
        See `check_candidate`; or the parity gate is not passed. Nothing is changed.
    OSError
        What the file system says. Nothing is changed.
    """
    digest = check_candidate(candidate, repository)
    if parity.weights_sha256 != digest:
        raise ReleaseError(f"the parity figures are of weights {parity.weights_sha256}")
    if not parity.passes:
        raise ReleaseError("; ".join(parity.failures()) or "no scan went through the parity gate")
    documents = read_documents(repository)
    former = documents.contract.model.version
    version = _next_version(repository, documents.releases)
    below = None
    if candidate.evaluation.missed and candidate.below_floor:
        below = " ".join(candidate.below_floor.split())
    labels = documents.contract.score.labels
    entry = Release(
        digest,
        datetime.now(UTC).date().isoformat(),
        below,
        None if labels == LARGEST_CLASS else labels,
    )
    releases = Releases(
        (former, version) if keep_previous else (version,),
        {**documents.releases.releases, version: entry},
    )
    parts = {
        "version": version_part(version, digest, below),
        "training": training_part(candidate.run, candidate.notes),
        "evaluation": evaluation_part(candidate.evaluation),
        "parity": parity_part(parity),
        "tensorrt": NOT_ON_A_GPU,
    }
    page = fill(card.read_text("utf-8") if card.is_file() else EMPTY_CARD, parts)
    with changes_beside(repository) as changes:
        _add_folders(changes, repository, former, version, candidate.weights)
        _point_to(changes, repository, replace(documents, releases=releases), version)
        changes.write(card, page)
        changes.apply()
    return version


def serve(repository: Path, version: int, also: tuple[int, ...] = ()) -> None:
    """Let the repository answer with a version that was released: forth, or back.

    Parameters
    ----------
    repository : pathlib.Path
        Model repository.
    version : int
        To answer with.
    also : tuple of int
        Further versions to keep loaded.

    Raises
    ------
    ReleaseError
        A version was never released, or its weights are not those that were. Nothing is changed.
    OSError
        What the file system says. Nothing is changed.
    """
    documents = read_documents(repository)
    releases = documents.releases.releases
    serving = tuple(sorted({version, *also}))
    for number in serving:
        if number not in releases:
            have = ", ".join(map(str, sorted(releases)))
            raise ReleaseError(f"version {number} was never released, only {have}")
        weights = repository / NETWORK / str(number) / WEIGHTS
        if not weights.is_file() or sha256(weights) != releases[number].weights_sha256:
            raise ReleaseError(f"{weights} is not the file that was released: restore it")
        quantised, digest = weights.with_name(INT8_NETWORK), releases[number].int8_sha256
        if digest and (not quantised.is_file() or sha256(quantised) != digest):
            raise ReleaseError(f"{quantised} is not the file that was released: restore it")
    with changes_beside(repository) as changes:
        _point_to(
            changes, repository, replace(documents, releases=Releases(serving, releases)), version
        )
        changes.apply()


def add_int8(repository: Path, weights: Path, quantised: Path) -> int:
    """Add the INT8 form of a network to the version that has these weights.

    Parameters
    ----------
    repository : pathlib.Path
        Model repository.
    weights, quantised : pathlib.Path
        The ONNX file, and its INT8 form, which has passed its gate.

    Returns
    -------
    int
        Number of the version.

    Raises
    ------
    ReleaseError
        No version has these weights, or both files together are too large. Nothing is changed.
    OSError
        What the file system says. Nothing is changed.
    """
    documents = read_documents(repository)
    releases, digest = documents.releases, sha256(weights)
    found = [n for n, r in releases.releases.items() if r.weights_sha256 == digest]
    if not found:
        raise ReleaseError(f"{weights} is of no released version (sha256 {digest}): release it")
    size = weights.stat().st_size + quantised.stat().st_size
    if size > LARGEST_BYTES:
        raise ReleaseError(
            f"{weights} and {quantised} have {size} bytes, a version has at most {LARGEST_BYTES}"
        )
    (version,) = found
    entry = replace(releases.releases[version], int8_sha256=sha256(quantised))
    documents = replace(
        documents, releases=replace(releases, releases={**releases.releases, version: entry})
    )
    with changes_beside(repository) as changes:
        changes.copy(quantised, repository / NETWORK / str(version) / INT8_NETWORK)
        _point_to(changes, repository, documents, documents.contract.model.version)
        changes.apply()
    return version


def _next_version(repository: Path, releases: Releases) -> int:
    """One more than every version that was ever released or has a folder."""
    folders = {path.name for model in MODELS for path in (repository / model).glob("[0-9]*")}
    known = {int(name) for name in folders if name.isdecimal()} | releases.releases.keys()
    return 1 + max(known)


def _add_folders(
    changes: Changes, repository: Path, former: int, version: int, weights: Path
) -> None:
    """Give every model its folder: the former one's glue, and the network its weights."""
    for model in MODELS:
        folder = changes.add_folder(repository / model / str(version))
        for name in ("model.py", ".gitkeep"):
            glue = repository / model / str(former) / name
            if glue.is_file():
                shutil.copyfile(glue, folder / name)
        if model == NETWORK:
            shutil.copyfile(weights, folder / WEIGHTS)


def _point_to(changes: Changes, repository: Path, documents: Documents, version: int) -> None:
    """Write configurations and documents that answer with a version.

    The contract comes last: where the machine dies in between, `make configs` leads back.
    """
    released = documents.releases.releases[version]
    contract = documents.contract
    model = replace(contract.model, version=version, weights_sha256=released.weights_sha256)
    # Each version labels as it was evaluated: its scores stay what they were after a rollback. The
    # repeatability of a new version is measured after its release (`dlild-export repeatability`).
    score = replace(
        contract.score,
        labels=released.labels or LARGEST_CLASS,
        repeatability=released.repeatability,
    )
    documents = replace(documents, contract=replace(contract, model=model, score=score))
    for name, config in render_all(documents).items():
        changes.write(repository / name, config)
    changes.write(repository / RELEASES, documents.releases.to_json())
    text = (repository / CONTRACT).read_text("utf-8")
    text = replace_field(text, "model", asdict(model))
    changes.write(repository / CONTRACT, replace_field(text, "score", asdict(score)))


def replace_field(text: str, name: str, value: Mapping[str, Any]) -> str:
    """Replace a field of a contract's text, and leave the rest as it was written.

    Parameters
    ----------
    text : str
        JSON, written by hand.
    name : str
        A field at the start of a line.
    value : mapping
        New value.

    Returns
    -------
    str

    Raises
    ------
    ReleaseError
        The text holds no such field where it is looked for.
    """
    found = re.search(rf'^  "{name}":\s*', text, flags=re.MULTILINE)
    if found is None:
        raise ReleaseError(f'contract.json has no field "{name}" at the start of a line')
    _, end = json.JSONDecoder().raw_decode(text, found.end())
    body = json.dumps(value, indent=2).replace("\n", "\n  ")
    changed = text[: found.end()] + body + text[end:]
    assert json.loads(changed)[name] == value
    return changed
