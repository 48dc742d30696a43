"""Any cell as equations: its graph taken apart into lines, which read back give the same graph.

What is used once stands where it is used; a gate or a candidate has a line of its own, called as its pre-activation.
Python code makes the nodes of a graph in an order of its own, and leaves some that nothing uses; lines that give `_`
and are never read make them likewise.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from search.cells.cell import Cell
from search.cells.equations import FORGOTTEN, FUNCTIONS, INPUT, NAMED, Equations, Line, Part, written
from search.cells.parser import DECLARATIONS, VECTOR
from search.cells.text import TextCell
from search.cells.trace import TIME
from search.expression import EquationError, Node

PAST = "A name is the value at this step once a line above gives it, and otherwise that of the step before."
_CALLED = {"abs": "absolute", "max": "maximum", "min": "minimum"}  # functions, by their nodes where they differ
_SMOOTH = (*(name for name in FUNCTIONS if name not in ("maximum", "minimum", "where")), "abs")  # of one argument


def printed(cell: Cell) -> str:
    """The equations of a cell as text; a `TextCell` of it has the same signature.

    Its constants, and initial values that are more than the draw, are not among them.

    Raises:
        EquationError: its step does what equations cannot say.
    """
    return equations(cell).text


def equations(cell: Cell) -> Equations:
    """The equations of a cell as a tree; see `printed`."""
    apart: set[int] = set()  # nodes that get a line of their own, so that they are made in time
    while True:
        try:
            printer = _Printer(cell, frozenset(apart))
            found = printer.equations()
        except _UnnamedError as error:
            apart.add(error.index)
            continue
        made = reading(found, cell)
        if made.signature == cell.signature:
            return found
        more = printer.late(made.traced.graph.nodes)
        if more is None:
            raise EquationError(f"{type(cell).__name__}: its step does what equations cannot say")
        apart.add(more)


def readable(cell: Cell) -> Equations:
    """The equations of a cell as one reads them: without what only keeps the order of nodes and parameters."""
    found = _Printer(cell, frozenset()).equations().kept()
    return replace(found, order=(), vectors=() if all(map(VECTOR.fullmatch, found.vectors)) else found.vectors)


def node_texts(cell: Cell, nodes: Iterable[int]) -> list[str]:
    """What nodes of a cell's graph are called, or how they are computed, in the names of `readable`."""
    printer = _Printer(cell, frozenset())
    return [printer.text(index) for index in nodes]


def definition(cell: Cell) -> dict[str, Any]:
    """A cell as a variant file says it in text, `search.cells.define`: of equal fingerprint.

    Raises:
        EquationError: its step, its initial values, its constants or what its layers share is more than such a file can
            say.
    """
    added = {}
    for name, shape in cell.parameters(2, 2).items():
        normal = np.arange(1.0, 1.0 + np.prod(shape)).reshape(shape)
        more = cell.initial_value(name, normal.copy()) - normal
        if np.any(more != more.flat[0]):
            raise EquationError(f"{type(cell).__name__}: the initial values of {name} are no number added to the draw")
        if more.flat[0]:
            added[name] = float(more.flat[0])
    if cell.constant_names:
        raise EquationError(f"{type(cell).__name__}: its constants {', '.join(cell.constant_names)} are those of code")
    if cell.layers_tied:
        raise EquationError(f"{type(cell).__name__}: the parameters that its layers share are those of code")
    return {"equations": printed(cell)} | ({"initial": added} if added else {})


def reading(found: Equations, cell: Cell) -> TextCell:
    """The cell of equations, with constants of the same names as those of `cell`."""
    return TextCell(found.text, repeated=tuple((name, (1.0,)) for name in cell.constant_names))


class _UnnamedError(EquationError):
    """A line needs a node that has no line."""

    def __init__(self, index: int):
        super().__init__("a number stands before all else")
        self.index = index


class _Printer:
    """A cell's graph on its way to equations, in which the nodes `apart` have lines of their own."""

    def __init__(self, cell: Cell, apart: frozenset[int]):
        self.cell, self.apart, self.step = cell, apart, cell.traced
        self.nodes = self.step.graph.nodes
        self.ops = [(node.op, node.args) for node in self.nodes]
        self.begun: dict[int, int] = {}  # of a sign the first node that is made with it
        self.hidden = self._join_signs()
        self.users = self._users()
        affine, fed = cell.preactivations, self.step.fed
        declared = {term.matrix for pre in affine.values() for term in pre.terms}
        declared |= {pre.bias for pre in affine.values() if pre.bias}
        self.taken = {INPUT, TIME, *FUNCTIONS, *DECLARATIONS, *declared, *cell.units, *cell.constant_names}
        self.taken |= {*self.step.state}
        self.free = {*affine, *(key for given in fed.values() for key in given)} - self.taken
        self.taken |= self.free
        self.lines: dict[int, str] = {}  # by node the name of its line
        for name, index in self.step.out.items():
            if self._computed(index):
                self.lines.setdefault(index, name)
        self._name_preactivations()
        for operand, index in self._operands():
            if self.users[index] > 1:
                self._claim(index, operand)
        self._name_others()
        for operand, index in self._operands():
            if operand != "".join(self._names_in(index)):
                self._claim(index, operand)

    def equations(self) -> Equations:
        lines = []
        for index in sorted(range(len(self.nodes)), key=lambda index: self.begun.get(index, index)):
            unused = self._computed(index) and not self.users[index] and index not in self.hidden
            if index in self.lines:
                number = self.nodes[index].op == "const"
                part = self._number(index) if number else self._part(index, own=True)
                lines.append(Line(self.lines[index], part))
            elif unused or index in self.apart - self.hidden:
                lines.append(Line(FORGOTTEN, self._made(index)))
        for name, index in self.step.out.items():
            if self.lines.get(index) != name:
                lines.append(Line(name, self._part(index)))
        affine, units = self.cell.preactivations, self.cell.units
        found = Equations(tuple(lines))
        biases = tuple(pre.bias for pre in affine.values() if pre.bias and not VECTOR.fullmatch(pre.bias))
        vectors = biases if found.units == units and all(map(VECTOR.fullmatch, units)) else units + biases
        order = () if [part.name for part in found.preactivations] == list(affine) else tuple(affine)
        return Equations(tuple(lines), vectors, order)

    def text(self, index: int) -> str:
        """What a node is called, or how it is computed."""
        return written(self._part(index))

    def late(self, got: Sequence[Node]) -> int | None:
        """The node that must be made in a line of its own, as equations have made the nodes `got`; None if all are."""
        nodes = self.nodes
        first = next((k for k, node in enumerate(nodes) if k >= len(got) or got[k] != node), len(nodes) - 1)
        asked = next((k for k in range(first, len(nodes)) if nodes[k].op != "const"), first)
        if first in self.hidden:
            asked = next(k for k in range(first, len(nodes)) if self.ops[k][0] == "sign")
        elif first not in nodes[asked].args:  # a number is made as it is asked for
            asked = first
        plain = (k for k in range(first, -1, -1) if nodes[k].op != "const" or nodes[k].value in (0.0, 1.0))
        return next((k for k in (asked, *plain) if k not in self.apart | self.hidden), None)

    def _join_signs(self) -> set[int]:
        """Makes what `search.ops.sign` has left, a difference of two steps, one operation; returns what that hides."""
        inner: dict[int, set[int]] = {}
        for index, (op, args) in enumerate(self.ops):
            if op == "sub" and {self.nodes[arg].op for arg in args} == {"positive"}:
                above, below = args
                negated = self.nodes[below].args[0]
                if self.nodes[negated] == Node("neg", self.nodes[above].args):
                    inner[index] = {above, below, *([negated] if negated > above else [])}
                    self.ops[index] = ("sign", self.nodes[above].args)
                    self.begun[index] = index
                    while self.begun[index] - 1 in (above, negated, below):
                        self.begun[index] -= 1
        hidden = set().union(*inner.values())
        for index in sorted(hidden, reverse=True):
            users = {k for k, (_, args) in enumerate(self.ops) if index in args}
            if not users <= hidden or index in self.step.out.values():
                hidden.remove(index)
        return hidden

    def _users(self) -> list[int]:
        """How often each node is used; by its square once."""
        counts = [0] * len(self.nodes)
        for index, (op, args) in enumerate(self.ops):
            if index not in self.hidden:
                for arg in set(args) if op == "mul" else args:
                    counts[arg] += 1
        return counts

    def _user(self, index: int) -> int:
        """The node that uses one that is used once."""
        return next(k for k, (_, args) in enumerate(self.ops) if index in args and k not in self.hidden)

    def _computed(self, index: int) -> bool:
        """Whether a node is more than a leaf."""
        return bool(self.nodes[index].args) or self.nodes[index].op == "pre"

    def _operands(self) -> Iterator[tuple[str, int]]:
        """Of all that the step passes the key and the node, where that is more than a leaf."""
        for given in self.step.fed.values():
            yield from ((operand, index) for operand, index in given.items() if self._computed(index))

    def _claim(self, index: int, name: str) -> bool:
        """Gives a node a line of a name, if it has none and the name is free."""
        if name not in self.free or index in self.lines:
            return False
        self.free.remove(name)
        self.lines[index] = name
        return True

    def _name_preactivations(self) -> None:
        """Gives each pre-activation a line of its name: with its activation, or alone."""
        for index, node in enumerate(self.nodes):
            if node.op == "pre":
                if self.lines.get(index) in self.step.state and node.name in self.free:  # which then only repeats it
                    del self.lines[index]
                    self._claim(index, node.name)
                    continue
                top = self._top(index)
                if self.lines.get(top) != node.name and not self._claim(top, node.name):
                    self._claim(index, node.name)

    def _top(self, pre: int) -> int:
        """What belongs into the line of a pre-activation: terms that are added to it, and a function of the sum."""
        top = pre
        while self.users[top] == 1 and top not in self.lines and top not in self.apart:
            user = self._user(top)
            op, args = self.ops[user]
            if op in _SMOOTH:
                return user
            if op not in ("add", "sub") or any(self._has_products(arg) for arg in args if arg != top):
                break
            top = user
        return top

    def _has_products(self, index: int) -> bool:
        """Whether a pre-activation would stand within a term."""
        if index in self.lines or self.users[index] > 1:
            return False
        op, args = self.ops[index]
        return op == "pre" or any(map(self._has_products, args))

    def _name_others(self) -> None:
        """Gives lines to what is used more than once, or must be made in time."""
        numbers = {k for k, node in enumerate(self.nodes) if node.op == "const"}
        operands = {args[0] for op, args in self.ops if op != "pre" and args and numbers.issuperset(args)}
        count = 0
        for index in range(len(self.nodes)):
            needed = self.users[index] > 1 or (index in self.apart and self.users[index])
            needed = index in operands or (needed and self._computed(index))
            if needed and index not in self.lines and index not in self.hidden:
                count += 1
                while f"v{count}" in self.taken:
                    count += 1
                self.lines[index] = f"v{count}"

    def _names_in(self, index: int) -> Iterator[str]:
        """The names that stand in the expression of a node; see `Equations.named`."""
        op, args = self.ops[index]
        if index in self.lines or op in NAMED:
            yield self.lines.get(index, self.nodes[index].name)
        else:
            for arg in args[:1] if op == "mul" and args[0] == args[1] else args:
                yield from self._names_in(arg)

    def _part(self, index: int, own: bool = False) -> Part:
        """What stands for a node; `own`, in its own line."""
        node = self.nodes[index]
        op, args = self.ops[index]
        if index in self.lines and not own:
            return Part("line", name=self.lines[index])
        match op:
            case "const":
                return Part("number", value=node.value)
            case "past" | "below" | "unit" | "constant" | "time":
                return Part(op, name="" if op == "time" else node.name)
            case "pre":
                return self._preactivation(node.name)
            case "mul" if args[0] == args[1]:
                return Part("square", (self._part(args[0]),))
            case "positive":
                raise EquationError("a step is no operation of its own in equations")
        return Part(_CALLED.get(op, op), tuple(map(self._part, args)))

    def _preactivation(self, name: str) -> Part:
        given, affine = self.step.fed[name], self.cell.preactivations[name]
        args = []
        for term in affine.terms:
            if term.operand in given:
                args.append(Part("product", (self._part(given[term.operand]),), term.matrix, key=term.operand))
            else:
                operand = Part("input") if term.operand == INPUT else Part("past", name=term.operand)
                args.append(Part("product", (operand,), term.matrix))
        bias = [Part("bias", name=affine.bias)] if affine.bias else []
        return Part("pre", (*args, *bias), name)

    def _made(self, index: int) -> Part:
        """What makes a node that has no name: itself, or of a number something that needs it and is simplified."""
        node = self.nodes[index]
        if node.op != "const":
            return self._part(index)
        if node.value != 1.0:
            return self._number(index)
        return Part("mul", (self._some(index), Part("number", value=1.0)))

    def _number(self, index: int) -> Part:
        """What gives a number as a value of the step."""
        none = Part("mul", (self._some(index), Part("number")))
        value = self.nodes[index].value
        return Part("add", (none, Part("number", value=value))) if value else none

    def _some(self, index: int) -> Part:
        """A value that is made before a number."""
        some = next((k for k in range(index - 1, -1, -1) if k in self.lines or self._is_leaf(k)), None)
        if some is None:
            raise _UnnamedError(next(k for k in range(len(self.nodes)) if self._computed(k)))
        return self._part(some)

    def _is_leaf(self, index: int) -> bool:
        return self.nodes[index].op in (*NAMED, "time")
