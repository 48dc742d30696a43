"""Numbers too small for their type: a mantissa in [1, 2), or 0, and a power of two.

The powers are integers of the width of the mantissas.
"""

import math
from collections.abc import Sequence

from llvmlite import ir

from search.engines.cpu import vector_math
from search.engines.cpu.llvm import INT, Builder

# The power of a zero: what is below half of it is zero as well, so that sums of a few stay below all others.
NEVER = -(2**26)
# The smallest logarithm of a probability: of that, two thousand steps in a row are above zero still.
_LEAST = -1e4
Pair = tuple[ir.Value, ir.Value]


def _format(b: Builder) -> tuple[int, int]:
    """Bits of the fraction, and bias of the exponent, of the number type."""
    return (23, 127) if b.target.dtype == "float32" else (52, 1023)


def word(b: Builder) -> ir.IntType:
    return ir.IntType(8 * b.target.itemsize)


def integers(b: Builder, value: int) -> ir.Constant:
    kind = b.target.integers(8 * b.target.itemsize)
    return ir.Constant(kind, [value] * kind.count)


def broadcast_integer(b: Builder, value: ir.Value) -> ir.Value:
    given = value if word(b) == INT else b.trunc(value, word(b))
    return b.broadcast(given, b.target.integers(8 * b.target.itemsize))


def lowest(b: Builder) -> int:
    """Power of the smallest normal number."""
    return 1 - _format(b)[1]


def read_integers(b: Builder, pointer: ir.Value, offset: ir.Value) -> ir.Value:
    kind = b.target.integers(8 * b.target.itemsize)
    return b.load(b.at(pointer, offset), typ=kind, align=b.target.itemsize)


def write_integers(b: Builder, value: ir.Value, pointer: ir.Value, offset: ir.Value) -> None:
    b.store(value, b.at(pointer, offset), align=b.target.itemsize)


def read_one(b: Builder, pointer: ir.Value, offset: ir.Value) -> ir.Value:
    value = b.load(b.at(pointer, offset), typ=word(b), align=b.target.itemsize)
    return value if word(b) == INT else b.sext(value, INT)


def write_one(b: Builder, value: ir.Value, pointer: ir.Value, offset: ir.Value) -> None:
    given = value if word(b) == INT else b.trunc(value, word(b))
    b.store(given, b.at(pointer, offset), align=b.target.itemsize)


def read(b: Builder, pair: Pair, offset: ir.Value) -> Pair:
    return b.read(pair[0], offset), read_integers(b, pair[1], offset)


def write(b: Builder, value: Pair, pair: Pair, offset: ir.Value) -> None:
    b.write(value[0], pair[0], offset)
    write_integers(b, value[1], pair[1], offset)


def power_of_two(b: Builder, power: ir.Value) -> ir.Value:
    fraction, bias = _format(b)
    return b.bitcast(b.shl(b.add(power, b.same(power, bias)), b.same(power, fraction)), b.target.vector)


def at_least(b: Builder, value: ir.Value, low: int) -> ir.Value:
    floor = b.same(value, low)
    return b.select(b.icmp_signed("<", value, floor), floor, value)


def _normal(b: Builder, mantissa: ir.Value, power: ir.Value) -> Pair:
    """The same number with its mantissa in [1, 2), or zero."""
    fraction, bias = _format(b)
    bits = b.bitcast(mantissa, power.type)
    more = b.sub(b.ashr(bits, b.same(bits, fraction)), b.same(bits, bias))
    scaled = b.bitcast(b.sub(bits, b.shl(more, b.same(bits, fraction))), b.target.vector)
    gone = b.icmp_signed("<", power, b.same(power, NEVER // 2))
    zero = b.or_(gone, b.fcmp_ordered("==", mantissa, b.splat(0.0)))
    power = b.select(zero, b.same(power, NEVER), b.add(power, more))
    return b.select(zero, b.splat(0.0), scaled), power


def add(b: Builder, terms: Sequence[Pair]) -> Pair:
    largest = terms[0][1]
    for _, power in terms[1:]:
        largest = b.select(b.icmp_signed(">", power, largest), power, largest)
    total = b.splat(0.0)
    for mantissa, power in terms:
        total = b.madd(mantissa, power_of_two(b, at_least(b, b.sub(power, largest), lowest(b))), total)
    return _normal(b, total, largest)


def multiply(b: Builder, one: Pair, other: Pair) -> Pair:
    return _normal(b, b.fmul(one[0], other[0]), b.add(one[1], other[1]))


def exp(b: Builder, x: ir.Value) -> Pair:
    """exp of x <= 0."""
    x = vector_math.clamp(b, x, _LEAST, 0.0)
    if b.target.dtype == "float32":
        mantissa, power = vector_math.exp_parts(b, x)
    else:
        turns = b.unary("rint", b.fmul(x, b.splat(math.log2(math.e))))
        rest = b.madd(
            turns, b.splat(-1.90821492927058770002e-10), b.madd(turns, b.splat(-6.93147180369123816490e-01), x)
        )
        mantissa, power = b.unary("exp", rest), b.fptosi(turns, b.target.integers(64))
    return _normal(b, mantissa, power)
