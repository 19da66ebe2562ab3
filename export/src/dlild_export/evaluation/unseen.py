"""Which cases a network has been trained on: they prove nothing and are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlild_client.errors import InputError
from dlild_export.evaluation.cases import StoredCase
from dlild_export.serving.onnx import CHECKPOINT


@dataclass(frozen=True)
class Unseen:
    """Cases that the network has not been trained on.

    Attributes
    ----------
    cases : tuple of StoredCase
    trained_on : int or None
        Cases left out because they were trained on; None where the weights do not tell.
    """

    cases: tuple[StoredCase, ...]
    trained_on: int | None

    def describe(self, dataset: str) -> str:
        """Say in words which cases of a dataset these are."""
        count = f"{len(self.cases)} scan{'s' if len(self.cases) != 1 else ''} of {dataset}"
        if self.trained_on is None:
            return f"{count}; the weights do not tell whether they were trained on these"
        return f"{count}; {self.trained_on} more were trained on and left out"


def trained_cases(weights: Path) -> frozenset[str] | None:
    """Return the names of the cases that a run was trained on.

    Parameters
    ----------
    weights : pathlib.Path
        Run, checkpoint, or an ONNX file that may lie beside its checkpoint.

    Returns
    -------
    frozenset of str, or None
        None where there is no checkpoint, or it does not say.
    """
    checkpoint = weights / CHECKPOINT if weights.is_dir() else weights
    if checkpoint.suffix == ".onnx":
        checkpoint = checkpoint.with_name(CHECKPOINT)
    if not checkpoint.is_file():
        return None
    import torch  # noqa: PLC0415

    stored = torch.load(checkpoint, map_location="cpu", weights_only=True)
    names = stored.get("cases")
    return None if names is None else frozenset(str(name) for name in names)


def only_unseen(cases: Sequence[StoredCase], trained: frozenset[str] | None) -> Unseen:
    """Leave out the cases that were trained on.

    Parameters
    ----------
    cases : sequence of StoredCase
    trained : frozenset of str or None
        From `trained_cases`.

    Returns
    -------
    Unseen

    Raises
    ------
    InputError
        None is left.
    """
    if trained is None:
        return Unseen(tuple(cases), None)
    left = tuple(case for case in cases if case.name not in trained)
    if not left:
        raise InputError(
            f"all {len(cases)} cases were trained on: evaluate on others, hold some out of the "
            "training, or give --with-trained"
        )
    return Unseen(left, len(cases) - len(left))


def refuse_trained(names: Sequence[str], trained: frozenset[str] | None) -> None:
    """Refuse phantoms that a network has been trained on.

    Raises
    ------
    InputError
        With the first of them.
    """
    seen = [name for name in names if trained and name in trained]
    if seen:
        raise InputError(
            f"{len(seen)} of the phantoms were trained on ({seen[0]} is one): give another "
            "--first-seed"
        )
