"""A DL-ILD server in this process, which can misbehave: for faults that must be injected."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from dlild_client.contract import parse_contract

KEY_HEADER = "triton-grpc-protocol-x-ild-key"


def cubes_only(contract_text: str) -> str:
    """Make a contract of cubes of 96: a small chest has more windows than may be in flight then."""
    raw = json.loads(contract_text)
    raw["windows"] |= {"minimum": [96, 96, 96], "maximum": [96, 96, 96]}
    return json.dumps(raw)


def _gives_up(request: Any) -> bool:
    """Tell whether a request is first and last of a scan of several windows."""
    flags = [request.parameters[f"sequence_{k}"].bool_param for k in ("start", "end")]
    names = [tensor.name for tensor in request.inputs]
    count = np.frombuffer(request.raw_input_contents[names.index("window_count")], "<i4")[0]
    return flags == [True, True] and bool(count > 1)


class FakeServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A DL-ILD server whose network is a threshold.

    `fault(index, response)` is called with every answer and returns what is sent: a list of stream
    responses, or None to say nothing; it may raise or abort through `self.context`.
    """

    def __init__(self, contract_text: str) -> None:
        self.parameters = {"contract": contract_text, "profile": "embedded"}
        self.contract = parse_contract(contract_text)
        self.version = str(self.contract.model.version)
        self.key: str | None = None
        self.credentials: Any = None
        self.busy = 0
        self.busy_text = "12 scans are open"
        self.port = 0
        self._running: Any = None
        self.ready = True
        self.fault: Callable[[int, Any], list[Any] | None] | None = None
        self.change_final: Callable[[dict[str, np.ndarray]], None] | None = None
        self.sequence_ids: list[str] = []
        self.most_in_flight = 0
        self.delay_s = 0.0
        self.device = threading.Lock()
        self.cancelled = threading.Event()
        self.aborts: list[str] = []
        self.context: Any = None

    @property
    def url(self) -> str:
        return f"{'grpcs' if self.credentials else 'grpc'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve; on the port of before, if there was one."""
        limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._running = grpc.server(futures.ThreadPoolExecutor(16), options=limits)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._running)
        place = f"127.0.0.1:{self.port}"
        if self.credentials:
            self.port = self._running.add_secure_port(place, self.credentials)
        else:
            self.port = self._running.add_insecure_port(place)
        self._running.start()

    def stop(self) -> None:
        """Stop at once: open streams break."""
        self._running.stop(0).wait(5)

    def use_tls(self, cert: Path, key: Path, ca: Path | None = None) -> None:
        """Serve with TLS from the next start; with `ca`, clients must show a certificate."""
        self.credentials = grpc.ssl_server_credentials(
            [(key.read_bytes(), cert.read_bytes())],
            ca.read_bytes() if ca else None,
            require_client_auth=ca is not None,
        )

    def _check_key(self, context: Any) -> None:
        """Refuse as Triton does: it is UNAVAILABLE."""
        sent = dict(context.invocation_metadata()).get(KEY_HEADER)
        if self.key is not None and sent != self.key:
            context.abort(
                grpc.StatusCode.UNAVAILABLE,
                f"This protocol is restricted, expecting header '{KEY_HEADER}'",
            )

    def ServerMetadata(self, request: Any, context: Any) -> Any:
        self._check_key(context)
        return service_pb2.ServerMetadataResponse(name="triton", version="2.51.0")

    def ModelReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=self.ready and request.name == "dlild")

    def ModelConfig(self, request: Any, context: Any) -> Any:
        self._check_key(context)
        response = service_pb2.ModelConfigResponse()
        for name, text in self.parameters.items():
            response.config.parameters[name].string_value = text
        return response

    def ModelStreamInfer(self, request_iterator: Any, context: Any) -> Iterator[Any]:
        self._check_key(context)
        self.context = context
        context.add_callback(self.cancelled.set)
        waiting: list[Any] = []
        lock, ended = threading.Lock(), threading.Event()

        def listen() -> None:
            try:
                for request in request_iterator:
                    with lock:
                        waiting.append(request)
                        self.most_in_flight = max(self.most_in_flight, len(waiting))
            except Exception:
                pass
            ended.set()

        threading.Thread(target=listen, daemon=True).start()
        scan: dict[str, Any] = {}
        while context.is_active():
            if not waiting:
                if ended.is_set():
                    return
                time.sleep(0.001)
                continue
            with self.device:
                time.sleep(self.delay_s)
            request = waiting[0]
            if not scan and _gives_up(request):
                self.aborts.append(request.parameters["sequence_id"].string_param)
                yield service_pb2.ModelStreamInferResponse(error_message="INCOMPLETE: aborted")
                return
            if self.busy and not scan:
                self.busy -= 1
                yield service_pb2.ModelStreamInferResponse(
                    error_message=f"in ensemble 'dlild', BUSY: {self.busy_text}"
                )
                return
            response = self._answer(request, scan)
            index = int(request.id)
            with lock:
                waiting.pop(0)
            stream = service_pb2.ModelStreamInferResponse(infer_response=response)
            yield from [stream] if self.fault is None else (self.fault(index, stream) or [])

    def _answer(self, request: Any, scan: dict[str, Any]) -> Any:
        values = {
            tensor.name: np.frombuffer(
                raw, dtype={"FP16": "<f2", "INT32": "<i4", "FP32": "<f4"}[tensor.datatype]
            ).reshape(tuple(tensor.shape))
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        index, count = int(values["window_index"][0, 0]), int(values["window_count"][0, 0])
        if index == 0:
            assert request.parameters["sequence_start"].bool_param
            self.sequence_ids.append(request.parameters["sequence_id"].string_param)
            scan["labels"] = np.zeros(tuple(values["box_shape"][0]), dtype=np.uint8)
            scan["seen"] = 0
        window, origin = values["window"][0, 0], values["origin"][0]
        place = tuple(slice(o, o + n) for o, n in zip(origin, window.shape, strict=True))
        labels = np.where(window < -600, 1, np.where(window < -200, 2, 0))
        scan["labels"][place] = np.where(window <= -950, 0, labels)
        scan["seen"] += 1
        outputs = {
            "windows_received": np.array([[scan["seen"]]], dtype="<i4"),
            "dl_ild_percent": np.zeros((1, 0)),
            "class_volumes_ml": np.zeros((1, 0)),
            "zone_volumes_ml": np.zeros((1, 0, 2)),
            "class_certainty": np.zeros((1, 0)),
            "labels": np.zeros((1, 0, 0, 0), dtype=np.uint8),
        }
        if index == count - 1:
            assert request.parameters["sequence_end"].bool_param
            outputs |= self._final(scan["labels"], float(values["voxel_volume_mm3"][0, 0]))
            if self.change_final:
                self.change_final(outputs)
        return self._message(request.id, outputs)

    def _final(self, labels: np.ndarray, voxel_mm3: float) -> dict[str, np.ndarray]:
        volumes = (
            np.bincount(labels.ravel(), minlength=len(self.contract.classes)) * voxel_mm3 / 1000
        )
        lung, lesion = volumes[1:].sum(), volumes[2:].sum()
        zones = np.zeros((6, 2))
        zones[0] = lung, lesion
        return {
            "dl_ild_percent": np.array([[100 * lesion / lung if lung else np.nan]]),
            "class_volumes_ml": volumes[None],
            "zone_volumes_ml": zones[None],
            "class_certainty": np.where(volumes > 0, [np.nan, np.nan, 0.75, 1, 1, 1], np.nan)[None],
            "labels": labels[None],
        }

    def _message(self, request_id: str, outputs: dict[str, np.ndarray]) -> Any:
        names = {"<i4": "INT32", "<f8": "FP64", "|u1": "UINT8"}
        response = service_pb2.ModelInferResponse(
            model_name="dlild", model_version=self.version, id=request_id
        )
        for name, array in outputs.items():
            response.outputs.add(name=name, datatype=names[array.dtype.str], shape=array.shape)
            response.raw_output_contents.append(array.tobytes())
        text = b"openvino bf16"
        response.outputs.add(name="engine", datatype="BYTES", shape=[1, 1])
        response.raw_output_contents.append(len(text).to_bytes(4, "little") + text)
        return response
