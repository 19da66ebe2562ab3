"""The network on OpenVINO: one window in, class probabilities out. Works without Triton."""

import os
from pathlib import Path

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from contract.precision import choose_precision, cpu_flags

DEVICE = "CPU"


class Engine:
    """A compiled network.

    The network is compiled once, with free spatial axes: windows differ from scan to scan, and
    nothing is compiled while a scan waits. A fixed shape would run in 0.86 of the time (bf16,
    version 4).

    Parameters
    ----------
    path : Path
        The ONNX file, from ``window`` FP16 [N, 1, z, y, x] to ``probabilities`` FP16
        [N, classes, z, y, x].
    precision : str, optional
        ``int8``, ``bf16`` or ``f32``; by default the first of them that the CPU has instructions
        for, ``int8`` only where the version has such a form.
    threads : int, optional
        Threads of one inference; by default the cores this process may use.
    int8 : Path, optional
        The INT8 form of the same weights, a Q/DQ graph.

    Raises
    ------
    FileNotFoundError
        When there is no file at ``path``.
    ValueError
        When the precision is another, or one was asked for that the CPU or this version has not.
    """

    def __init__(
        self,
        path: Path,
        precision: str | None = None,
        threads: int | None = None,
        int8: Path | None = None,
    ) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no network here")
        core = ov.Core()
        capable = cpu_flags()
        self.precision = choose_precision(capable, precision, has_int8=int8 is not None)
        self.threads = threads or len(os.sched_getaffinity(0))
        quantised = self.precision == "int8"
        self.path = Path(int8 if quantised and int8 else path)
        self.floating = choose_precision(capable) if quantised else self.precision
        self._request = core.compile_model(
            str(self.path),
            DEVICE,
            {
                "INFERENCE_PRECISION_HINT": self.floating,
                "INFERENCE_NUM_THREADS": self.threads,
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": 1,
            },
        ).create_infer_request()

    @property
    def name(self) -> str:
        """Engine and precision, such as ``openvino bf16``."""
        return f"openvino {self.precision}"

    def infer(self, window: NDArray[np.float16], *, copy: bool = True) -> NDArray[np.float16]:
        """Run the network on one window.

        Parameters
        ----------
        window : ndarray of float16, shape (1, 1, z, y, x)
            HU.
        copy : bool, optional
            Whether the answer outlives the next call.

        Returns
        -------
        ndarray of float16, shape (1, classes, z, y, x)
            Class probabilities; in memory of their own, or in the engine's, which the next call
            writes over.
        """
        outputs = self._request.infer(
            {"window": np.ascontiguousarray(window)}, share_inputs=True, share_outputs=True
        )
        # numpy 1.26 lets FP16 slip to FP32, which the next step refuses: the type is said here.
        answer: NDArray[np.float16] = np.asarray(outputs["probabilities"], dtype=np.float16)
        return answer.copy() if copy else answer


def int8_beside(path: Path) -> Path | None:
    """Return the INT8 form that lies beside a network, or None. Its digest is not checked here."""
    found = Path(path).with_name("model.int8.onnx")
    return found if found.is_file() else None
