"""Rows of logits, and what losses of classes do with them."""

from llvmlite import ir

from search.engines.cpu import vector_math
from search.engines.cpu.llvm import DOUBLE, INT, INT32, Builder

Values = list[ir.Value]


def largest(b: Builder, row: ir.Value, outputs: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The largest of a row, and its place."""

    def column(j: ir.Value, value: ir.Value, place: ir.Value) -> Values:
        here = b.read_one(row, j)
        larger = b.fcmp_ordered(">", here, value)
        return [b.select(larger, here, value), b.select(larger, j, place)]

    value, place = b.loop(1, outputs, 1, column, [b.read_one(row, 0), b.const(0)])
    return value, place


def softmax(b: Builder, row: ir.Value, outputs: ir.Value, largest: ir.Value) -> ir.Value:
    """Replaces a row by its softmax, zero beyond `outputs`; returns ``sum exp(a - largest)``."""
    lanes, shift = b.target.lanes, b.splat(largest)

    def powers(j: ir.Value, total: ir.Value) -> Values:
        real = b.first_lanes(b.sub(outputs, j))
        e = b.select(real, vector_math.exp(b, b.fsub(b.read(row, j), shift)), b.splat(0.0))
        b.write(e, row, j)
        return [b.fadd(total, e)]

    (total,) = b.loop(0, outputs, lanes, powers, [b.splat(0.0)])
    sum_ = b.sum_lanes(total)
    inverse = b.splat(b.fdiv(ir.Constant(b.target.real, 1.0), sum_))

    def scaled(j: ir.Value) -> None:
        b.write(b.fmul(b.read(row, j), inverse), row, j)

    b.loop(0, outputs, lanes, scaled)
    return sum_


def add_row(b: Builder, row: ir.Value, total: ir.Value, outputs: ir.Value) -> None:
    def column(j: ir.Value) -> None:
        b.write(b.fadd(b.read(total, j), b.read(row, j)), total, j)

    b.loop(0, outputs, b.target.lanes, column)


def clear(b: Builder, row: ir.Value, outputs: ir.Value) -> None:
    b.loop(0, outputs, b.target.lanes, lambda j: b.write(b.splat(0.0), row, j))


def log(b: Builder, value: ir.Value) -> ir.Value:
    """log of a number of at least 1."""
    return b.extract_element(vector_math.log_of_normal(b, b.splat(value)), ir.Constant(INT32, 0))


def as_double(b: Builder, value: ir.Value) -> ir.Value:
    return value if value.type == DOUBLE else b.fpext(value, DOUBLE)


def class_at(b: Builder, classes: ir.Value, place: ir.Value) -> ir.Value:
    return b.sext(b.load(b.gep(classes, [place], source_etype=INT32), typ=INT32, align=4), INT)
