"""Synthetic chests, DICOM series written from them, and a gRPC server that can misbehave."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from tritonclient.grpc import service_pb2, service_pb2_grpc

from dlild_client.contract import Contract, WindowSpec, parse_contract
from dlild_client.volume import Volume

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def contract_text() -> str:
    return (ROOT / "model_repository" / "contract.json").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def contract(contract_text: str) -> Contract:
    return parse_contract(contract_text)


@pytest.fixture(scope="session")
def small_contract(contract: Contract) -> Contract:
    """The contract with windows that suit small test volumes."""
    return replace(contract, windows=WindowSpec(8, (24, 24, 24), (56, 56, 48), 65536, 0.25, 3))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip("no ../shared/data beside the repository: real scans are not tried")
    return SHARED


def make_chest(
    shape: tuple[int, int, int] = (60, 90, 120),
    spacing: tuple[float, float, float] = (4.0, 3.0, 3.0),
) -> Volume:
    """A body with two aerated lungs, a windpipe, a table, and different things in each corner."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    hu = np.full(shape, -1000, dtype=np.int16)
    hu[(y / 0.8) ** 2 + (x / 0.9) ** 2 < 1] = 40
    for side in (-1, 1):
        height = 0.75 if side < 0 else 0.65
        lung = (z / height) ** 2 + (y / 0.5) ** 2 + ((x - side * 0.42) / 0.32) ** 2 < 1
        hu[lung] = -820
        # Vessels, which no threshold calls lung, and which tell the sides apart.
        hu[lung & (np.abs(y - 0.1 * side) < 0.04) & (z < 0.2)] = 60
    hu[(y**2 * 9 + x**2 * 16 < 0.01) & (z > 0)] = -1000
    hu[(y > 0.88) & (np.abs(x) < 0.6)] = 200
    return Volume(hu, spacing)


@pytest.fixture(scope="session")
def chest() -> Volume:
    return make_chest()


@pytest.fixture(scope="session")
def chest_maker() -> Callable[..., Volume]:
    return make_chest


@pytest.fixture(scope="session")
def scan() -> Volume:
    """Thirty small slices of 4 mm; no two sides of it are alike."""
    rng = np.random.default_rng(3)
    array = rng.integers(-1000, 500, (30, 24, 20)).astype(np.int16)
    return Volume(array, (4.0, 2.0, 3.0))


@dataclass
class SeriesWriter:
    """Writes DICOM files; `edit(dataset, index)` bends each before it is saved."""

    folder: Path
    study: str = field(default_factory=generate_uid)

    def write(
        self,
        volume: Volume,
        name: str = "ct",
        edit: Callable[[Any, int], bool | None] | None = None,
        orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
        step: tuple[float, float, float] | None = None,
    ) -> Path:
        """Write one file a slice; `edit` returning False leaves the slice out."""
        place = self.folder / name
        place.mkdir(parents=True, exist_ok=True)
        series = generate_uid()
        step = step or (0.0, 0.0, volume.spacing_mm[0])
        for i, plane in enumerate(volume.array):
            ds = self._dataset(series, volume, plane, i)
            ds.ImageOrientationPatient = list(orientation)
            ds.ImagePositionPatient = [
                round(o + i * s, 4) for o, s in zip((-150.0, -130.0, -300.0), step, strict=True)
            ]
            if edit is None or edit(ds, i) is not False:
                # Names that say nothing of the order.
                ds.save_as(place / f"{(i * 37) % 1000:04d}-{i}.dcm", enforce_file_format=True)
        return place

    def _dataset(self, series: str, volume: Volume, plane: np.ndarray, index: int) -> FileDataset:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID = CTImageStorage
        ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID = self.study, series
        ds.PatientName, ds.PatientID = "SECRET^NAME", "SECRET-ID"
        ds.SeriesDescription = "SECRET-DESCRIPTION"
        ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.Manufacturer, ds.ConvolutionKernel = "Maker", "B60f"
        ds.SliceThickness = volume.spacing_mm[0]
        ds.PixelSpacing = list(volume.spacing_mm[1:])
        ds.InstanceNumber, ds.SeriesNumber = index + 1, 3
        ds.Rows, ds.Columns = plane.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleSlope, ds.RescaleIntercept = 1, 0
        ds.PixelData = plane.astype("<i2").tobytes()
        return ds


@pytest.fixture
def series_writer(tmp_path: Path) -> SeriesWriter:
    return SeriesWriter(tmp_path / "dicom")


def set_pixels(ds: Any, values: np.ndarray) -> None:
    """Replace the stored values of a data set."""
    ds.PixelData = values.astype("<i2").tobytes()


@pytest.fixture(scope="session")
def pixel_setter() -> Callable[[Any, np.ndarray], None]:
    return set_pixels


@pytest.fixture(scope="session")
def ct_slices(shared_data: Path) -> Path:
    return shared_data / "ct-transfer-syntaxes"


class FakeServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A DL-ILD server whose network is a threshold.

    `fault(index, response)` is called with every answer and returns what is sent: a list of stream
    responses, or None to say nothing; it may raise or abort through `self.context`.
    """

    def __init__(self, contract_text: str, contract: Contract) -> None:
        self.parameters = {"contract": contract_text, "profile": "embedded"}
        self.contract = contract
        self.ready = True
        self.fault: Callable[[int, Any], list[Any] | None] | None = None
        self.change_final: Callable[[dict[str, np.ndarray]], None] | None = None
        self.sequence_ids: list[str] = []
        self.most_in_flight = 0
        self.delay_s = 0.0
        self.cancelled = threading.Event()
        self.farewells: list[str] = []
        self.context: Any = None
        self.url = ""

    def ServerMetadata(self, request: Any, context: Any) -> Any:
        return service_pb2.ServerMetadataResponse(name="triton", version="2.51.0")

    def ModelReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=self.ready and request.name == "dlild")

    def ModelConfig(self, request: Any, context: Any) -> Any:
        response = service_pb2.ModelConfigResponse()
        for name, text in self.parameters.items():
            response.config.parameters[name].string_value = text
        return response

    def ModelStreamInfer(self, request_iterator: Any, context: Any) -> Iterator[Any]:
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
            time.sleep(self.delay_s)
            request = waiting[0]
            flags = [request.parameters[f"sequence_{k}"].bool_param for k in ("start", "end")]
            if not scan and flags == [False, True]:
                self.farewells.append(request.parameters["sequence_id"].string_param)
                yield service_pb2.ModelStreamInferResponse(error_message="INCOMPLETE: farewell")
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
            "labels": labels[None],
        }

    @staticmethod
    def _message(request_id: str, outputs: dict[str, np.ndarray]) -> Any:
        names = {"<i4": "INT32", "<f8": "FP64", "|u1": "UINT8"}
        response = service_pb2.ModelInferResponse(model_name="dlild", id=request_id)
        for name, array in outputs.items():
            response.outputs.add(name=name, datatype=names[array.dtype.str], shape=array.shape)
            response.raw_output_contents.append(array.tobytes())
        text = b"openvino bf16"
        response.outputs.add(name="engine", datatype="BYTES", shape=[1, 1])
        response.raw_output_contents.append(len(text).to_bytes(4, "little") + text)
        return response


@pytest.fixture
def server(contract_text: str) -> Iterator[FakeServer]:
    """A running `FakeServer` on a free port of loopback, which takes cubes of 96 and nothing else.

    So that a small chest makes more windows than may be in flight.
    """
    raw = json.loads(contract_text)
    raw["windows"] |= {"minimum": [96, 96, 96], "maximum": [96, 96, 96]}
    text = json.dumps(raw)
    fake = FakeServer(text, parse_contract(text))
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    running = grpc.server(futures.ThreadPoolExecutor(8), options=limits)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(fake, running)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    fake.url = f"grpc://127.0.0.1:{port}"
    fake.stop = lambda: running.stop(0).wait(5)  # type: ignore[attr-defined]
    yield fake
    running.stop(0).wait(5)
