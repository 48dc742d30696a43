"""Elementary functions on vectors.

In float32 they are polynomials, after the Cephes library (Moshier) and Eigen, good to a few units in the last place.
In float64 they are libm's: there, exactness is the point. Every function hands NaN on, so that divergence shows.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from llvmlite import ir

from search.engines.cpu.llvm import Builder
from search.expression import Node

# Adding this to a float32 below 2^22 leaves its nearest integer in the low bits of the sum.
_ROUNDER = 1.5 * 2.0**23


def polynomial(b: Builder, x: ir.Value, coefficients: Sequence[float]) -> ir.Value:
    """The polynomial with these coefficients, that of the highest power first."""
    total = b.splat(coefficients[0])
    for coefficient in coefficients[1:]:
        total = b.madd(total, x, b.splat(coefficient))
    return total


def clamp(b: Builder, x: ir.Value, low: float, high: float) -> ir.Value:
    """`x` within [low, high]; NaN stays NaN."""
    x = b.select(b.fcmp_ordered("<", x, b.splat(low)), b.splat(low), x)
    return b.select(b.fcmp_ordered(">", x, b.splat(high)), b.splat(high), x)


def relu(b: Builder, x: ir.Value) -> ir.Value:
    return b.select(b.fcmp_ordered("<", x, b.splat(0.0)), b.splat(0.0), x)


def positive(b: Builder, x: ir.Value) -> ir.Value:
    return b.select(b.fcmp_ordered(">", x, b.splat(0.0)), b.splat(1.0), b.splat(0.0))


def maximum(b: Builder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.select(b.fcmp_unordered("uno", y, y), y, b.select(b.fcmp_unordered(">", x, y), x, y))


def minimum(b: Builder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.select(b.fcmp_unordered("uno", y, y), y, b.select(b.fcmp_unordered("<", x, y), x, y))


def where(b: Builder, condition: ir.Value, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.select(b.fcmp_ordered(">", condition, b.splat(0.0)), x, y)


def exp(b: Builder, x: ir.Value) -> ir.Value:
    if b.target.dtype == "float64":
        return b.unary("exp", x)
    # The scale is applied in two halves, so that results reach from the smallest number to infinity.
    mantissa, power = exp_parts(b, clamp(b, x, -104.0, 89.0))
    half = b.ashr(power, b.same(power, 1))
    return b.fmul(b.fmul(mantissa, _power_of_two(b, half)), _power_of_two(b, b.sub(power, half)))


def sigmoid(b: Builder, x: ir.Value) -> ir.Value:
    one = b.splat(1.0)
    return b.fdiv(one, b.fadd(one, _exp_normal(b, b.fneg(x))))


def tanh(b: Builder, x: ir.Value) -> ir.Value:
    """In float32 the rational minimax of Eigen, odd by construction, so exact in relation to x near 0."""
    if b.target.dtype == "float64":
        return b.unary("tanh", x)
    x = clamp(b, x, -7.90531110763549805, 7.90531110763549805)
    square = b.fmul(x, x)
    above: tuple[float, ...] = (
        -2.76076847742355e-16,
        2.00018790482477e-13,
        -8.60467152213735e-11,
        5.12229709037114e-08,
    )
    above += (1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03)
    below = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
    return b.fdiv(b.fmul(x, polynomial(b, square, above)), polynomial(b, square, below))


def exp_of_minus_abs(b: Builder, x: ir.Value) -> ir.Value:
    """exp(-\\|x\\|)"""
    return _exp_normal(b, b.fneg(b.unary("fabs", x)))


def log(b: Builder, x: ir.Value) -> ir.Value:
    """In float32 denormal numbers count as zero."""
    if b.target.dtype == "float64":
        return b.unary("log", x)
    log = log_of_normal(b, x)
    log = b.select(b.fcmp_ordered("<", x, b.splat(2.0**-126)), b.splat(-math.inf), log)
    log = b.select(b.fcmp_ordered("<", x, b.splat(0.0)), b.splat(math.nan), log)
    return b.select(b.fcmp_ordered("<", x, b.splat(math.inf)), log, x)  # inf, and NaN, as they are


def log_of_normal(b: Builder, x: ir.Value) -> ir.Value:
    """log of positive normal numbers."""
    if b.target.dtype == "float64":
        return b.unary("log", x)
    # x = m 2^e with m in [sqrt(1/2), sqrt(2)): the bits above those of sqrt(1/2) count the power.
    bits = b.bitcast(x, b.target.integers(32))
    power = b.ashr(b.sub(bits, b.same(bits, 0x3F3504F3)), b.same(bits, 23))
    mantissa = b.bitcast(b.sub(bits, b.shl(power, b.same(bits, 23))), b.target.vector)
    e = b.sitofp(power, b.target.vector)
    m = b.fsub(mantissa, b.splat(1.0))
    square = b.fmul(m, m)
    series: tuple[float, ...] = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1)
    series += (-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)
    tail = b.fmul(b.fmul(m, square), polynomial(b, m, series))
    tail = b.madd(e, b.splat(-2.12194440e-4), tail)
    tail = b.madd(square, b.splat(-0.5), tail)
    return b.madd(e, b.splat(0.693359375), b.fadd(m, tail))


def cos_sin_of_turns(b: Builder, turns: ir.Value) -> tuple[ir.Value, ir.Value]:
    """cos and sin of 2 pi `turns` / 2^24, for 32-bit integers below 2^24."""
    if b.target.dtype == "float64":
        angle = b.fmul(b.uitofp(turns, b.target.vector), b.splat(2.0 * math.pi * 2.0**-24))
        return b.unary("cos", angle), b.unary("sin", angle)
    quarter = b.lshr(b.add(turns, b.same(turns, 1 << 21)), b.same(turns, 22))
    rest = b.sub(turns, b.shl(quarter, b.same(turns, 22)))
    return _cos_sin_of_rest(b, b.fmul(b.sitofp(rest, b.target.vector), b.splat(2.0 * math.pi * 2.0**-24)), quarter)


def sin(b: Builder, x: ir.Value) -> ir.Value:
    return b.unary("sin", x) if b.target.dtype == "float64" else _cos_sin(b, x)[1]


def cos(b: Builder, x: ir.Value) -> ir.Value:
    return b.unary("cos", x) if b.target.dtype == "float64" else _cos_sin(b, x)[0]


def _cos_sin(b: Builder, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """In float32, to 1e-6 for arguments up to 10^4; beyond, the reduction by pi / 2 in three parts runs out of bits."""
    quarter = b.unary("rint", b.fmul(x, b.splat(2.0 / math.pi)))
    rest = x
    for part in (-1.5703125, -4.837512969970703125e-4, -7.549790126404332e-8):  # after Cephes
        rest = b.madd(quarter, b.splat(part), rest)
    return _cos_sin_of_rest(b, rest, b.fptosi(quarter, b.target.integers(32)))


def _cos_sin_of_rest(b: Builder, x: ir.Value, quarter: ir.Value) -> tuple[ir.Value, ir.Value]:
    """cos and sin of `x` + pi / 2 `quarter`, for x within pi / 4."""
    square = b.fmul(x, x)
    s = polynomial(b, square, (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1))
    s = b.madd(b.fmul(s, square), x, x)
    c = polynomial(b, square, (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2))
    c = b.madd(b.fmul(c, square), square, b.madd(square, b.splat(-0.5), b.splat(1.0)))
    # Odd quarters swap the two; the sign of sin is bit 1 of the quarter, that of cos bit 1 of the next quarter.
    odd = b.trunc(quarter, b.target.integers(1))

    def signed(value: ir.Value, quarter: ir.Value) -> ir.Value:
        sign = b.shl(b.and_(quarter, b.same(quarter, 2)), b.same(quarter, 30))
        return b.bitcast(b.xor(b.bitcast(value, quarter.type), sign), b.target.vector)

    cos = signed(b.select(odd, s, c), b.add(quarter, b.same(quarter, 1)))
    return cos, signed(b.select(odd, c, s), quarter)


def _exp_normal(b: Builder, x: ir.Value) -> ir.Value:
    """exp, in float32 kept within the normal numbers."""
    if b.target.dtype == "float64":
        return b.unary("exp", x)
    mantissa, power = exp_parts(b, clamp(b, x, -87.0, 88.0))
    return b.fmul(mantissa, _power_of_two(b, power))


def exp_parts(b: Builder, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """float32 m in [0.7, 1.42] and an integer n, exp(x) = m 2^n."""
    shifted = b.madd(x, b.splat(math.log2(math.e)), b.splat(_ROUNDER))
    rounded = b.fsub(shifted, b.splat(_ROUNDER))
    bits = b.bitcast(shifted, b.target.integers(32))
    power = b.sub(bits, b.same(bits, 0x4B400000))
    rest = b.madd(rounded, b.splat(-0.693359375), x)
    rest = b.madd(rounded, b.splat(2.12194440e-4), rest)
    series = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
    square = b.fmul(rest, rest)
    return b.fadd(b.madd(polynomial(b, rest, series), square, rest), b.splat(1.0)), power


def _power_of_two(b: Builder, power: ir.Value) -> ir.Value:
    return b.bitcast(b.shl(b.add(power, b.same(power, 127)), b.same(power, 23)), b.target.vector)


# What the nodes of `search.expression` mean.
OPERATIONS: dict[str, Callable[..., ir.Value]] = {
    "add": lambda b, x, y: b.fadd(x, y),
    "sub": lambda b, x, y: b.fsub(x, y),
    "mul": lambda b, x, y: b.fmul(x, y),
    "div": lambda b, x, y: b.fdiv(x, y),
    "neg": lambda b, x: b.fneg(x),
    "sigmoid": sigmoid,
    "tanh": tanh,
    "relu": relu,
    "exp": exp,
    "log": log,
    "sqrt": lambda b, x: b.unary("sqrt", x),
    "sin": sin,
    "cos": cos,
    "abs": lambda b, x: b.unary("fabs", x),
    "floor": lambda b, x: b.unary("floor", x),
    "max": maximum,
    "min": minimum,
    "where": where,
    "positive": positive,
}


def evaluated(
    b: Builder,
    nodes: Sequence[Node],
    order: Sequence[int],
    results: Sequence[int],
    leaf: Callable[[Node], ir.Value],
    known: Mapping[int, ir.Value] | None = None,
) -> dict[int, ir.Value]:
    """The values of nodes, a product on the left of a sum that nothing else needs being fused with it.

    Args:
        nodes: of a graph.
        order: those to evaluate, each after its arguments.
        results: those that are needed.
        leaf: the value of one without arguments that is no constant.
        known: values of other nodes.
    """
    values = dict(known or {})
    read = [*(a for index in order for a in nodes[index].args), *results]
    fusible = {index for index in order if nodes[index].op == "mul" and read.count(index) == 1}
    for index in order:
        node = nodes[index]
        if node.op == "const":
            values[index] = b.splat(node.value)
        elif not node.args:
            values[index] = leaf(node)
        elif node.op in ("add", "sub") and node.args[0] in fusible:
            left, right = node.args
            x, y = (values[a] for a in nodes[left].args)
            values[index] = b.madd(x, y, b.fneg(values[right]) if node.op == "sub" else values[right])
        else:
            values[index] = OPERATIONS[node.op](b, *(values[a] for a in node.args))
    return values
