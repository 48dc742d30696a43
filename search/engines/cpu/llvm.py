"""Emitting LLVM IR for vectors: the host's vector shape, and an IRBuilder that thinks in vectors and loops."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import llvmlite.binding as binding
from llvmlite import ir

INT = ir.IntType(64)
INT32 = ir.IntType(32)
POINTER = ir.PointerType()
DOUBLE = ir.DoubleType()
VOID = ir.VoidType()

# Every row of every buffer starts on a cache line, whatever the width of a vector.
LINE_BYTES = 64
# The bits of x86's control word by which denormal operands and results count as zero.
_FLUSH = 0x8040
# Rows of a matrix product are computed in tiles; buffers have room for a whole last tile.
ROW_TILE = 8


@dataclass(frozen=True)
class Target:
    """What code is generated for: a number type and the machine's vectors.

    Attributes:
        dtype: ``float32`` or ``float64``.
        vector_bytes, n_registers: size and number of the vector registers.
        x86: whether it is an x86 processor.
    """

    dtype: str
    vector_bytes: int
    n_registers: int
    x86: bool

    @staticmethod
    @cache
    def host(dtype: str) -> "Target":
        """This machine's."""
        features = binding.get_host_cpu_features()
        x86 = binding.get_process_triple().startswith(("x86_64", "i686"))
        if features.get("avx512f"):
            return Target(dtype, 64, 32, x86)
        if features.get("avx"):
            return Target(dtype, 32, 16, x86)
        return Target(dtype, 16, 16 if x86 else 32, x86)

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return 4 if self.dtype == "float32" else 8

    @property
    def lanes(self) -> int:
        """Numbers in a vector."""
        return self.vector_bytes // self.itemsize

    @cached_property
    def real(self) -> ir.Type:
        return ir.FloatType() if self.dtype == "float32" else DOUBLE

    @cached_property
    def vector(self) -> ir.VectorType:
        return ir.VectorType(self.real, self.lanes)

    def integers(self, bits: int) -> ir.VectorType:
        """As many integers as a vector has lanes."""
        return ir.VectorType(ir.IntType(bits), self.lanes)


class Builder(ir.IRBuilder):
    """An IRBuilder for one `Target`. Offsets, counts and strides are in numbers, not bytes."""

    def __init__(self, target: Target, function: ir.Function):
        super().__init__(function.append_basic_block("entry"))
        self.target = target

    # Constants

    def const(self, value: int) -> ir.Constant:
        return ir.Constant(INT, value)

    def splat(self, value: float | ir.Value) -> ir.Value:
        """A vector of one number, constant or not."""
        vector = self.target.vector
        if not isinstance(value, ir.Value):
            return ir.Constant(vector, [float(value)] * vector.count)
        return self.broadcast(value, vector)

    def broadcast(self, value: ir.Value, vector: ir.VectorType) -> ir.Value:
        undefined = ir.Constant(vector, ir.Undefined)
        one = self.insert_element(undefined, value, ir.Constant(INT32, 0))
        return self.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(INT32, vector.count), [0] * vector.count))

    def same(self, like: ir.Value, value: int | float) -> ir.Constant:
        """A vector of one constant, of the type of `like`."""
        return ir.Constant(like.type, [value] * like.type.count)

    # Memory

    def at(self, pointer: ir.Value, offset: ir.Value | int) -> ir.Value:
        """Address of number `offset` from `pointer`."""
        offset = self.const(offset) if isinstance(offset, int) else offset
        return self.gep(pointer, [offset], source_etype=self.target.real)

    def read(self, pointer: ir.Value, offset: ir.Value | int = 0) -> ir.Value:
        """A vector from memory, aligned to a number."""
        return self.load(self.at(pointer, offset), typ=self.target.vector, align=self.target.itemsize)

    def read_one(self, pointer: ir.Value, offset: ir.Value | int = 0) -> ir.Value:
        return self.load(self.at(pointer, offset), typ=self.target.real, align=self.target.itemsize)

    def write(self, value: ir.Value, pointer: ir.Value, offset: ir.Value | int = 0) -> None:
        self.store(value, self.at(pointer, offset), align=self.target.itemsize)

    def write_where(self, mask: ir.Value, value: ir.Value, pointer: ir.Value, offset: ir.Value | int = 0) -> None:
        """Writes the lanes of a vector for which `mask` holds."""
        kind = self.target.vector
        name = f"llvm.masked.store.{_mangled(kind)}.p0"
        signature = ir.FunctionType(VOID, [kind, POINTER, INT32, mask.type])
        align = ir.Constant(INT32, self.target.itemsize)
        self.call(self._declared(name, signature), [value, self.at(pointer, offset), align, mask])

    def prefetch(self, pointer: ir.Value, offset: ir.Value) -> None:
        """Starts to bring the cache line of an address near, to be written."""
        signature = ir.FunctionType(VOID, [POINTER, INT32, INT32, INT32])
        write, locality, data = (ir.Constant(INT32, value) for value in (1, 3, 1))
        self.call(self._declared("llvm.prefetch.p0", signature), [self.at(pointer, offset), write, locality, data])

    # Control

    def loop(
        self,
        start: ir.Value | int,
        stop: ir.Value,
        step: int,
        body: Callable[..., Sequence[ir.Value] | None],
        carried: Sequence[ir.Value] = (),
    ) -> list[ir.Value]:
        """``for i in range(start, stop, step): carried = body(i, *carried)``; returns the last `carried`."""
        start = self.const(start) if isinstance(start, int) else start
        before = self.block
        head, inside, after = (self.append_basic_block(name) for name in ("loop", "body", "after"))
        self.branch(head)
        self.position_at_end(head)
        i = self.phi(INT)
        i.add_incoming(start, before)
        values = [self.phi(value.type) for value in carried]
        for phi, value in zip(values, carried, strict=True):
            phi.add_incoming(value, before)
        self.cbranch(self.icmp_signed("<", i, stop), inside, after)
        self.position_at_end(inside)
        updated = body(i, *values) or ()
        for phi, value in zip(values, updated, strict=True):
            phi.add_incoming(value, self.block)
        i.add_incoming(self.add(i, self.const(step)), self.block)
        self.branch(head)
        self.position_at_end(after)
        return values

    def first_lanes(self, count: ir.Value) -> ir.Value:
        """A mask of the lanes below `count`, all of them where it is larger."""
        lanes = self.target.integers(64)
        index = ir.Constant(lanes, list(range(lanes.count)))
        return self.icmp_signed("<", index, self.broadcast(count, lanes))

    def flush_denormals(self) -> Callable[[], None]:
        """Makes this thread take float32 denormals for zero, for their arithmetic is many times slower.

        They come up wherever a velocity or a gradient fades away. Returns what emits the way back.
        """
        if self.target.dtype == "float64" or not self.target.x86:
            return lambda: None
        signature = ir.FunctionType(VOID, [POINTER])
        read, write = (self._declared(f"llvm.x86.sse.{name}mxcsr", signature) for name in ("st", "ld"))
        before, now = self.alloca(INT32), self.alloca(INT32)
        self.call(read, [before])
        self.store(self.or_(self.load(before, typ=INT32), ir.Constant(INT32, _FLUSH)), now)
        self.call(write, [now])
        return lambda: self.call(write, [before])

    # Arithmetic

    def madd(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """``a * b + c``, fused where the machine can."""
        return self._intrinsic("fmuladd", a, b, c)

    def unary(self, name: str, a: ir.Value) -> ir.Value:
        """LLVM's intrinsic `name` (``sqrt``, ``fabs``, ``exp``, ``log``, ``cos``, ...), lane by lane."""
        return self._intrinsic(name, a)

    def sum_lanes(self, vector: ir.Value) -> ir.Value:
        """The sum of a vector's lanes, in a fixed order."""
        while vector.type.count > 1:
            vector = self.fold([vector])
        return self.extract_element(vector, ir.Constant(INT32, 0))

    def fold(self, vectors: list[ir.Value]) -> ir.Value:
        """Adds neighbouring lanes: of one vector to one of half the length, of two to one that joins the halves."""
        count = vectors[0].type.count
        second = vectors[-1]
        length = count * len(vectors) // 2
        picks = [
            ir.Constant(ir.VectorType(INT32, length), [2 * i + offset for i in range(length)]) for offset in (0, 1)
        ]
        even, odd = (self.shuffle_vector(vectors[0], second, pick) for pick in picks)
        return self.fadd(even, odd)

    def _intrinsic(self, name: str, *args: ir.Value) -> ir.Value:
        kind = args[0].type
        return self.call(
            self._declared(f"llvm.{name}.{_mangled(kind)}", ir.FunctionType(kind, [kind] * len(args))), args
        )

    def _declared(self, name: str, signature: ir.FunctionType) -> ir.Function:
        return self.module.globals.get(name) or ir.Function(self.module, signature, name)


def _mangled(kind: ir.Type) -> str:
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{_mangled(kind.element)}"
    return {ir.FloatType(): "f32", DOUBLE: "f64"}[kind]
