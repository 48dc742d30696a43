"""Kernels' source to running code: on a GPU, or in numba-cuda's simulator.

On a GPU the way is source, PTX (by numba-cuda), machine code (by nvJitLink), and a file in the cache; where the machine
code is cached, neither compiler is started. Memory, streams and events are torch's. The simulator, which numba-cuda
puts in the place of a GPU where ``NUMBA_ENABLE_CUDASIM=1`` is set before it is imported, runs the source itself, on
torch's CPU tensors.
"""

import ctypes
import functools
import hashlib
import importlib.metadata
import importlib.util
import math
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from search.engines import code_cache
from search.engines.cuda.layout import HARDWARE, Tiles
from search.engines.cuda.source import KERNELS
from search.errors import UserError

# With 512 threads this is all that a multiprocessor has, and with fewer it still lets 512 threads be resident.
REGISTERS = 128

_FUNCTIONS = ("exp", "log", "log1p", "sqrt", "tanh", "sin", "cos", "floor")
Argument = torch.Tensor | int


class Code(Protocol):
    """Kernels, ready to run.

    Attributes:
        cached: whether the code was found in the cache on disk.
        seconds: time it took to get it.
    """

    cached: bool
    seconds: float

    def launch(self, kernel: str, grid: int, threads: int, shared_bytes: int, arguments: Sequence[Argument]) -> None:
        """Starts a kernel on torch's current stream; the caller keeps the tensors alive."""
        ...

    def resident(self, kernel: str, threads: int, shared_bytes: int) -> int:
        """Blocks of this kind that the device runs at a time."""
        ...


class Device(Protocol):
    """Where kernels run.

    Attributes:
        name: of the device, for the record.
        torch: the device of tensors that kernels work on.
        shared_bytes: shared memory that a block may have.
        tiles: how blocks divide their work.
    """

    name: str
    torch: torch.device
    shared_bytes: int
    tiles: Tiles

    def code(self, source: str, kernels: Sequence[str], dtype: str) -> Code:
        """Compiles kernels that `source` defines, in ``float32`` or ``float64``."""
        ...


def device() -> Device:
    """The simulator where it is switched on, or else the GPU.

    Raises:
        UserError: there is neither; says what is missing.
    """
    if importlib.util.find_spec("numba_cuda") is None:
        raise UserError("engine=cuda: numba-cuda is not installed; expected it, as by pip install odyssey[cuda]")
    from numba.cuda.core import config

    return Simulator() if config.ENABLE_CUDASIM else Gpu()


# The GPU


def ptx(source: str, name: str, dtype: str, compute_capability: tuple[int, int]) -> str:
    """The PTX of one kernel of `source`, under its own name. Needs no GPU."""
    from numba import cuda, types
    from numba.cuda import libdevice

    real = getattr(types, dtype)
    suffix = "f" if dtype == "float32" else ""
    names = {
        "cuda": cuda,
        "TYPE": real,
        "R": real,
        "D": types.float64,
        "I": types.int64,
        "W": types.uint64,
        "U": types.uint64,
        **{function: getattr(math, function) for function in (*_FUNCTIONS, "inf", "nan")},
        **{function: getattr(libdevice, function + suffix) for function in ("cospi", "sinpi")},
    }
    exec(compile(source, f"<{name}>", "exec"), names)  # noqa: S102 (source made here from a graph of named operations)
    arguments = []
    for kind in KERNELS[name].values():
        base, _, form = kind.partition(" ")
        number = real if base == "real" else getattr(types, base)
        arguments.append({"*": types.CPointer, "[]": lambda t: t[::1], "": lambda t: t}[form](number))
    text, _ = cuda.compile(names[name], types.void(*arguments), device=False, abi="numba", cc=compute_capability)
    entry = re.search(r"\.visible \.entry (\w+)", text)
    assert entry is not None
    return text.replace(entry[1], name)


def machine_code(source: str, kernels: Sequence[str], dtype: str, compute_capability: tuple[int, int]) -> bytes:
    """Machine code of kernels for a kind of GPU. Needs no GPU.

    Raises:
        UserError: a library of the compilers is not installed.
    """
    from cuda.pathfinder import DynamicLibNotFoundError
    from numba.cuda.cudadrv.error import NvvmSupportError

    try:
        return assemble([ptx(source, name, dtype, compute_capability) for name in kernels], compute_capability)[0]
    except (DynamicLibNotFoundError, NvvmSupportError) as error:
        reason = str(error).partition("\n")[0]
        expected = "NVVM, NVRTC and nvJitLink, as by pip install odyssey[cuda]"
        raise UserError(f"engine=cuda: a compiler is missing; expected {expected} ({reason})") from error


def assemble(texts: Sequence[str], compute_capability: tuple[int, int]) -> tuple[bytes, str]:
    """Machine code made from PTX, and the assembler's report on registers, spills and shared memory."""
    from cuda.bindings import nvjitlink

    major, minor = compute_capability
    options = [f"-arch=sm_{major}{minor}", f"-maxrregcount={REGISTERS}", "-verbose"]
    linker = nvjitlink.create(len(options), options)
    try:
        for number, text in enumerate(texts):
            data = text.encode()
            nvjitlink.add_data(linker, nvjitlink.InputType.PTX, data, len(data), f"kernel{number}")
        nvjitlink.complete(linker)
        code = bytearray(nvjitlink.get_linked_cubin_size(linker))
        nvjitlink.get_linked_cubin(linker, code)
        report = bytearray(nvjitlink.get_info_log_size(linker))
        nvjitlink.get_info_log(linker, report)
    finally:
        nvjitlink.destroy(linker)
    return bytes(code), report.decode(errors="replace")


class Gpu:
    """The GPU that is torch's current one."""

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
        self.driver = _Driver(self.torch.index)
        self.shared_bytes = self.driver.attribute(_MAX_SHARED_MEMORY_OPTIN)
        self.n_multiprocessors = self.driver.attribute(_MULTIPROCESSORS)

    def code(self, source: str, kernels: Sequence[str], dtype: str) -> "_GpuCode":
        start = time.perf_counter()
        key = f"{_compiler_key()}\0{self.compute_capability}\0{dtype}\0{','.join(kernels)}\0{source}"
        code, cached = code_cache.kept(key, lambda: machine_code(source, kernels, dtype, self.compute_capability))
        return _GpuCode(self, code, cached, start)


@functools.cache
def _compiler_key() -> str:
    """What machine code depends on besides the source."""
    versions = [importlib.metadata.version(name) for name in ("numba", "numba-cuda", "cuda-bindings")]
    own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    return repr((*versions, own))


class _GpuCode:
    def __init__(self, gpu: Gpu, code: bytes, cached: bool, start: float):
        self._gpu, self.cached = gpu, cached
        self._module = gpu.driver.load(code)
        self._functions: dict[str, int] = {}
        self.seconds = time.perf_counter() - start

    def _function(self, kernel: str) -> int:
        if kernel not in self._functions:
            self._functions[kernel] = self._gpu.driver.function(self._module, kernel, self._gpu.shared_bytes)
        return self._functions[kernel]

    def launch(self, kernel: str, grid: int, threads: int, shared_bytes: int, arguments: Sequence[Argument]) -> None:
        if shared_bytes > self._gpu.shared_bytes:
            have = f"{shared_bytes} bytes of shared memory in a block, of which the GPU has {self._gpu.shared_bytes}"
            raise UserError(f"engine=cuda: needs {have}; expected a smaller hidden_size")
        words: list[int] = []
        for kind, argument in zip(KERNELS[kernel].values(), arguments, strict=True):
            if not isinstance(argument, torch.Tensor):
                words.append(argument)
            elif kind.endswith("[]"):
                # How numba passes an array: owner, parent, size, bytes of an item, address, shape, strides.
                size = argument.element_size()
                words += [0, 0, argument.numel(), size, argument.data_ptr(), argument.numel(), size]
            else:
                words.append(argument.data_ptr())
        stream = torch.cuda.current_stream(self._gpu.torch).cuda_stream
        self._gpu.driver.launch(self._function(kernel), grid, threads, shared_bytes, stream, words)

    def resident(self, kernel: str, threads: int, shared_bytes: int) -> int:
        each = self._gpu.driver.occupancy(self._function(kernel), threads, shared_bytes)
        return max(1, each) * self._gpu.n_multiprocessors


_MULTIPROCESSORS = 16  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
_MAX_SHARED_MEMORY_OPTIN = 97  # CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
_MAX_DYNAMIC_SHARED_SIZE = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


class _Driver:
    """The few functions of the CUDA driver that are needed besides torch, in the device's primary context.

    numba-cuda's own launcher cannot raise a kernel's limit of dynamic shared memory above 48 KB.
    """

    def __init__(self, index: int):
        self._library = ctypes.CDLL("libcuda.so.1")
        self._call("cuInit", ctypes.c_uint(0))
        self._device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(self._device), ctypes.c_int(index))
        self._context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(ctypes.c_int(status), ctypes.byref(text))
            raise RuntimeError(f"{name}: {(text.value or b'error').decode()} ({status})")

    def attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(number), self._device)
        return value.value

    def load(self, code: bytes) -> ctypes.c_void_p:
        module = ctypes.c_void_p()
        self._call("cuCtxSetCurrent", self._context)
        self._call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(code))
        return module

    def function(self, module: ctypes.c_void_p, name: str, shared_bytes: int) -> int:
        """A kernel, allowed so much dynamic shared memory."""
        function = ctypes.c_void_p()
        self._call("cuModuleGetFunction", ctypes.byref(function), module, name.encode())
        limit = (ctypes.c_int(_MAX_DYNAMIC_SHARED_SIZE), ctypes.c_int(shared_bytes))
        self._call("cuFuncSetAttribute", function, *limit)
        assert function.value is not None
        return function.value

    def occupancy(self, function: int, threads: int, shared_bytes: int) -> int:
        """Blocks that run at a time on one multiprocessor."""
        blocks = ctypes.c_int()
        place = (ctypes.byref(blocks), ctypes.c_void_p(function), ctypes.c_int(threads), ctypes.c_size_t(shared_bytes))
        self._call("cuOccupancyMaxActiveBlocksPerMultiprocessor", *place)
        return blocks.value

    def launch(
        self, function: int, grid: int, threads: int, shared_bytes: int, stream: int, words: Sequence[int]
    ) -> None:
        values = [ctypes.c_int64(word) for word in words]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        sizes = [ctypes.c_uint(size) for size in (grid, 1, 1, threads, 1, 1, shared_bytes)]
        self._call("cuCtxSetCurrent", self._context)  # torch may call from a thread of its own
        self._call("cuLaunchKernel", ctypes.c_void_p(function), *sizes, ctypes.c_void_p(stream), pointers, None)


# The simulator


# Four threads, as two by two; the smallest block that has neighbours in both directions.
SIMULATED = Tiles(2, 2, ((4, math.inf),))


class Simulator:
    """numba-cuda's simulator: each thread of a block is a thread of Python. For tests, at the smallest sizes."""

    name = "CUDA simulator"
    torch = torch.device("cpu")

    def __init__(self, tiles: Tiles = SIMULATED, shared_bytes: int = 48 * 1024):
        self.tiles, self.shared_bytes = tiles, shared_bytes

    def code(self, source: str, kernels: Sequence[str], dtype: str) -> "_SimulatedCode":
        return _SimulatedCode(source, dtype)


class _SimulatedCode:
    cached = False
    _one_at_a_time = threading.Lock()

    def __init__(self, source: str, dtype: str):
        from numba import cuda

        start = time.perf_counter()
        self._names: dict[str, Any] = {
            "cuda": cuda,
            "TYPE": np.dtype(dtype),
            "R": getattr(np, dtype),
            "D": float,
            **dict.fromkeys(("I", "U", "W"), int),
            **{function: _quiet(getattr(np, function)) for function in _FUNCTIONS},
            "cospi": lambda v: type(v)(math.cos(math.pi * v)),
            "sinpi": lambda v: type(v)(math.sin(math.pi * v)),
            "inf": math.inf,
            "nan": math.nan,
        }
        exec(compile(source, "<kernels>", "exec"), self._names)  # noqa: S102 (source made here from a graph of named operations)
        self.seconds = time.perf_counter() - start

    def launch(self, kernel: str, grid: int, threads: int, shared_bytes: int, arguments: Sequence[Argument]) -> None:
        from numba import cuda
        from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

        shared = [FakeCUDAArray(a.view(-1).numpy()) if isinstance(a, torch.Tensor) else a for a in arguments]
        with self._one_at_a_time:
            interval = sys.getswitchinterval()
            # The simulator waits for its threads in a busy loop.
            sys.setswitchinterval(1e-5)
            try:
                cuda.jit(self._names[kernel])[grid, threads, 0, shared_bytes](*shared)
            finally:
                sys.setswitchinterval(interval)

    def resident(self, kernel: str, threads: int, shared_bytes: int) -> int:
        return 2


def _quiet(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """The function without warnings of overflow, as on a GPU."""

    def called(value: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(value)

    return called


def stream(on: torch.device) -> Any:
    """A context in which work goes to a stream of its own."""
    return torch.cuda.stream(torch.cuda.Stream(on)) if on.type == "cuda" else nullcontext()
