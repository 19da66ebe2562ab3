"""Whole scans to hold engines against each other on: phantoms, and real ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dlild_client.contract import Contract
from dlild_client.preparation.grid import to_grid
from dlild_client.reading.read import read_volume
from dlild_client.volume import Volume

DEFAULT_SEEDS = (9_000_000, 9_000_001, 9_000_002)
"""Phantoms that no training and no evaluation uses."""


def gather_scans(
    phantoms: Iterable[int], folders: Iterable[Path], contract: Contract
) -> dict[str, Volume]:
    """Make phantoms and read real scans, on the model grid.

    Parameters
    ----------
    phantoms : iterable of int
        Seeds.
    folders : iterable of pathlib.Path
        DICOM folders or image files.
    contract : Contract
        Grid.

    Returns
    -------
    dict of str to Volume
        By a name that leads to no patient: the seed, or the start of the scan's digest.

    Raises
    ------
    InputError
        A folder without a chest CT.
    """
    from dlild_export.phantom import make_phantom, random_spec  # noqa: PLC0415

    scans = {}
    for seed in phantoms:
        phantom = make_phantom(random_spec(seed))
        spacing = (phantom.spacing_mm, phantom.spacing_mm, phantom.spacing_mm)
        scans[f"phantom {seed}"] = to_grid(Volume(phantom.hu, spacing), contract)
    for folder in folders:
        volume = read_volume(folder)
        digest = (volume.series.digest or "").removeprefix("sha256:")
        scans[f"scan {digest[:8]}"] = to_grid(volume, contract)
    return scans
