import json
import math
import shutil
from dataclasses import replace

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


def test_clients_get_the_whole_contract_from_the_ensemble(configs, contract):
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


def test_only_the_embedded_ensemble_names_its_engine(configs, contract):
    for profile in contract.profiles:
        outputs = {tensor.name for tensor in configs[f"dlild/configs/{profile}.pbtxt"].output}
        assert ("engine" in outputs) == (profile == "embedded")


def test_the_steps_fit_the_models_they_call(configs, contract):
    for profile in contract.profiles:
        ensemble = configs[f"dlild/configs/{profile}.pbtxt"]
        known = {tensor.name: tensor for tensor in ensemble.input}
        for step in ensemble.ensemble_scheduling.step:
            called = configs[f"{step.model_name}/configs/{profile}.pbtxt"]
            inputs = {tensor.name: tensor for tensor in called.input}
            outputs = {tensor.name: tensor for tensor in called.output}
            assert set(step.input_map) == set(inputs)
            for name, source in step.input_map.items():
                assert list(inputs[name].dims) == list(known[source].dims)
                assert inputs[name].data_type == known[source].data_type
            known |= {target: outputs[name] for name, target in step.output_map.items()}
        for tensor in ensemble.output:
            assert list(tensor.dims) == list(known[tensor.name].dims)
            assert tensor.data_type == known[tensor.name].data_type


def test_an_answer_is_of_one_version_from_end_to_end(configs, documents):
    version = documents.contract.model.version
    for name, config in configs.items():
        loaded = list(config.version_policy.specific.versions)
        if config.name in {"dlild", "dlild_volume"}:
            assert loaded == [version], name
        else:
            assert loaded == sorted(documents.releases.serving), name
        for step in config.ensemble_scheduling.step:
            assert step.model_version == version


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
    assert "versions: [1, 2]" in texts["dlild_accumulator/config.pbtxt"]
    assert "versions: [2]" in texts["dlild/config.pbtxt"]
    assert texts["dlild/config.pbtxt"].count("model_version: 2") == 2


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


def test_windows_keep_their_order_and_triton_outlives_our_time_limit(configs, documents):
    limits = documents.limits
    for profile in documents.contract.profiles:
        assert configs[f"ild_unet/configs/{profile}.pbtxt"].dynamic_batching.preserve_ordering
        accumulator = configs[f"dlild_accumulator/configs/{profile}.pbtxt"]
        batching = accumulator.sequence_batching
        assert batching.oldest.preserve_ordering
        assert batching.max_sequence_idle_microseconds > limits.scan_idle_s * 1_000_000
        assert batching.oldest.max_candidate_sequences > limits.open_scans
        kinds = {control.kind for entry in batching.control_input for control in entry.control}
        assert model_config_pb2.ModelSequenceBatching.Control.CONTROL_SEQUENCE_CORRID not in kinds
        assert sum(group.count for group in accumulator.instance_group) == 1


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
        ensemble, accumulator, volume = (
            configs[f"{model}/configs/{profile}.pbtxt"]
            for model in ("dlild", "dlild_accumulator", "dlild_volume")
        )
        for config, names in (
            (ensemble, {"window"}),
            (accumulator, {"window", "probabilities"}),
        ):
            flowing = {t.name: t for t in config.input if t.name in signature}
            assert set(flowing) == names
            for name, tensor in flowing.items():
                assert tensor.data_type == model_config_pb2.TYPE_FP16
                assert [DIMENSIONS_FREE, *tensor.dims] == signature[name]
        assert [(t.name, t.data_type, list(t.dims)) for t in volume.output] == [
            (t.name, t.data_type, list(t.dims)) for t in ensemble.output
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


def test_blending_stays_on_the_cpu_unless_a_profile_asks_for_the_gpu(documents):
    for name, text in render_all(with_profile(documents, "tensorrt", blending="gpu")).items():
        parameters = text_format.Parse(text, model_config_pb2.ModelConfig()).parameters
        asked = parameters["FORCE_CPU_ONLY_INPUT_TENSORS"].string_value
        assert asked == ("no" if name == "dlild_accumulator/configs/tensorrt.pbtxt" else "")
    assert all("FORCE_CPU_ONLY" not in text for text in render_all(documents).values())


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
