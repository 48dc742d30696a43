"""LLVM modules to machine code for this CPU, through a cache on disk.

A cache file is the SHA-256 of its content followed by the content, an object file. What does not match its checksum
is compiled anew and never executed.
"""

import contextlib
import ctypes
import ctypes.util
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import llvmlite
import llvmlite.binding as binding
from llvmlite import ir

from search import files

_CHECKSUM_BYTES = 32


def cache_folder() -> Path:
    """Where compiled code is kept: ``$ODYSSEY_CACHE/kernels``, by default under ``~/.cache/odyssey``."""
    root = os.environ.get("ODYSSEY_CACHE") or Path.home() / ".cache" / "odyssey"
    return Path(root) / "kernels"


@cache
def compiler_key() -> str:
    """What compiled code depends on besides the cell: what makes code of it, LLVM, and this CPU."""
    digest = hashlib.sha256()
    compiler = Path(__file__).parent
    others = [compiler.parent / f"{name}.py" for name in ("expression", "losses", "randomness")]
    for path in [*sorted(compiler.glob("*.py")), *others]:
        digest.update(path.read_bytes())
    host = (binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten(), binding.get_process_triple())
    digest.update(repr((llvmlite.__version__, binding.llvm_version_info, *host)).encode())
    return digest.hexdigest()


def object_code(key: str, make: Callable[[], ir.Module]) -> tuple[bytes, bool]:
    """The object code of a module, from the cache or compiled now.

    Args:
        key: what the module is made from; equal keys must mean equal modules.
        make: makes the module.

    Returns:
        the object file, and whether it was in the cache
    """
    path = cache_folder() / hashlib.sha256(f"{compiler_key()}\0{key}".encode()).hexdigest()
    cached = read_cached(path)
    if cached is not None:
        return cached, True
    code = _compile(make())
    write_cached(path, code)
    return code, False


class Code:
    """Object files, loaded and linked. They stay loaded as long as this lives."""

    def __init__(self, objects: Sequence[bytes]):
        _initialize()
        self._engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _machine())
        for data in objects:
            self._engine.add_object_file(binding.ObjectFileRef.from_data(data))
        self._engine.finalize_object()

    def function(self, name: str) -> Callable[[int], int]:
        """A function ``int name(void *)``. Calling it releases the GIL."""
        return ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(self._engine.get_function_address(name))


@cache
def _initialize() -> None:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    # Symbols that compiled code may call are found in the process; libm need not be among them.
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    for name in ("exp", "log", "sin", "cos", "tanh"):
        binding.add_symbol(name, ctypes.cast(getattr(libm, name), ctypes.c_void_p).value)


def _machine() -> binding.TargetMachine:
    return binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=binding.get_host_cpu_features().flatten(),
        opt=3,
        codemodel="jitdefault",
        jit=True,
    )


def _compile(module: ir.Module) -> bytes:
    _initialize()
    machine = _machine()
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    # The source is in vectors and tiles already.
    options = binding.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    passes = binding.create_pass_builder(machine, options)
    passes.getModulePassManager().run(parsed, passes)
    return machine.emit_object(parsed)


def read_cached(path: Path) -> bytes | None:
    """The content of a cache file, or None unless it is whole and only this user can have written it."""
    try:
        folder = path.parent.stat()
        if folder.st_uid != os.getuid() or folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return None  # others may have written it
        data = path.read_bytes()
    except OSError:
        return None
    checksum, code = data[:_CHECKSUM_BYTES], data[_CHECKSUM_BYTES:]
    return code if checksum == hashlib.sha256(code).digest() else None


def write_cached(path: Path, code: bytes) -> None:
    """Writes a cache file with its checksum."""
    # Without a cache the engine still works, only slower to start; a folder that cannot be written is no error.
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(path, hashlib.sha256(code).digest() + code)
