"""What the evaluation measures is what the real server answers, voxel by voxel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlild_client import Client, read_volume
from dlild_export.evaluation import load_served
from dlild_export.evaluation.score import score_volume
from launcher import EmbeddedServer

pytestmark = pytest.mark.server


def test_the_evaluation_scores_as_the_server_does(
    embedded_server: EmbeddedServer, patient: Path, weights: Path
) -> None:
    volume = read_volume(patient)
    with Client(embedded_server.grpc_url) as client:
        result = client.score(volume)

    served = load_served(weights)
    scored = score_volume(volume, served.run, served.contract)

    assert served.digest == result.model.weights_digest.removeprefix("sha256:")
    assert served.engine == f"{result.model.engine} {result.model.precision}".replace("f32", "fp32")
    assert scored.dl_ild_percent(served.contract) == pytest.approx(result.dl_ild_percent, abs=0.01)
    assert np.mean(scored.labels != result.labels.array) < 1e-5
    assert scored.windows == result.windows
