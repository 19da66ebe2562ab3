"""The network on OpenVINO: one window in, class probabilities out. Works without Triton."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.precision import choose_precision, cpu_flags
from stages import StagedNetwork


class Engine:
    """A compiled network, whose U-Net is in the precision that was chosen, all else in FP32.

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
        capable = cpu_flags()
        self.precision = choose_precision(capable, precision, has_int8=int8 is not None)
        self.threads = threads or len(os.sched_getaffinity(0))
        quantised = self.precision == "int8"
        self.path = Path(int8 if quantised and int8 else path)
        self.floating = choose_precision(capable) if quantised else self.precision
        self._network = StagedNetwork(self.path, self.floating, self.threads)

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
        answer = self._network.infer(window)
        return answer.copy() if copy else answer


def int8_beside(path: Path) -> Path | None:
    """Return the INT8 form that lies beside a network, or None. Its digest is not checked here."""
    found = Path(path).with_name("model.int8.onnx")
    return found if found.is_file() else None
