"""What of a product a kernel computes: all of it, or what `search.engines.cpu.windows` says counts."""

from collections.abc import Callable
from dataclasses import dataclass

from llvmlite import ir

from search.engines.cpu.fields import Fields
from search.engines.cpu.layout import PARTS, WINDOW
from search.engines.cpu.llvm import INT, Builder
from search.engines.plan import Plan, Product


@dataclass
class Part:
    """A part of a product's matrix, and some steps of a sequence.

    Attributes:
        row, rows: its first row, and their number.
        column, width: its first column, and their number in vectors.
        first, every, n: the first step, the distance from each to the next, and their number.
    """

    row: ir.Value
    rows: ir.Value
    column: ir.Value
    width: ir.Value
    first: ir.Value
    every: ir.Value
    n: ir.Value


def window(b: Builder, layer: Fields, plan: Plan, product: Product, t: ir.Value) -> Part:
    """What counts of a product with units at step `t`."""
    p, none, one = plan.products.index(product), b.const(0), b.const(1)
    if not plan.partial:
        return Part(none, layer.size("n_units"), none, layer.size(f"width.{p}"), t, one, one)
    word = b.mul(b.add(b.mul(t, b.const(len(plan.products))), b.const(p)), b.const(len(WINDOW)))
    found = Fields(b, b.gep(layer.pointer("windows"), [word], source_etype=INT), WINDOW)
    return Part(**{name: found.size(name) for name in WINDOW}, first=t, every=one, n=one)


def each_part(
    b: Builder,
    layer: Fields,
    plan: Plan,
    product: Product,
    rows: ir.Value,
    n_steps: ir.Value,
    body: Callable[[Part], None],
) -> None:
    """Runs the body for each part of a product of `rows` rows, all of which make up its matrix."""
    p, none, one = plan.products.index(product), b.const(0), b.const(1)
    if not plan.partial:
        body(Part(none, rows, none, layer.size(f"width.{p}"), none, one, n_steps))
        return

    def part(k: ir.Value) -> None:
        word = b.mul(k, b.const(len(PARTS)))
        found = Fields(b, b.gep(layer.pointer(f"parts.{p}"), [word], source_etype=INT), PARTS)
        words = {name: found.size(name) for name in PARTS}
        n = b.sdiv(b.add(b.sub(n_steps, words["first"]), b.sub(words["every"], one)), words["every"])
        body(Part(**words, n=n))

    b.loop(0, layer.size(f"n_parts.{p}"), 1, part)
