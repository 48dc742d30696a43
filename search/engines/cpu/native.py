"""LLVM modules to machine code for this CPU."""

import ctypes
import ctypes.util
import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import llvmlite
import llvmlite.binding as binding
from llvmlite import ir

from search import expression, losses
from search.base import randomness
from search.cells import trace as cell_trace
from search.engines import code_cache, plan
from search.rules import trace as rule_trace


@cache
def compiler_key() -> str:
    """What compiled code depends on besides the cell: what makes code of it, LLVM, and this CPU."""
    digest = hashlib.sha256()
    others = [Path(str(module.__file__)) for module in (expression, losses, randomness, cell_trace, rule_trace, plan)]
    for path in [*sorted(Path(__file__).parent.glob("*.py")), *others]:
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
    return code_cache.kept(f"{compiler_key()}\0{key}", lambda: _compile(make()))


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
