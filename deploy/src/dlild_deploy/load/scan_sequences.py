"""The input file of perf_analyzer: the windows of real scans, as the client would send them.

`dlild-deploy sequences` writes it for DICOM folders or image files. It holds the voxels around the
lungs: treat it as the scans themselves.
"""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlild_client.contract import Contract, parse_contract
from dlild_client.preparation.prepare import PreparedScan, prepare
from dlild_client.reading.read import read_volume
from dlild_deploy.checkout import MODEL_REPOSITORY

CONTRACT = MODEL_REPOSITORY / "contract.json"


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
