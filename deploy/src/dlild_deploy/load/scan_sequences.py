"""The input of perf_analyzer: the windows of real scans, as the client would send them.

On the command line ``python deploy/load/sequences.py SCAN... --out FILE`` writes it for scans of
one's own: DICOM folders or NIfTI files. The file holds their voxels around the lungs: treat it as
the scans themselves.
"""

import argparse
import base64
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlild_client.contract import Contract, parse_contract
from dlild_client.errors import DlildError
from dlild_client.preparation.prepare import PreparedScan, prepare
from dlild_client.reading.read import read_volume

CONTRACT = Path(__file__).resolve().parents[2] / "model_repository" / "contract.json"


def sequence_of(prepared: PreparedScan, contract: Contract) -> list[dict[str, Any]]:
    """Make the steps of one scan.

    Parameters
    ----------
    prepared : PreparedScan
        The scan on the grid, with its windows.
    contract : Contract
        What it was prepared by.

    Returns
    -------
    list of dict
        One step a window: inputs by name, with shape and content, without the batch axis.
    """
    count = len(prepared.plan.origins)
    return [
        {
            "window": {
                "content": {"b64": base64.b64encode(window.astype("<f2").tobytes()).decode()},
                "shape": [1, *window.shape],
            },
            "origin": {"content": list(origin), "shape": [3]},
            "box_shape": {"content": list(prepared.box.shape), "shape": [3]},
            "window_index": {"content": [index], "shape": [1]},
            "window_count": {"content": [count], "shape": [1]},
            "voxel_volume_mm3": {"content": [contract.grid.voxel_volume_mm3], "shape": [1]},
        }
        for index, (origin, window) in enumerate(prepared.windows(contract.hu.padding))
    ]


def write_sequences(scans: Sequence[Path], path: Path) -> list[int]:
    """Write the sequences of some scans.

    Parameters
    ----------
    scans : sequence of Path
        DICOM folders or image files.
    path : Path
        The file.

    Returns
    -------
    list of int
        Windows of each scan.

    Raises
    ------
    DlildError
        A scan cannot be scored.
    """
    contract = parse_contract(CONTRACT.read_text("utf-8"))
    sequences = [sequence_of(prepare(read_volume(scan), contract), contract) for scan in scans]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"data": sequences}), "utf-8")
    return [len(sequence) for sequence in sequences]


def main(arguments: list[str] | None = None) -> int:
    """Write the file and return the exit code: 0 done, 3 a scan cannot be scored."""
    parser = argparse.ArgumentParser(description="Write perf_analyzer's input from scans.")
    parser.add_argument("scans", type=Path, nargs="+", help="DICOM folders, or NIfTI files")
    parser.add_argument("--out", type=Path, default=Path("sequences.json"))
    options = parser.parse_args(arguments)
    try:
        windows = write_sequences(options.scans, options.out)
    except DlildError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"written: {options.out}, {len(windows)} scans of {windows} windows")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
