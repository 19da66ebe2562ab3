"""The documents of a model repository: contract, limits, releases."""

from __future__ import annotations

from pathlib import Path

from dlild_client.contract import (
    Contract,
    Releases,
    ServerLimits,
    parse_contract,
    parse_limits,
    parse_releases,
)
from dlild_client.errors import UnreadableFileError

CONTRACT, LIMITS, RELEASES = "contract.json", "limits.json", "releases.json"
_CHECKOUT = Path(__file__).resolve().parents[4] / "model_repository"


def find_contract(repository: Path | None = None) -> Contract:
    """Read the contract of a model repository.

    Parameters
    ----------
    repository : Path, optional
        Folder with `contract.json`; `model_repository` here, or of the checkout that this package
        runs from, when left out.

    Returns
    -------
    Contract

    Raises
    ------
    UnreadableFileError
        There is none.
    ContractError
        It is not one that this package understands.
    """
    folders = [Path("model_repository"), _CHECKOUT] if repository is None else [repository]
    for folder in folders:
        if (folder / CONTRACT).is_file():
            return read_contract(folder)
    raise UnreadableFileError(
        f"{folders[0].name}: no contract.json in it; name the model repository with --repository"
    )


def read_contract(repository: Path) -> Contract:
    """Read `contract.json` of a model repository; raises OSError or `ContractError`."""
    return parse_contract((repository / CONTRACT).read_text(encoding="utf-8"))


def read_limits(repository: Path) -> ServerLimits:
    """Read `limits.json` of a model repository; raises OSError or `ContractError`."""
    return parse_limits((repository / LIMITS).read_text(encoding="utf-8"))


def read_releases(repository: Path) -> Releases:
    """Read `releases.json` of a model repository; raises OSError or `ContractError`."""
    return parse_releases((repository / RELEASES).read_text(encoding="utf-8"))
