"""The network on OpenVINO: one window in, class probabilities out. Works without Triton."""

import os
from pathlib import Path

import numpy as np
import openvino as ov
from numpy.typing import NDArray

DEVICE = "CPU"


class Engine:
    """A compiled network.

    The network is compiled once, with free spatial axes: on the CPU a dynamic shape runs as fast
    as a fixed one, and nothing is compiled while a scan waits.

    Parameters
    ----------
    path : Path
        The ONNX file, from ``window`` FP16 [N, 1, z, y, x] to ``probabilities`` FP16
        [N, classes, z, y, x].
    precision : str, optional
        ``bf16`` or ``f32``; by default ``bf16`` where the CPU has it.
    threads : int, optional
        Threads of one inference; by default the cores this process may use.

    Raises
    ------
    FileNotFoundError
        When there is no file at ``path``.
    ValueError
        When the precision is another, or the CPU has no bf16 and it was asked for.
    """

    def __init__(
        self, path: Path, precision: str | None = None, threads: int | None = None
    ) -> None:
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no network here")
        core = ov.Core()
        self.precision = _choose_precision(core, precision)
        self.threads = threads or len(os.sched_getaffinity(0))
        self._request = core.compile_model(
            str(path),
            DEVICE,
            {
                "INFERENCE_PRECISION_HINT": self.precision,
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


def _choose_precision(core: ov.Core, wanted: str | None) -> str:
    has_bf16 = "BF16" in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    chosen = wanted or ("bf16" if has_bf16 else "f32")
    if chosen not in {"bf16", "f32"}:
        raise ValueError(f"precision {chosen!r} is neither bf16 nor f32")
    if chosen == "bf16" and not has_bf16:
        raise ValueError("this CPU has no bf16; use f32")
    return chosen
