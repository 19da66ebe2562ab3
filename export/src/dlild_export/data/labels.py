"""Labels of a dataset, by their names, to the classes of the contract.

A name is compared without regard to case, spaces, hyphens and underscores. Known are the
contract's own names, titles and code meanings, and the synonyms below. Whatever else there is must
be mapped by hand, in `label_map.csv` beside the dataset (columns `theirs,ours`) or for one command
with `--map "their name=our name"`: a guess would be a wrong label without a word.

==============  ================================================================================
class           also known as
==============  ================================================================================
background      clear label, none, outside, outside the lungs
lung            lungs, healthy lung, normal lung, normal parenchyma, lung parenchyma, healthy,
                normal, left or right lung, lobes (right upper lobe, lung lower lobe left, …)
ground_glass    GGO, ground glass (opacity, opacities, opacification, attenuation), groundglass
reticulation    reticular (pattern, opacity, opacities, abnormality), reticulations
honeycombing    honeycomb, honeycomb pattern, honeycombs, honeycomb cysts
consolidation   consolidations, lung consolidation, air space consolidation
ignore (255)    ignore, ignore label, unlabelled: voxels that no loss and no figure looks at
==============  ================================================================================

A dataset may give several names to one class. Emphysema, nodules, vessels, airways, effusion: none
of them is a class of its own here; map them to `lung`, `background` or `ignore`, as they are meant.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlild_client.contract import Contract
from dlild_export.data.faults import DatasetError, Fault, Kind, refuse

IGNORE = 255
"""Label of voxels of which nothing is known: no loss, no figure looks at them."""

_GROUND_GLASS = ("opacity", "opacities", "opacification", "opacifications", "attenuation")
_LOBES = [
    text
    for side, part in (
        ("right", "upper"),
        ("right", "middle"),
        ("right", "lower"),
        ("left", "upper"),
        ("left", "lower"),
    )
    for text in (f"{side} {part} lobe", f"{part} lobe {side}", f"lung {part} lobe {side}")
]
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "background": ("clear label", "none", "outside", "outside the lungs"),
    "lung": (
        "lungs",
        "healthy lung",
        "healthy lungs",
        "normal lung",
        "normal lungs",
        "normal parenchyma",
        "lung parenchyma",
        "normal lung parenchyma",
        "healthy",
        "normal",
        "left lung",
        "right lung",
        "lung left",
        "lung right",
        *_LOBES,
    ),
    "ground_glass": (
        "ggo",
        "ggos",
        "groundglass",
        "ground glass",
        *(f"{a} {b}" for a in ("groundglass", "ground glass") for b in _GROUND_GLASS),
    ),
    "reticulation": (
        "reticular",
        "reticulations",
        "reticular pattern",
        "reticular opacity",
        "reticular opacities",
        "reticular abnormality",
    ),
    "honeycombing": ("honeycomb", "honeycombs", "honeycomb pattern", "honeycomb cysts"),
    "consolidation": (
        "consolidations",
        "lung consolidation",
        "air space consolidation",
        "airspace consolidation",
    ),
}
_IGNORED = ("ignore", "ignore label", "ignored", "unlabelled", "unlabeled")


def plain(name: str) -> str:
    """Return a name as it is compared: lower case, words parted by one space."""
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()


def known_names(contract: Contract) -> dict[str, int]:
    """Return every name that is known, as `plain` writes it, with its class or `IGNORE`."""
    known = dict.fromkeys(_IGNORED, IGNORE)
    for kind in contract.classes:
        meaning = () if kind.code is None else (kind.code.meaning,)
        for name in (kind.name, kind.title, *meaning, *_SYNONYMS.get(kind.name, ())):
            known[plain(name)] = kind.label
    return known


@dataclass(frozen=True)
class LabelMap:
    """Which class each value of a dataset's label files means.

    Attributes
    ----------
    values : mapping of int to int
        Value in the files to label of the contract, or `IGNORE`.
    """

    values: Mapping[int, int]

    def unknown(self, present: Iterable[int]) -> list[int]:
        """Return those of the values present that mean nothing here, in order."""
        return sorted(int(v) for v in present if int(v) not in self.values)

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Turn a dataset's values into the contract's labels.

        Parameters
        ----------
        array : ndarray of int, shape (z, y, x)
            Values, all of them known.

        Returns
        -------
        ndarray of uint8, shape (z, y, x)
        """
        low, high = int(array.min()), int(array.max())
        table = np.full(high - low + 1, IGNORE, np.uint8)
        for value, label in self.values.items():
            if low <= value <= high:
                table[value - low] = label
        labels = np.empty(array.shape, np.uint8)
        # Slice by slice: an index of a whole scan is eight times as large as its labels.
        for plane, out in zip(array, labels, strict=True):
            out[...] = table[plane.astype(np.int64) - low]
        return labels


def map_labels(
    names: Mapping[str, int],
    contract: Contract,
    overrides: Mapping[str, str] | None = None,
    *,
    where: str = "dataset.json",
) -> LabelMap:
    """Map a dataset's labels to the contract's classes, by their names.

    Parameters
    ----------
    names : mapping of str to int
        The dataset's label names, and their values in its files.
    contract : Contract
        The classes.
    overrides : mapping of str to str, optional
        Their name to our name (or `ignore`); it wins over what is known.
    where : str
        File that the names come from, for messages.

    Returns
    -------
    LabelMap
        0 means background where no name is given to it.

    Raises
    ------
    DatasetError
        With every name that is unknown, and every override that fits nothing.
    """
    known = known_names(contract)
    chosen, faults = _read_overrides(overrides or {}, known, where)
    used = set()
    values: dict[int, int] = {}
    for name, value in names.items():
        label = chosen.get(plain(name), known.get(plain(name)))
        used.add(plain(name))
        if label is None:
            faults.append(Fault(Kind.UNKNOWN_LABEL, where, unknown_name(name, contract)))
        elif values.setdefault(value, label) != label:
            reason = f"value {value} has two names of different classes, one of them {name!r}"
            faults.append(Fault(Kind.UNKNOWN_LABEL, where, reason))
    for name in overrides or {}:
        if plain(name) not in used:
            theirs = ", ".join(names)
            reason = f"a label {name!r} is mapped, but the dataset has {theirs}"
            faults.append(Fault(Kind.UNKNOWN_LABEL, where, reason))
    if faults:
        raise DatasetError(faults)
    values.setdefault(0, 0)
    return LabelMap(values)


def unknown_name(name: str, contract: Contract) -> str:
    """Say that a label's name is unknown, and what to do about it."""
    ours = ", ".join(c.name for c in contract.classes)
    return (
        f"the label {name!r} is none of {ours}; say what it means with "
        f'--map "{name}=…" (a class, or ignore) or in label_map.csv (theirs,ours)'
    )


def map_by_hand(name: str, contract: Contract, overrides: Mapping[str, str]) -> int | None:
    """Return the class that an override gives to a name, None where there is none for it."""
    chosen, faults = _read_overrides(overrides, known_names(contract), "--map")
    if faults:
        raise DatasetError(faults)
    return chosen.get(plain(name))


def _read_overrides(
    overrides: Mapping[str, str], known: Mapping[str, int], where: str
) -> tuple[dict[str, int], list[Fault]]:
    chosen, faults = {}, []
    for theirs, ours in overrides.items():
        label = known.get(plain(ours))
        if label is None:
            reason = f"{theirs!r} is mapped to {ours!r}, which is no class of the contract"
            faults.append(Fault(Kind.UNKNOWN_LABEL, where, reason))
        else:
            chosen[plain(theirs)] = label
    return chosen, faults


def parse_overrides(texts: Iterable[str]) -> dict[str, str]:
    """Read `their name=our name` texts.

    Raises
    ------
    ValueError
        A text without `=`, or with nothing on one side of it.
    """
    overrides = {}
    for text in texts:
        theirs, sign, ours = text.rpartition("=")
        if not sign or not theirs.strip() or not ours.strip():
            raise ValueError(f'{text!r} is not of the form "their name=our name"')
        overrides[theirs.strip()] = ours.strip()
    return overrides


def read_label_map(folder: Path) -> dict[str, str]:
    """Read `label_map.csv` of a dataset: their names to ours; empty where there is none.

    Raises
    ------
    DatasetError
        The file is not a table with the columns `theirs,ours`.
    """
    path = folder / "label_map.csv"
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return {row["theirs"].strip(): row["ours"].strip() for row in csv.DictReader(file)}
    except (KeyError, AttributeError, ValueError, csv.Error):
        reason = "not a table with the columns theirs,ours"
        raise refuse(Kind.UNKNOWN_LABEL, path.name, reason) from None
