"""The network that computes next to nothing: scores of the soak must still tell scans apart."""

import json

import numpy as np
import pytest
from bench.support.small import small_repository
from bench.support.voxelwise import BORDERS_HU, BY_HU, serve_voxelwise, write_voxelwise

from dlild_client.contract.weights import check_repository
from engine import Engine


@pytest.mark.parametrize("shift", [0.0, 70.0])
def test_the_class_of_a_voxel_follows_from_its_hu(tmp_path, shift):
    write_voxelwise(tmp_path / "model.onnx", shift)
    hu = np.array([-1024.0, *BORDERS_HU, 2047.0], np.float16)
    between = (hu[1:] + hu[:-1]) / 2 + shift
    window = np.broadcast_to(between.astype(np.float16), (1, 1, 8, 8, len(BY_HU)))
    found = Engine(tmp_path / "model.onnx").infer(window)
    assert found.dtype == np.float16
    assert np.allclose(found.sum(axis=1), 1, atol=2e-3)
    assert (found[0].argmax(axis=0) == BY_HU).all()


def test_a_repository_serves_it_in_every_version_as_if_it_were_released(tmp_path):
    repository = small_repository(tmp_path)
    serve_voxelwise(repository)
    check_repository(repository, "embedded")
    releases = json.loads((repository / "releases.json").read_text("utf-8"))["releases"]
    held = {folder.name for folder in (repository / "ild_unet").glob("[0-9]*")}
    assert len(held) > 1
    assert len({releases[version]["weights_sha256"] for version in held}) == len(held)
