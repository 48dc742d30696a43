"""A cell as what evolves: the tree of its equations, and what is added to its parameters at initialisation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from search import cells
from search.cells import printer
from search.cells.equations import FORGOTTEN, Equations, Line, Part
from search.cells.parser import parse

Path = tuple[int, ...]  # to a part: its line, then one argument after the other


@dataclass(frozen=True)
class Genome:
    """A cell that can be changed.

    Attributes:
        equations: of which every line is used; named.
        initial: by parameter what is added to the draw at initialisation.
    """

    equations: Equations
    initial: Mapping[str, float]

    @staticmethod
    def of(definition: Mapping[str, Any]) -> "Genome":
        """That of a variant.

        Raises:
            UserError: its definition is none.
            EquationError: its initial values or its constants are more than text can say.
        """
        if "equations" in definition:
            return Genome(parse(definition["equations"]), dict(definition.get("initial", {}))).tidied()
        cell = cells.define(dict(definition))
        return Genome(printer.readable(cell), printer.definition(cell).get("initial", {})).tidied()

    @property
    def definition(self) -> dict[str, Any]:
        """As a variant file says it."""
        initial = {"initial": dict(self.initial)} if self.initial else {}
        return {"equations": self.equations.text} | initial

    def tidied(self) -> "Genome":
        """The same without what has no effect of its own, and with the names that text need not say."""
        of_line = {line.name: line.part for line in self.equations.lines}
        todo, live = ["y"], set[str]()
        while todo:
            name = todo.pop()
            if name not in live and name in of_line:
                live.add(name)
                todo += [part.name for part in of_line[name].walk() if part.op in ("past", "line")]
        lines = [Line(line.name, _unnamed(line.part)) for line in self.equations.lines if line.name in live]
        found = Equations(tuple(lines))
        own = {part.name for part in found.walk() if part.op in ("product", "bias", "unit")}
        found = replace(found, vectors=tuple(name for name in self.equations.vectors if name in own))
        return Genome(found.named(), {name: value for name, value in self.initial.items() if name in own})

    def parts(self) -> Iterator[tuple[Path, Part]]:
        """All parts, each with its path."""
        for number, line in enumerate(self.equations.lines):
            yield from _below((number,), line.part)

    def part(self, path: Path) -> Part:
        part = self.equations.lines[path[0]].part
        for place in path[1:]:
            part = part.args[place]
        return part

    def put(self, path: Path, part: Part) -> "Genome":
        """The same with another part at a path."""
        lines = list(self.equations.lines)
        lines[path[0]] = Line(lines[path[0]].name, _put(lines[path[0]].part, path[1:], part))
        return replace(self, equations=replace(self.equations, lines=tuple(lines)))

    def line(self, number: int, line: Line) -> "Genome":
        """The same with one line more, before that of a number."""
        lines = self.equations.lines
        return replace(self, equations=replace(self.equations, lines=(*lines[:number], line, *lines[number:])))

    def readable_at(self, number: int) -> list[Part]:
        """The values that the line of a number may read."""
        names = [line.name for line in self.equations.lines if line.name != FORGOTTEN]
        above = [line.name for line in self.equations.lines[:number] if line.name != FORGOTTEN]
        return [*(Part("past", name=name) for name in names), *(Part("line", name=name) for name in above)]

    def fresh(self, prefix: str, also: frozenset[str] = frozenset()) -> str:
        """A name that nothing has."""
        taken, count = self.equations.taken | also, 1
        while f"{prefix}{count}" in taken:
            count += 1
        return f"{prefix}{count}"


def _below(path: Path, part: Part) -> Iterator[tuple[Path, Part]]:
    yield path, part
    for place, arg in enumerate(part.args):
        yield from _below((*path, place), arg)


def _put(whole: Part, path: Path, part: Part) -> Part:
    if not path:
        return part
    place, *rest = path
    args = [_put(arg, tuple(rest), part) if k == place else arg for k, arg in enumerate(whole.args)]
    return replace(whole, args=tuple(args))


def _unnamed(part: Part) -> Part:
    """A part without the names of pre-activations and keys, which may be those of another place. Of two products with
    one operand the first does for both."""
    args = tuple(map(_unnamed, part.args))
    if part.op == "pre":
        args = tuple(arg for k, arg in enumerate(args) if arg.args not in [a.args for a in args[:k] if a.args])
    return replace(part, args=args, name="" if part.op == "pre" else part.name, key="")
