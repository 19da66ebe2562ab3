import json
import math
import shutil
from dataclasses import asdict, replace

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from dlild_client.contract import Release, Releases, parse_contract
from dlild_client.errors import ContractError
from dlild_export.serving.configs import (
    MODELS,
    SHARED_MODULES,
    drift,
    main,
    read_documents,
    render_all,
    write_configs,
)

DIMENSIONS_FREE = -1


@pytest.fixture(scope="module")
def documents(repository):
    return read_documents(repository)


@pytest.fixture(scope="module")
def contract(documents):
    return documents.contract


@pytest.fixture(scope="module")
def configs(documents):
    """Every rendered configuration, parsed, by path."""
    return {
        name: text_format.Parse(text, model_config_pb2.ModelConfig())
        for name, text in render_all(documents).items()
    }


@pytest.fixture
def copied(repository, tmp_path):
    """A repository of configurations that a test may spoil."""
    for name in ("contract.json", "limits.json", "releases.json"):
        shutil.copy(repository / name, tmp_path)
    write_configs(tmp_path)
    return tmp_path


def test_the_repository_has_not_drifted(repository):
    assert drift(repository) == [], "run `make configs`"


def test_every_model_has_every_profile_and_the_embedded_one_by_default(documents):
    texts = render_all(documents)
    for model in MODELS:
        for profile in documents.contract.profiles:
            assert f"{model}/configs/{profile}.pbtxt" in texts
        assert texts[f"{model}/config.pbtxt"] == texts[f"{model}/configs/embedded.pbtxt"]


def test_every_config_names_its_model_and_profile(configs):
    for name, config in configs.items():
        model, *_, file = name.split("/")
        profile = "embedded" if file == "config.pbtxt" else file.removesuffix(".pbtxt")
        assert config.name == model
        assert config.parameters["profile"].string_value == profile
        assert config.max_batch_size == 1


def test_clients_get_the_whole_contract(configs, contract):
    for profile in contract.profiles:
        carried = configs[f"dlild/configs/{profile}.pbtxt"].parameters["contract"].string_value
        assert parse_contract(carried) == contract


def test_no_configuration_carries_the_reasons_of_a_release(configs, documents):
    reasons = [r.below_floor for r in documents.releases.releases.values() if r.below_floor]
    for config in configs.values():
        for parameter in config.parameters.values():
            assert "below_floor" not in parameter.string_value
            assert not any(reason in parameter.string_value for reason in reasons)


def test_the_network_knows_the_digests_of_what_it_serves(configs, documents):
    digests = configs["ild_unet/config.pbtxt"].parameters["weights_sha256"].string_value
    assert json.loads(digests) == {
        str(number): documents.releases.releases[number].weights_sha256
        for number in documents.releases.serving
    }


def test_only_the_embedded_profile_names_its_engine(configs, contract):
    for profile in contract.profiles:
        outputs = {tensor.name for tensor in configs[f"dlild/configs/{profile}.pbtxt"].output}
        assert ("engine" in outputs) == (profile == "embedded")


def test_an_answer_is_of_one_version_from_end_to_end(configs, documents):
    version = documents.contract.model.version
    for name, config in configs.items():
        loaded = list(config.version_policy.specific.versions)
        if config.name in {"dlild", "dlild_volume"}:
            assert loaded == [version], name
        else:
            assert loaded == sorted(documents.releases.serving), name


def versions_of(documents, version, digest, serving, releases):
    """The documents with other versions."""
    model = replace(documents.contract.model, version=version, weights_sha256=digest)
    return replace(
        documents,
        contract=replace(documents.contract, model=model),
        releases=Releases(serving, releases),
    )


def test_two_versions_may_be_loaded_while_one_answers(documents):
    repeatability = documents.contract.score.repeatability
    second = Release("2" * 64, repeatability=repeatability)
    releases = {**documents.releases.releases, 2: second}
    texts = render_all(versions_of(documents, 2, "2" * 64, (2, 1), releases))
    assert "versions: [1, 2]" in texts["ild_unet/config.pbtxt"]
    assert "versions: [2]" in texts["dlild/config.pbtxt"]


@pytest.mark.parametrize(
    ("serving", "digest", "message"),
    [
        ((7,), "1" * 64, r"serves versions \[7\], and contract.json answers with 1"),
        ((1, 7), "1" * 64, r"serves versions \[7\], which were never released"),
        ((1,), "0" * 64, "give version 1 two different weights_sha256"),
    ],
)
def test_versions_that_do_not_add_up_are_refused(documents, serving, digest, message):
    releases = {1: Release("1" * 64)}
    with pytest.raises(ValueError, match=message):
        render_all(versions_of(documents, 1, digest, serving, releases))


def test_classes_that_the_code_does_not_know_are_refused(documents):
    classes = (*documents.contract.classes[:5], replace(documents.contract.classes[5], name="fog"))
    other = replace(documents, contract=replace(documents.contract, classes=classes))
    with pytest.raises(ValueError, match="FOG"):
        render_all(other)


def test_scans_are_admitted_by_one_model_and_wait_in_no_queue_of_tritons(configs, documents):
    for profile in documents.contract.profiles:
        scans = configs[f"dlild/configs/{profile}.pbtxt"]
        assert sum(group.count for group in scans.instance_group) == 1
        assert scans.WhichOneof("scheduling_choice") is None
        limits = json.loads(scans.parameters["limits"].string_value)
        assert limits == asdict(documents.limits)
        version = str(documents.contract.model.version)
        assert json.loads(scans.parameters["weights_sha256"].string_value) == {
            version: documents.contract.model.weights_sha256
        }


def test_the_queue_of_the_network_is_bounded_in_number_and_time(configs, documents):
    for profile in documents.contract.profiles:
        queue = configs[f"ild_unet/configs/{profile}.pbtxt"].dynamic_batching.default_queue_policy
        assert 1 <= queue.max_queue_size <= 16
        assert queue.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
        assert 0 < queue.default_timeout_microseconds <= 60_000_000


def test_options_of_onnx_runtime_are_parameters_of_the_model(configs):
    config = configs["ild_unet/configs/onnxruntime.pbtxt"]
    options = {name: value.string_value for name, value in config.parameters.items()}
    assert options["enable_mem_pattern"] == "0"
    assert options["cudnn_conv_algo_search"] == "1"  # by rules, not by trying all
    assert options["arena_extend_strategy"] == "1"  # as much as is asked for
    assert not config.HasField("optimization")


def test_the_network_is_warmed_up_with_a_window_that_it_takes(configs, contract):
    for profile in contract.profiles:
        config = configs[f"ild_unet/configs/{profile}.pbtxt"]
        warmed = [list(sample.inputs["window"].dims) for sample in config.model_warmup]
        windows = contract.windows
        (channels, *shape) = warmed[0]
        assert (len(warmed), channels) == (1, 1)
        assert all(edge % windows.multiple == 0 for edge in shape)
        assert all(edge <= most for edge, most in zip(shape, windows.maximum, strict=True))
        assert windows.maximum_voxels / 2 < math.prod(shape) <= windows.maximum_voxels
        for sample in config.model_warmup:
            assert sample.batch_size == 1
            assert sample.inputs["window"].data_type == config.input[0].data_type


@pytest.fixture(scope="module")
def signature(repository):
    """What the backend of the onnxruntime profile reads off the served file: name to dims."""
    networks = sorted((repository / "ild_unet").glob("[0-9]*/model.onnx"))
    if not networks:
        pytest.skip("model_repository/ild_unet has no model.onnx")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is an extra of training")
    session = runtime.InferenceSession(str(networks[-1]), providers=["CPUExecutionProvider"])
    ends = (*session.get_inputs(), *session.get_outputs())
    assert all(end.type == "tensor(float16)" for end in ends)
    return {
        end.name: [axis if isinstance(axis, int) else DIMENSIONS_FREE for axis in end.shape]
        for end in ends
    }


def test_every_profile_of_the_network_has_the_files_signature(signature, configs, contract):
    for profile, spec in contract.profiles.items():
        config = configs[f"ild_unet/configs/{profile}.pbtxt"]
        declared = {tensor.name: tensor for tensor in (*config.input, *config.output)}
        engine = declared.pop("engine", None)
        # A backend refuses an output that the file does not have: only our own model adds one.
        assert (engine is not None) == (spec.engine == "openvino")
        assert set(declared) == set(signature)
        for name, tensor in declared.items():
            assert tensor.data_type == model_config_pb2.TYPE_FP16
            # Triton's onnxruntime backend refuses a fixed size over a free one, so all must agree;
            # the first axis is Triton's batch and must be free in the file.
            assert [DIMENSIONS_FREE, *tensor.dims] == signature[name]


def test_the_other_models_of_every_profile_fit_the_files_signature(signature, configs, contract):
    """What flows between the models is what the file takes and gives, whatever runs it."""
    for profile in contract.profiles:
        scans, volume = (configs[f"{m}/configs/{profile}.pbtxt"] for m in ("dlild", "dlild_volume"))
        (window,) = (tensor for tensor in scans.input if tensor.name in signature)
        assert window.name == "window"
        assert window.data_type == model_config_pb2.TYPE_FP16
        assert [DIMENSIONS_FREE, *window.dims] == signature["window"]
        assert [(t.name, t.data_type, list(t.dims)) for t in volume.output] == [
            (t.name, t.data_type, list(t.dims)) for t in scans.output
        ]
        assert signature["probabilities"][1] == len(contract.classes)


def test_every_dimension_is_one_that_triton_takes(configs):
    for config in configs.values():
        for tensor in (*config.input, *config.output):
            assert all(dim == DIMENSIONS_FREE or dim > 0 for dim in tensor.dims), config.name
            assert len(tensor.dims) > 0, config.name


def test_each_engine_names_its_backend_and_its_file(configs, contract):
    expected = {
        "openvino": ("python", ""),
        "onnxruntime": ("onnxruntime", "model.onnx"),
        "tensorrt": ("tensorrt", "model.plan"),
    }
    for profile, spec in contract.profiles.items():
        config = configs[f"ild_unet/configs/{profile}.pbtxt"]
        assert (config.backend, config.default_model_filename) == expected[spec.engine]


def with_profile(documents, name, **changes):
    """The documents with one profile changed."""
    profiles = documents.contract.profiles
    changed = {**profiles, name: replace(profiles[name], **changes)}
    return replace(documents, contract=replace(documents.contract, profiles=changed))


def test_dlild_reads_from_its_configuration_where_to_blend(documents):
    changed = render_all(with_profile(documents, "tensorrt", blending="gpu"))
    for texts, asked in ((changed, "gpu"), (render_all(documents), "cpu")):
        text = texts["dlild/configs/tensorrt.pbtxt"]
        parameters = text_format.Parse(text, model_config_pb2.ModelConfig()).parameters
        profiles = parse_contract(parameters["contract"].string_value).profiles
        assert profiles[parameters["profile"].string_value].blending == asked


def test_drift_names_what_is_stale_missing_or_left_over(copied):
    assert drift(copied) == []
    (copied / "dlild/config.pbtxt").write_text("name: 'dlild'")
    (copied / "ild_unet/configs/tensorrt.pbtxt").unlink()
    (copied / "ild_unet/configs/retired.pbtxt").write_text("")
    (copied / "dlild_volume/contract/windows.py").write_text("# mine")
    (copied / "dlild_volume/contract/retired.py").write_text("")
    spoilt = [
        "dlild/config.pbtxt",
        "dlild_volume/contract/retired.py",
        "dlild_volume/contract/windows.py",
        "ild_unet/configs/retired.pbtxt",
        "ild_unet/configs/tensorrt.pbtxt",
    ]
    assert drift(copied) == spoilt
    assert write_configs(copied) == spoilt
    assert drift(copied) == []


def test_a_model_that_somebody_added_is_left_alone(copied):
    added = copied / "progression/configs/embedded.pbtxt"
    added.parent.mkdir(parents=True)
    added.write_text("")
    assert write_configs(copied) == []
    assert added.is_file()


def test_the_command_checks_and_writes(copied, capsys):
    (copied / "dlild/config.pbtxt").unlink()
    assert main(["--check", "--repository", str(copied)]) == 1
    assert "make configs" in capsys.readouterr().err
    assert main(["--repository", str(copied)]) == 0
    assert main(["--check", "--repository", str(copied)]) == 0


def test_the_command_needs_a_contract(tmp_path, capsys):
    assert main(["--repository", str(tmp_path)]) == 1
    assert "contract.json" in capsys.readouterr().err


def test_the_shared_modules_import_no_other_than_shared_ones(repository):
    for model, names in SHARED_MODULES.items():
        for name in names:
            text = (repository / model / "contract" / f"{name}.py").read_text("utf-8")
            imported = {line.split()[1] for line in text.splitlines() if line.startswith("from .")}
            assert {module.removeprefix(".") for module in imported} <= set(names), (model, name)


def test_another_schema_or_engine_is_refused(documents, copied):
    raw = json.loads((copied / "contract.json").read_text("utf-8"))
    (copied / "contract.json").write_text(json.dumps(raw | {"schema_version": 9}), "utf-8")
    with pytest.raises(ContractError, match="schema_version 9, this client understands 1"):
        read_documents(copied)
    assert main(["--repository", str(copied)]) == 1
    with pytest.raises(ValueError, match="'abacus', which has no backend"):
        render_all(with_profile(documents, "tensorrt", engine="abacus"))
    bare = replace(documents, contract=replace(documents.contract, profiles={}))
    with pytest.raises(ValueError, match="no profile 'embedded'"):
        render_all(bare)
