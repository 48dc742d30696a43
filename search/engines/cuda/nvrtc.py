"""CUDA C++ to machine code by NVRTC, NVIDIA's compiler as a library. Needs no GPU."""

import functools
import re
from dataclasses import dataclass
from typing import Any

from search.engines import code_cache
from search.engines.cuda.source import library
from search.errors import UserError

_INSTALL = "as by pip install odyssey[cuda]"
_REAL = {"float32": "float", "float64": "double"}


@dataclass(frozen=True)
class Usage:
    """What a kernel takes of a multiprocessor: registers of a thread, and bytes of it that are in local memory, for
    arrays (`stack`) and for want of registers (`spilled`)."""

    registers: int
    stack: int
    spilled: int


def machine_code(source: str, dtype: str, threads: int, compute_capability: tuple[int, int]) -> tuple[bytes, bool]:
    """Machine code of the kernels of a source for a kind of GPU, and whether it was in the cache.

    Raises:
        UserError: the compiler is not installed.
    """
    options = _options(dtype, threads, compute_capability)
    text = library("prelude") + source
    return code_cache.kept("\0".join([_version(), *options, text]), lambda: _compiled(text, options)[0])


def usage(source: str, dtype: str, threads: int, compute_capability: tuple[int, int]) -> dict[str, Usage]:
    """What each kernel of a source takes, as the assembler reports it."""
    options = [*_options(dtype, threads, compute_capability), "--ptxas-options=-v"]
    log = _compiled(library("prelude") + source, options)[1]
    pattern = (
        r"entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+).*?Used (\d+) registers"
    )
    found = re.findall(pattern, log, re.DOTALL)
    return {name: Usage(int(used), int(stack), int(out) + int(back)) for name, stack, out, back, used in found}


def _options(dtype: str, threads: int, compute_capability: tuple[int, int]) -> list[str]:
    major, minor = compute_capability
    defined = [f"--define-macro=REAL={_REAL[dtype]}", f"--define-macro=THREADS={threads}"]
    return [f"--gpu-architecture=sm_{major}{minor}", "--std=c++17", *defined]


@functools.cache
def _library() -> Any:
    try:
        from cuda.bindings import nvrtc
        from cuda.pathfinder import DynamicLibNotFoundError
    except ImportError as error:
        raise UserError(f"engine=cuda: cuda-bindings is not installed; expected it, {_INSTALL}") from error
    try:
        nvrtc.nvrtcVersion()
    except (DynamicLibNotFoundError, RuntimeError) as error:
        raise UserError(f"engine=cuda: the compiler NVRTC is not installed; expected it, {_INSTALL}") from error
    return nvrtc


def _call(function: str, *arguments: Any) -> Any:
    nvrtc = _library()
    status, *values = getattr(nvrtc, function)(*arguments)
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(f"{function}: {status.name}")
    return values[0] if len(values) == 1 else values


def _version() -> str:
    return "NVRTC {}.{}".format(*_call("nvrtcVersion"))


def _compiled(text: str, options: list[str]) -> tuple[bytes, str]:
    """Machine code, and what the compiler said."""
    program = _call("nvrtcCreateProgram", text.encode(), b"kernels.cu", 0, [], [])
    try:
        words = [option.encode() for option in options]
        failed = _library().nvrtcCompileProgram(program, len(words), words)[0]
        log = bytearray(_call("nvrtcGetProgramLogSize", program))
        _call("nvrtcGetProgramLog", program, log)
        if failed != _library().nvrtcResult.NVRTC_SUCCESS:
            raise RuntimeError(f"{failed.name}: {log.decode(errors='replace')}")
        code = bytearray(_call("nvrtcGetCUBINSize", program))
        _call("nvrtcGetCUBIN", program, code)
    finally:
        _call("nvrtcDestroyProgram", program)
    return bytes(code), log.decode(errors="replace")
