"""TensorRT's Python module as far as it is used: what it was asked is kept, what is gone fails.

The plan that it "builds" is the ONNX file, run by ONNX Runtime in memory that stands for the GPU's.
So the code round TensorRT is tried whole; TensorRT itself only where there is a GPU.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import onnx
import onnxruntime


class _NoPrecisionFlags:
    def __getattr__(self, name: str) -> int:
        raise AttributeError(f"BuilderFlag.{name} was removed in TensorRT 11")


class FakeDevice:
    """Memory that stands for a GPU's."""

    name = "no GPU at all"

    def __init__(self) -> None:
        self.held: dict[int, np.ndarray | int] = {}
        self._next = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        assert not self.held, "memory of the GPU was not freed"

    def allocate(self, size: int) -> int:
        self._next += 1
        self.held[self._next] = size
        return self._next

    def free(self, address: int) -> None:
        del self.held[address]

    def send(self, array: np.ndarray, address: int) -> None:
        assert array.nbytes == self.held[address]
        self.held[address] = array.copy()

    def fetch(self, address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        stored = self.held[address]
        assert stored.shape == shape
        assert stored.dtype == dtype
        return stored


def fake_tensorrt(  # noqa: C901 - small classes that share what was asked
    version: str, device: FakeDevice, *, parses: bool = True, builds: bool = True
) -> Any:
    """Return a module like `tensorrt` of this version; `asked` holds what it was asked."""
    asked: dict[str, Any] = {"cache_read": None, "profiles": []}
    major = int(version.partition(".")[0])

    class Network:
        bytes = b""

    class Builder:
        def __init__(self, logger: object) -> None:
            self.max_threads = 1

        def create_network(self, flags: int = 0) -> Network:
            asked["flags"] = flags
            return Network()

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Any:
            def set_shape(name: str, least: Any, best: Any, most: Any) -> None:
                assert all(a <= b <= c for a, b, c in zip(least, best, most, strict=True))
                asked["profiles"].append((name, least, best, most))

            return SimpleNamespace(set_shape=set_shape)

        def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
            assert config.profiles == 1
            return bytearray(network.bytes) if builds else None

    class Config:
        def __init__(self) -> None:
            self.profiles = 0
            self._cache: Any = None

        def add_optimization_profile(self, profile: object) -> None:
            self.profiles += 1

        def create_timing_cache(self, content: bytes) -> Any:
            asked["cache_read"] = content
            return SimpleNamespace(serialize=lambda: bytearray(content + b"+timed"))

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            self._cache = cache
            return True

        def get_timing_cache(self) -> Any:
            return self._cache

    class Parser:
        num_errors = 0 if parses else 1

        def __init__(self, network: Network, logger: object) -> None:
            self._network = network

        def parse(self, content: bytes) -> bool:
            onnx.checker.check_model(onnx.load_model_from_string(content), full_check=True)
            self._network.bytes = content
            return parses

        def get_error(self, index: int) -> str:
            return "operator not known"

    class Context:
        def __init__(self, plan: bytes) -> None:
            self._session = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
            self._shape: tuple[int, ...] = ()
            self._addresses: dict[str, int] = {}

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            self._shape = shape
            _, least, _, most = asked["profiles"][0]
            return all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True))

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return (self._shape[0], 6, *self._shape[2:])

        def set_tensor_address(self, name: str, address: int) -> None:
            self._addresses[name] = address

        def execute_async_v3(self, stream: int) -> bool:
            window = device.held[self._addresses["window"]]
            (result,) = self._session.run(None, {"window": window})
            # A test may make the plan another network.
            spoil = asked.get("spoil", lambda probabilities: probabilities)
            device.held[self._addresses["probabilities"]] = spoil(result)
            return True

    class Runtime:
        def __init__(self, logger: object) -> None:
            pass

        def deserialize_cuda_engine(self, plan: bytes) -> Any:
            return SimpleNamespace(create_execution_context=lambda: Context(plan))

    logger = type("Logger", (), {"WARNING": 2, "__init__": lambda self, level: None})
    flags: dict[str, int] = {"STRONGLY_TYPED": 1 if major == 10 else 0}
    return SimpleNamespace(
        __version__=version,
        asked=asked,
        Logger=logger,
        Builder=Builder,
        OnnxParser=Parser,
        Runtime=Runtime,
        BuilderFlag=_NoPrecisionFlags(),
        NetworkDefinitionCreationFlag=SimpleNamespace(**flags),
    )
