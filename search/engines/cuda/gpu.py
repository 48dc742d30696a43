"""The GPU: NVRTC makes the code, the CUDA driver runs it; memory, streams and events are torch's."""

import ctypes
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch

from search.engines.cuda.device import Argument
from search.engines.cuda.layout import HARDWARE
from search.engines.cuda.nvrtc import machine_code
from search.errors import UserError

_STATIC_SHARED_BYTES = 2048  # at least as many as kernels have of their own


class Gpu:
    """The GPU that is torch's current one.

    Raises:
        UserError: there is none; says what is missing.
    """

    tiles = HARDWARE

    def __init__(self) -> None:
        if torch.version.cuda is None:
            raise UserError("engine=cuda: this torch is built without CUDA; expected one that is built with it")
        if not torch.cuda.is_available():
            raise UserError("engine=cuda: torch finds no GPU; expected an NVIDIA GPU and its driver")
        self.torch = torch.device("cuda", torch.cuda.current_device())
        self.name = torch.cuda.get_device_name(self.torch)
        self.compute_capability = torch.cuda.get_device_capability(self.torch)
        torch.zeros(1, device=self.torch)  # makes torch's context
        self.driver = Driver(self.torch.index)
        self.shared_bytes = self.driver.attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN") - _STATIC_SHARED_BYTES
        self.n_multiprocessors = self.driver.attribute("MULTIPROCESSOR_COUNT")

    def code(self, source: str, kernels: Sequence[str], dtype: str, threads: int) -> "_GpuCode":
        start = time.perf_counter()
        code, cached = machine_code(source, dtype, threads, self.compute_capability)
        return _GpuCode(self, code, kernels, threads, cached, start)

    def empty(self, size: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(size, dtype=dtype, device=self.torch)


class _GpuCode:
    def __init__(self, gpu: Gpu, code: bytes, kernels: Sequence[str], threads: int, cached: bool, start: float):
        self._gpu, self._threads, self.cached = gpu, threads, cached
        module = gpu.driver.load(code)
        self._functions = {name: gpu.driver.function(module, name, gpu.shared_bytes) for name in kernels}
        self.seconds = time.perf_counter() - start

    def launch(self, kernel: str, grid: int, shared_bytes: int, arguments: Sequence[Argument]) -> None:
        if shared_bytes > self._gpu.shared_bytes:
            have = f"{shared_bytes} bytes of shared memory in a block, of which the GPU has {self._gpu.shared_bytes}"
            raise UserError(f"engine=cuda: needs {have}; expected a smaller hidden_size")
        words = [a.data_ptr() if isinstance(a, torch.Tensor) else a for a in arguments]
        stream = torch.cuda.current_stream(self._gpu.torch).cuda_stream
        self._gpu.driver.launch(self._functions[kernel], grid, self._threads, shared_bytes, stream, words)

    def resident(self, kernel: str, shared_bytes: int) -> int:
        each = self._gpu.driver.occupancy(self._functions[kernel], self._threads, shared_bytes)
        return max(1, each) * self._gpu.n_multiprocessors


class Driver:
    """The few functions of the CUDA driver that are needed besides torch, in the device's primary context."""

    def __init__(self, index: int):
        from cuda.bindings import driver

        self._driver = driver
        self._call("cuInit", 0)
        self._device = self._call("cuDeviceGet", index)
        self._context = self._call("cuDevicePrimaryCtxRetain", self._device)

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self._driver, name)(*arguments)
        if status != self._driver.CUresult.CUDA_SUCCESS:
            raise RuntimeError(f"{name}: {status.name}")
        return values[0] if values else None

    def attribute(self, name: str) -> int:
        attribute = getattr(self._driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(self._call("cuDeviceGetAttribute", attribute, self._device))

    def load(self, code: bytes) -> Any:
        self._call("cuCtxSetCurrent", self._context)
        return self._call("cuModuleLoadData", code)

    def function(self, module: Any, name: str, shared_bytes: int) -> Any:
        """A kernel, allowed so much dynamic shared memory."""
        function = self._call("cuModuleGetFunction", module, name.encode())
        limit = self._driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        self._call("cuFuncSetAttribute", function, limit, shared_bytes)
        return function

    def occupancy(self, function: Any, threads: int, shared_bytes: int) -> int:
        """Blocks that run at a time on one multiprocessor."""
        return int(self._call("cuOccupancyMaxActiveBlocksPerMultiprocessor", function, threads, shared_bytes))

    def launch(
        self, function: Any, grid: int, threads: int, shared_bytes: int, stream: int, words: Sequence[int]
    ) -> None:
        """Starts a kernel; the driver reads of each word as many bytes as its argument has."""
        values = [ctypes.c_int64(word) for word in words]
        pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        self._call("cuCtxSetCurrent", self._context)  # torch may call from a thread of its own
        sizes = (grid, 1, 1, threads, 1, 1, shared_bytes)
        self._call("cuLaunchKernel", function, *sizes, stream, ctypes.addressof(pointers), 0)


def stream(on: torch.device) -> Any:
    """A context in which work goes to a stream of its own."""
    return torch.cuda.stream(torch.cuda.Stream(on)) if on.type == "cuda" else nullcontext()
