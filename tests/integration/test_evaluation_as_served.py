"""What the evaluation measures is what the real server answers, voxel by voxel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlild_client.results.result import Result
from dlild_client.volume import Volume
from dlild_export.evaluation import load_served
from dlild_export.evaluation.served import score_volume

pytestmark = pytest.mark.server


@pytest.mark.only("embedded", "the evaluation runs the engine of that profile")
def test_the_evaluation_scores_as_the_server_does(
    scored: Result, volume: Volume, weights: Path
) -> None:
    served = load_served(weights)
    evaluated = score_volume(volume, served.run, served.contract)

    assert served.digest == scored.model.weights_digest.removeprefix("sha256:")
    assert served.engine == f"{scored.model.engine} {scored.model.precision}".replace("f32", "fp32")
    assert evaluated.dl_ild_percent(served.contract) == pytest.approx(
        scored.dl_ild_percent, abs=0.01
    )
    assert np.mean(evaluated.labels != scored.labels.array) < 1e-5
    assert evaluated.windows == scored.windows
