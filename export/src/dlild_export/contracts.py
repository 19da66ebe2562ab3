"""The contract that data are prepared for."""

from __future__ import annotations

from pathlib import Path

from dlild_client.contract import Contract, parse_contract
from dlild_client.errors import UnreadableFileError

_CHECKOUT = Path(__file__).resolve().parents[3] / "model_repository"


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
    places = [Path("model_repository"), _CHECKOUT] if repository is None else [repository]
    for place in places:
        path = place / "contract.json"
        if path.is_file():
            return parse_contract(path.read_text(encoding="utf-8"))
    raise UnreadableFileError(
        f"{places[0].name}: no contract.json in it; name the model repository with --repository"
    )
