"""The little of CUDA that a parity check needs: the driver alone, no toolkit and no torch."""

from __future__ import annotations

import ctypes
from typing import Any, Self

import numpy as np
import numpy.typing as npt

_DRIVER = "libcuda.so.1"


class CudaError(RuntimeError):
    """The driver is missing, sees no GPU, or refuses."""


class Device:
    """The first GPU, for as long as the ``with`` block lasts.

    Raises
    ------
    CudaError
        On entering: no driver, or no GPU.
    """

    def __init__(self) -> None:
        self._driver: Any = None
        self._handle = ctypes.c_int()

    def __enter__(self) -> Self:
        """Take the GPU's primary context, which TensorRT takes too."""
        try:
            self._driver = ctypes.CDLL(_DRIVER)
        except OSError:
            raise CudaError(
                f"no GPU here: the NVIDIA driver ({_DRIVER}) is not installed"
            ) from None
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(self._handle), 0)
        context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._handle)
        self._call("cuCtxSetCurrent", context)
        return self

    def __exit__(self, *_exception: object) -> None:
        """Give the context back."""
        self._call("cuDevicePrimaryCtxRelease_v2", self._handle)

    @property
    def name(self) -> str:
        """What the GPU is called."""
        text = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", text, len(text), self._handle)
        return text.value.decode("utf-8", "replace")

    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes on the GPU."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return int(address.value)

    def free(self, address: int) -> None:
        """Free what `allocate` returned."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def send(self, array: npt.NDArray[Any], address: int) -> None:
        """Copy a contiguous array to the GPU."""
        assert array.flags.c_contiguous
        pointer = array.ctypes.data_as(ctypes.c_void_p)
        self._call(
            "cuMemcpyHtoD_v2", ctypes.c_uint64(address), pointer, ctypes.c_size_t(array.nbytes)
        )

    def fetch(self, address: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Wait for the GPU, and copy an array from it."""
        self._call("cuCtxSynchronize")
        array = np.empty(shape, dtype)
        pointer = array.ctypes.data_as(ctypes.c_void_p)
        self._call(
            "cuMemcpyDtoH_v2", pointer, ctypes.c_uint64(address), ctypes.c_size_t(array.nbytes)
        )
        return array

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._driver, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(code, ctypes.byref(text))
            said = (text.value or b"unknown").decode()
            raise CudaError(f"no GPU to work with: {name} says {said} ({code})")
