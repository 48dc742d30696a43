"""A device for the CUDA engine that runs its kernels on the CPU, thread by thread.

The source that NVRTC compiles for a GPU is compiled by g++ after another prelude. The threads of a block, as many as on
a GPU, are fibers that run from barrier to barrier; the blocks of a grid take turns. A launch stops at the first of

- a race: an access to a number that another thread wrote, or a write to one that another thread read, with no barrier
  between; between blocks, with or without one. Accesses by atomics are no race among themselves;
- a read of a number that nobody wrote, in shared memory or in memory from `Emulator.empty`;
- an access out of the bounds of shared memory, or of a tensor;
- threads that wait at different barriers, or for a thread that has ended.

What it cannot find: what only a GPU's weaker order of memory, or its compiler, would do.
"""

import ctypes
import hashlib
import itertools
import os
import platform
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import torch

from search.base import files
from search.engines.cuda import layout
from search.engines.cuda.device import Argument
from search.engines.cuda.layout import HARDWARE, Tiles
from search.engines.cuda.source import KERNELS

HERE = Path(__file__).parent
_POISON = 0x7FA5A5A57FA5A5A5
_REAL = {"float32": "float", "float64": "double"}


def installed() -> bool:
    """Whether there is what the emulator needs: g++, and a processor whose stacks the runtime can switch."""
    return shutil.which("g++") is not None and platform.machine() == "x86_64"


class Finding(Exception):
    """What the emulator stopped at: what it is, and the lines of the source."""


class Emulator:
    """The device.

    Args:
        checked: whether accesses are checked, or else only run, faster.
        shared_bytes: shared memory of a block.
        tiles: how blocks divide their work.
        blocks: that are resident at a time.
        order: of the threads between two barriers: 0 rising, 1 falling, more: of that seed.

    Attributes:
        turns: barriers that blocks came to, in all launches.
    """

    name = "emulator"

    def __init__(
        self,
        checked: bool = True,
        shared_bytes: int = 227 * 1024,
        tiles: Tiles = HARDWARE,
        blocks: int = 2,
        order: int = 0,
    ):
        self.checked, self.shared_bytes, self.tiles, self.blocks, self.order = (
            checked,
            shared_bytes,
            tiles,
            blocks,
            order,
        )
        self.torch, self.turns = torch.device("cpu"), 0

    def code(self, source: str, kernels: Sequence[str], dtype: str, threads: int) -> "EmulatedCode":
        return EmulatedCode(self, source, kernels, dtype, threads)

    def empty(self, size: int, dtype: torch.dtype) -> torch.Tensor:
        tensor = torch.empty(size, dtype=dtype)
        whole = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.itemsize]
        tensor.view(whole).fill_(_POISON & (1 << 8 * tensor.itemsize) - 1)
        return tensor


class _Memory(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_int64),
        ("shadow", ctypes.c_void_p),
    )


class _Argument(ctypes.Structure):
    _fields_ = (("memory", _Memory), ("word", ctypes.c_int64))


class EmulatedCode:
    """Kernels in a shared library."""

    _one_at_a_time = threading.Lock()

    def __init__(
        self,
        device: Emulator,
        source: str,
        kernels: Sequence[str],
        dtype: str,
        threads: int,
        signatures: Mapping[str, Mapping[str, str]] = KERNELS,
    ):
        start = time.perf_counter()
        self._device, self._threads, self._word = device, threads, torch.empty(0, dtype=getattr(torch, dtype)).itemsize
        self.source, self._signatures = source, signatures
        defined = [f"-DREAL={_REAL[dtype]}", f"-DTHREADS={threads}", *(["-DCHECKED"] if device.checked else [])]
        prelude = ["-include", str(HERE / "prelude.h"), "-fno-strict-aliasing"]
        options = [*defined, *prelude, "-Og" if device.checked else "-O2"]
        self._runtime = _runtime()
        self._runtime.emulator_launch.restype = ctypes.c_char_p
        path, self.cached = _kept(source + _entries(kernels, signatures), options)
        self._library = ctypes.CDLL(str(path))
        self.seconds = time.perf_counter() - start

    def launch(self, kernel: str, grid: int, shared_bytes: int, arguments: Sequence[Argument]) -> None:
        """Raises Finding."""
        given = (_Argument * len(arguments))()
        sizes = {"real": self._word, "int": 4, "int64": 8, "double": 8}
        for slot, (name, kind), value in zip(given, self._signatures[kernel].items(), arguments, strict=True):
            if isinstance(value, torch.Tensor):
                item = sizes.get(kind.partition("<")[2][:-1]) or _record_bytes(kind)
                slot.memory = _Memory(name.encode(), value.data_ptr(), value.numel() * value.itemsize // item)
            else:
                slot.word = value
        turns = ctypes.c_int64()
        entry = getattr(self._library, f"enter_{kernel}")
        shape = (len(given), int(self._device.checked), grid, self._threads, ctypes.c_int64(shared_bytes), self._word)
        with self._one_at_a_time:
            found = self._runtime.emulator_launch(entry, given, *shape, self._device.order, ctypes.byref(turns))
            self._device.turns += turns.value
        if found:
            raise Finding(self._told(found.decode()))

    def resident(self, kernel: str, shared_bytes: int) -> int:
        return self._device.blocks

    def _told(self, found: str) -> str:
        what, *numbers = found.split("|")
        lines = self.source.splitlines()
        shown = [f"  line {n}: {lines[n - 1].strip()}" if n > 0 else "  the end" for n in map(int, numbers) if n]
        return "\n".join([what, *shown])


def _record_bytes(kind: str) -> int:
    """Of a record, by an argument's type, as ``Read<Job>``."""
    return int(getattr(layout, kind.partition("<")[2][:-1].upper()).itemsize)


def _entries(kernels: Sequence[str], signatures: Mapping[str, Mapping[str, str]]) -> str:
    """A function for each kernel that takes its arguments as the runtime has them."""
    text = ""
    for kernel in kernels:
        values = [
            f"argument<{kind.replace('Read<', 'const ').replace('Write<', '')[:-1]}>(a[{k}])"
            if "<" in kind
            else f"a[{k}].word"
            for k, kind in enumerate(signatures[kernel].values())
        ]
        text += f'extern "C" void enter_{kernel}(Argument *a) {{ {kernel}({", ".join(values)}); }}\n'
    return text


_numbers = itertools.count()


@cache
def _runtime() -> ctypes.CDLL:
    """What runs the threads, once in the process: it keeps their stacks."""
    path, _ = _kept((HERE / "runtime.cpp").read_text(), ["-O2"])
    return ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)


def _kept(source: str, options: Sequence[str]) -> tuple[Path, bool]:
    """A shared library, and whether it was there; libraries are kept for all runs of the tests."""
    folder = files.trusted_folder(Path(tempfile.gettempdir()), f"odyssey-emulator-{os.getuid()}")
    headers = [(HERE / name).read_text() for name in ("prelude.h", "runtime.h")]
    path = folder / f"{_digest(source, *options, *headers)}.so"
    cached = path.exists()
    if not cached:
        part, text = (path.with_suffix(f".{os.getpid()}.{next(_numbers)}.{kind}") for kind in ("part", "cpp"))
        text.write_text(source)
        always = [
            "-std=c++17",
            "-Wall",
            "-Wno-unknown-pragmas",
            "-Wno-unused",
            "-Werror",
            "-shared",
            "-fPIC",
            f"-I{HERE}",
        ]
        done = subprocess.run(["g++", *always, *options, str(text), "-o", str(part)], capture_output=True, text=True)
        text.unlink()
        if done.returncode:
            raise RuntimeError(done.stderr[:4000])
        part.replace(path)
    return path, cached


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]
