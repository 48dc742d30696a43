"""Mutations: small random changes of a cell's equations.

They follow section 3.2 of Jozefowicz, Zaremba and Sutskever (2015), "An empirical exploration of recurrent network
architectures"; docs/evolve.md says what differs. Each takes a genome and a source of random numbers, and returns
another genome, to be tidied, or None where there is nothing that it could change. What it returns is a cell unless y
does not hear the input any more.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from search.cells.equations import Line, Part
from search.evolve.genome import Genome, Path

ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "softplus", "sin")
OPERATIONS = ("add", "sub", "mul")
ONE = Part("number", value=1.0)
Mutation = Callable[[Genome, np.random.Generator], Genome | None]
_T = TypeVar("_T")


def activation(genome: Genome, rng: np.random.Generator) -> Genome | None:
    """Another activation in the place of one."""
    path = _one(rng, [path for path, part in genome.parts() if part.op in ACTIVATIONS])
    if path is None:
        return None
    part = genome.part(path)
    return genome.put(path, replace(part, op=_other(rng, ACTIVATIONS, part.op)))


def operation(genome: Genome, rng: np.random.Generator) -> Genome | None:
    """A sum, a difference or a product in the place of another of them."""
    path = _one(rng, [path for path, part in genome.parts() if part.op in OPERATIONS])
    if path is None:
        return None
    part = genome.part(path)
    return genome.put(path, replace(part, op=_other(rng, OPERATIONS, part.op)))


def insert_activation(genome: Genome, rng: np.random.Generator) -> Genome | None:
    """An activation of a value."""
    path = _drawn(rng, _values(genome))
    return genome.put(path, Part(_drawn(rng, ACTIVATIONS), (genome.part(path),)))


def insert_operation(genome: Genome, rng: np.random.Generator) -> Genome | None:
    """A value joined by an operation with another that its line may read, or with a new product with the input."""
    path = _drawn(rng, _values(genome))
    others = [*genome.readable_at(path[0]), Part("pre", (Part("product", (Part("input"),), genome.fresh("W")),))]
    both = [genome.part(path), _drawn(rng, others)]
    order = rng.permutation(2)
    return genome.put(path, Part(_drawn(rng, OPERATIONS), (both[order[0]], both[order[1]])))


def insert_product(genome: Genome, rng: np.random.Generator) -> Genome | None:
    """A product with a new matrix in a sum of products."""
    path = _one(rng, [path for path, part in genome.parts() if part.op == "pre"])
    if path is None:
        return None
    pre = genome.part(path)
    products = [arg for arg in pre.args if arg.op == "product"]
    bias = [arg for arg in pre.args if arg.op == "bias"]
    heard = [product.args[0] for product in products]
    operand = _one(rng, [part for part in (Part("input"), *genome.readable_at(path[0])) if part not in heard])
    if operand is None:
        return None
    name = genome.fresh("W" if operand.op == "input" else "R")
    return genome.put(path, replace(pre, args=(*products, Part("product", (operand,), name), *bias)))


def remove(genome: Genome, rng: np.random.Generator) -> Genome | None:
    """An operation with all but one of what it joins; a product or the bias of a sum of products."""
    ways: list[tuple[Path, Part]] = []
    for path, part in genome.parts():
        if part.op == "pre":
            for k, arg in enumerate(part.args):
                rest = part.args[:k] + part.args[k + 1 :]
                if arg.op == "bias" or any(other.op == "product" for other in rest):
                    ways.append((path, replace(part, args=rest)))
        elif part.args and part.op != "product":
            ways += [(path, arg) for arg in part.args if arg.op != "number"]
    way = _one(rng, ways)
    return None if way is None else genome.put(*way)


def swap(genome: Genome, rng: np.random.Generator) -> Genome | None:
    """Two values of a line, of which neither is part of the other, each in the place of the other."""
    values = _values(genome)
    pairs = [
        (a, b)
        for k, a in enumerate(values)
        for b in values[k + 1 :]
        if a[0] == b[0] and b[: len(a)] != a and a[: len(b)] != b and genome.part(a) != genome.part(b)
    ]
    pair = _one(rng, pairs)
    if pair is None:
        return None
    a, b = pair
    return genome.put(a, genome.part(b)).put(b, genome.part(a))


def rewire(genome: Genome, rng: np.random.Generator) -> Genome | None:
    """Another value that the line may read, in the place of one that it reads; of a product also the input."""
    reads = [path for path, part in genome.parts() if part.op in ("past", "line", "input")]
    path = _one(rng, reads)
    if path is None:
        return None
    legal = genome.readable_at(path[0])
    if len(path) > 1 and genome.part(path[:-1]).op == "product":
        legal.append(Part("input"))
    other = _one(rng, [part for part in legal if part != genome.part(path)])
    return None if other is None else genome.put(path, other)


def share(genome: Genome, rng: np.random.Generator) -> Genome | None:
    """One product for two sums that have products with the same operand: one matrix less."""
    products = [(path, part) for path, part in genome.parts() if part.op == "product"]
    pairs = [
        (a, b)
        for k, (a, one) in enumerate(products)
        for b, other in products[k + 1 :]
        if one.args == other.args and a[: len(b) - 1] != b[:-1] and b[: len(a)] != a
    ]
    pair = _one(rng, pairs)
    if pair is None:
        return None
    a, b = pair
    own = genome.fresh("v")
    product = genome.part(a)
    for path in (b, a):  # what stands in b is not on the way to a
        genome = genome.put(path[:-1], _without(genome.part(path[:-1]), path[-1], Part("line", name=own)))
    return genome.line(min(a[0], b[0]), Line(own, Part("pre", (product,))))


def split(genome: Genome, rng: np.random.Generator) -> Genome | None:
    """A copy with parameters of its own in the place of a line that is read more than once."""
    lines = {line.name: line.part for line in genome.equations.lines}
    reads = [(path, part.name) for path, part in genome.parts() if part.op in ("line", "past")]
    names = [name for _, name in reads]
    read = _one(
        rng,
        [
            (path, name)
            for path, name in reads
            if genome.part(path).op == "line"
            and names.count(name) > 1
            and any(part.op in ("product", "unit") for part in lines[name].walk())
        ],
    )
    if read is None:
        return None
    path, name = read
    called: dict[str, str] = {}
    for part in lines[name].walk():
        if part.op in ("product", "bias", "unit") and part.name not in called:
            prefix = "p_" if part.op == "unit" else "b_" if part.op == "bias" else part.name[0]
            called[part.name] = genome.fresh(prefix, frozenset(called.values()))
    more = {called[old]: value for old, value in genome.initial.items() if old in called}
    return replace(genome.put(path, _renamed(lines[name], called)), initial={**genome.initial, **more})


def one(genome: Genome, rng: np.random.Generator) -> Genome | None:
    """A value plus 1, or 1 less it."""
    path = _drawn(rng, _values(genome))
    value = genome.part(path)
    return genome.put(path, Part("add", (value, ONE)) if rng.random() < 0.5 else Part("sub", (ONE, value)))


def bias(genome: Genome, rng: np.random.Generator) -> Genome | None:
    """1 or -1 added to a bias at initialisation, or what is added there taken away."""
    name = _one(rng, [part.name for _, part in genome.parts() if part.op == "bias"])
    if name is None:
        return None
    value = _other(rng, (-1.0, 0.0, 1.0), genome.initial.get(name, 0.0))
    initial = {**genome.initial, name: value}
    return replace(genome, initial={key: number for key, number in initial.items() if number})


MUTATIONS: Mapping[str, Mutation] = {
    each.__name__: each
    for each in (
        *(activation, operation, insert_activation, insert_operation, insert_product, remove, swap, rewire),
        *(share, split, one, bias),
    )
}


def mutated(genome: Genome, rng: np.random.Generator) -> tuple[Genome, str]:
    """A genome after one mutation that applies to it, and the name of that, each as likely as any other."""
    for name in rng.permutation(list(MUTATIONS)):
        found = MUTATIONS[name](genome, rng)
        if found is not None:
            return found.tidied(), str(name)
    raise AssertionError("there is always a value of which an activation can be taken")


def _values(genome: Genome) -> list[Path]:
    """Paths to all values that are computed or read: all but products and biases, the input, and numbers."""
    return [path for path, part in genome.parts() if part.op not in ("product", "bias", "input", "number")]


def _without(pre: Part, place: int, instead: Part) -> Part:
    """A sum of products, with a line that is added in the place of one of them."""
    rest = pre.args[:place] + pre.args[place + 1 :]
    if not rest:
        return instead
    alone = rest[0].op == "bias"
    return Part("add", (replace(rest[0], op="unit") if alone else replace(pre, args=rest), instead))


def _renamed(part: Part, called: Mapping[str, str]) -> Part:
    own = called[part.name] if part.op in ("product", "bias", "unit") else part.name
    return replace(part, name=own, args=tuple(_renamed(arg, called) for arg in part.args))


def _drawn(rng: np.random.Generator, values: Sequence[_T]) -> _T:
    return values[int(rng.integers(len(values)))]


def _one(rng: np.random.Generator, values: Sequence[_T]) -> _T | None:
    return _drawn(rng, values) if values else None


def _other(rng: np.random.Generator, values: Sequence[_T], than: _T) -> _T:
    return _drawn(rng, [value for value in values if value != than])
