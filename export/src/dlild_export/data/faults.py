"""What can be wrong with a dataset: every kind by name, and the error that refuses it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from dlild_client.errors import InputError


class Kind(StrEnum):
    """Kinds of faults; the text is what `dlild-export check --json` calls them."""

    DATASET = "dataset"  # dataset.json, groups.csv or splits_final.json is missing or wrong
    PAIR = "pair"  # an image without labels, labels without an image
    UNREADABLE = "unreadable"  # truncated, corrupt, or not what its name says
    NOT_A_CHEST = "not_a_chest"  # the client would refuse this scan
    NOT_FINITE = "not_finite"  # NaN or infinity among the voxels
    NOT_HU = "not_hu"  # grey values, but not HU
    GEOMETRY = "geometry"  # image and labels do not lie on the same voxels
    UNKNOWN_LABEL = "unknown_label"  # a label name or value that means none of the classes
    NOT_A_LABEL = "not_a_label"  # values that are not whole numbers
    OVERLAP = "overlap"  # segments of two lesion classes in the same voxels
    EMPTY = "empty"  # no lung is labelled
    FLIPPED = "flipped"  # labels or scan turned round
    MISPLACED = "misplaced"  # labels do not lie where the lungs are
    LESION_OUTSIDE = "lesion_outside_lung"
    DUPLICATE = "duplicate"  # the same scan twice
    STRADDLING = "straddling"  # one patient in training and in validation or test


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes
    ----------
    kind : Kind
    where : str
        The file, relative to the dataset's folder.
    reason : str
        What is wrong, with the value, and what to do.
    case : str or None
        Name of the case that it spoils; None where it concerns the whole dataset.
    """

    kind: Kind
    where: str
    reason: str
    case: str | None = None

    def __str__(self) -> str:
        """Return one line: file, reason."""
        return f"{self.where}: {self.reason}"


class DatasetError(InputError, ValueError):
    """A dataset that cannot be trained on.

    Attributes
    ----------
    faults : tuple of Fault
        Everything that was found; the message reports the first.
    """

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        more = len(self.faults) - 1
        rest = f" (and {more} more: `dlild-export check` lists all)" if more > 0 else ""
        super().__init__(f"{self.faults[0]}{rest}")


def refuse(kind: Kind, where: str, reason: str, case: str | None = None) -> DatasetError:
    """Make the error of a single fault."""
    return DatasetError([Fault(kind, where, reason, case)])
