"""An update rule, printed from its program: the update of vectors, and of a matrix as its gradient is computed.

Slots lie behind the weights: slot j of a weight is `distance` (j + 1) numbers further on.
"""

from llvmlite import ir

from search.engines.cpu import routines, vector_math
from search.engines.cpu.llvm import Builder, Target
from search.expression import Node
from search.rules.trace import Program

NAMES = ("update", "gemm_update")


def rule_module(program: Program, target: Target) -> ir.Module:
    """A module that defines the kernels `NAMES`, to be linked with the library and a cell."""
    module = ir.Module("rule")
    functions = routines.declare(module, target)
    _update(Builder(target, functions["update"]), program)
    _gemm_update(Builder(target, functions["gemm_update"]), program)
    return module


def _update(b: Builder, program: Program) -> None:
    """Updates w with the gradient g [size], a whole number of vectors; sets g to zero."""
    w, g, size, distance, shared = b.function.args
    step = _Step(b, program, w, distance, shared)

    def body(at: ir.Value) -> None:
        step(b.read(g, at), at)
        b.write(b.splat(0.0), g, at)

    b.loop(0, size, b.target.lanes, body)
    b.ret_void()


def _gemm_update(b: Builder, program: Program) -> None:
    """Updates w with the gradient a^T @ d, which is never in memory."""
    w, stride, a, a_stride, d, d_stride, rows, depth, vectors, distance, shared = b.function.args
    step = _Step(b, program, w, distance, shared)
    matrices = (stride, a, a_stride, d, d_stride, rows, depth, vectors)
    routines.transposed_gemm(b, step.prefetch, step, *matrices)


class _Step:
    """The update of one vector of weights."""

    def __init__(self, b: Builder, program: Program, w: ir.Value, distance: ir.Value, shared: ir.Value):
        self._b, self._program = b, program
        self._shared = [b.splat(b.read_one(shared, k)) for k in range(len(program.shared))]
        self._arrays = [b.at(w, b.mul(distance, b.const(j))) for j in range(len(program.slots) + 1)]

    def prefetch(self, at: ir.Value) -> None:
        for array in self._arrays:
            self._b.prefetch(array, at)

    def __call__(self, gradient: ir.Value, at: ir.Value) -> None:
        b, program = self._b, self._program

        def leaf(node: Node) -> ir.Value:
            match node.op:
                case "gradient":
                    return gradient
                case "weight":
                    return b.read(self._arrays[0], at)
            return b.read(self._arrays[1 + program.slots.index(node.name)], at)

        shared = dict(zip(program.shared, self._shared, strict=True))
        results = (program.weight, *program.new)
        values = vector_math.evaluated(b, program.nodes, program.own, results, leaf, shared)
        for array, index in reversed(list(zip(self._arrays, (program.weight, *program.new), strict=True))):
            b.write(values[index], array, at)
