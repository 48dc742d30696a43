"""The equations of a cell as a tree that can be taken apart, changed and written as text.

`search.cells.parser` reads such text, `search.cells.printer` makes the tree of any cell's graph, `search.cells.text` is
the cell of a tree, `search.cells.typeset` its LaTeX.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from search import ops
from search.cells.trace import BELOW, TIME

INPUT = "x"
NAMED = ("past", "below", "unit", "constant")  # what a step reads by a name
FORGOTTEN = "_"  # the name of a line that is evaluated and not kept
FUNCTIONS: dict[str, Callable[..., Any]] = {name: getattr(ops, name) for name in ops.__all__}
SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_STRENGTH = {"add": 1, "sub": 1, "pre": 1, "mul": 2, "div": 2, "neg": 3, "square": 4}
_ATOM = 5


@dataclass(frozen=True)
class Part:
    """A part of an equation.

    `op` is ``add``, ``sub``, ``mul``, ``div``, ``neg``, ``square``, a function of `search.ops`, or

    - ``number``: its `value`
    - ``past`` NAME: the value at t - 1 of the line of that name; ``line`` NAME: its value at t; ``below`` NAME: that of
      the layer below
    - ``unit`` NAME, ``constant`` NAME: a per-unit parameter, a per-unit constant; ``time``: the number of the step
    - ``pre`` NAME: a pre-activation of that name, the sum of its ``product``s and, last, of a ``bias`` NAME
    - ``product`` MATRIX: of that matrix with its argument, which is ``input``, ``past``, or, where it has a `key`,
      an operand that the step makes and passes by that key

    Names of pre-activations and keys may be left empty; `Equations.named` fills them in.
    """

    op: str
    args: tuple["Part", ...] = ()
    name: str = ""
    value: float = 0.0
    key: str = ""
    place: tuple[int, int] = field(default=(0, 0), compare=False, repr=False)  # line and character, from 1 on

    @cached_property
    def depth(self) -> int:
        """Parts from here to the farthest leaf."""
        return 1 + max((arg.depth for arg in self.args), default=0)

    def walk(self) -> Iterator["Part"]:
        """This part and all below, in the order in which they are written."""
        yield self
        for arg in self.args:
            yield from arg.walk()


@dataclass(frozen=True)
class Line:
    """``name = part``"""

    name: str
    part: Part


@dataclass(frozen=True)
class Equations:
    """The equations of one time step, evaluated in their order.

    Attributes:
        lines: each name once, but for `FORGOTTEN`, which is never read.
        vectors: names that are declared to be of [N] parameters, per-unit parameters in their order.
        order: names of the pre-activations in their order; empty where that is the order in which they are written.
    """

    lines: tuple[Line, ...]
    vectors: tuple[str, ...] = ()
    order: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the lines that are kept."""
        return tuple(line.name for line in self.lines if line.name != FORGOTTEN)

    def walk(self) -> Iterator[Part]:
        """All parts, in the order in which they are written."""
        for line in self.lines:
            yield from line.part.walk()

    @cached_property
    def taken(self) -> frozenset[str]:
        """Names that a key made of other names must not be."""
        kinds = ("unit", "constant", "product", "bias", "past")
        return frozenset(
            {INPUT, TIME, "y", *self.names, *self.vectors, *(p.name for p in self.walk() if p.op in kinds)}
        )

    @property
    def preactivations(self) -> tuple[Part, ...]:
        """In their order; of named equations."""
        found = {part.name: part for part in self.walk() if part.op == "pre"}
        return tuple(found[name] for name in dict.fromkeys([*self.order, *found]))

    @property
    def units(self) -> tuple[str, ...]:
        """The per-unit parameters in their order: those declared, then others as they are first written."""
        biases = {part.name for part in self.walk() if part.op == "bias"}
        read = [part.name for part in self.walk() if part.op == "unit"]
        return tuple(name for name in dict.fromkeys([*self.vectors, *read]) if name not in biases)

    def named(self) -> "Equations":
        """The same, with the names that the text need not say.

        A pre-activation is called by its line, the second of a line NAME_2, and so on. An operand that a step passes is
        called by its line if it is one, and otherwise by all names that stand in it, ``ry`` for ``(r * y)``, with as
        many _ behind it as make it a name of its own.
        """
        return replace(self, lines=tuple(Line(line.name, part) for line, part in self._named()))

    def _named(self, anew: bool = False) -> Iterator[tuple[Line, Part]]:
        """Each line and its part with names; `anew`, with those that the text need not say alone."""
        for number, line in enumerate(self.lines):
            base = line.name if line.name != FORGOTTEN else f"_{number + 1}"
            count = 0

            def named(part: Part, base: str = base) -> Part:
                nonlocal count
                if part.op != "pre":
                    return replace(part, args=tuple(map(named, part.args))) if part.args else part
                count += 1
                own = base if count == 1 else f"{base}_{count}"
                args = tuple(map(named, part.args))
                return replace(part, name=own if anew else part.name or own, args=self._keyed(args, anew))

            yield line, named(line.part)

    def _keyed(self, args: tuple[Part, ...], anew: bool) -> tuple[Part, ...]:
        used = {arg.args[0].name or INPUT for arg in args if direct(arg)}
        used |= {arg.key for arg in args if arg.key and not anew}
        keyed = []
        for arg in args:
            if arg.op == "product" and not direct(arg) and (anew or not arg.key):
                key, own = _key(arg.args[0]), arg.args[0].op == "line"
                while key in used or (not own and key in self.taken):
                    key += "_"
                used.add(key)
                arg = replace(arg, key=key)
            keyed.append(arg)
        return tuple(keyed)

    @property
    def text(self) -> str:
        """The equations as text, which `search.cells.parser.parse` reads as the same; of named equations."""
        lines = [f"vectors {', '.join(self.vectors)}"] if self.vectors else []
        lines += [f"preactivations {', '.join(self.order)}"] if self.order else []
        return "\n".join([*lines, *self.shown()]) + "\n"

    def shown(self) -> list[str]:
        """Each line as text."""
        above: set[str] = set()
        found = []
        for line, (_, default) in zip(self.lines, self._named(anew=True), strict=True):
            found.append(f"{line.name} = {_Writer(above).text(line.part, default)}")
            above.add(line.name)
        return found

    def kept(self) -> "Equations":
        """Those lines that are not forgotten, or have parameters."""

        def matters(line: Line) -> bool:
            return line.name != FORGOTTEN or any(part.op in ("pre", "unit") for part in line.part.walk())

        return replace(self, lines=tuple(filter(matters, self.lines)))


def direct(part: Part) -> bool:
    """Whether a product is with the input or the state, and not with what the step passes."""
    return part.op == "product" and not part.key and part.args[0].op in ("input", "past")


def _key(operand: Part) -> str:
    return "".join(part.name for part in operand.walk() if part.op in ("line", *NAMED)) or "u"


def bare_units(terms: Collection[tuple[str, Part]]) -> bool:
    """Whether a term of a sum is a per-unit parameter alone."""
    return any(part.op == "unit" for _, part in terms)


def terms(part: Part) -> list[tuple[str, Part]]:
    """The terms of a sum, each with its sign, as they stand beside each other."""
    found = []
    while part.op in ("add", "sub"):
        found.append((SIGNS[part.op], part.args[1]))
        part = part.args[0]
    return [("+", part), *reversed(found)]


@dataclass(frozen=True)
class _Writer:
    """Writes the part of one line.

    Attributes:
        above: names of the lines above, which mean values at t.
    """

    above: Collection[str]

    def text(self, part: Part, default: Part, around: int = 0) -> str:
        """A part, in parentheses where what is `around` binds more strongly.

        Args:
            part: to be written.
            default: the same with the names that it would have if none were said.
            around: strength.
        """
        match part.op:
            case "number":
                text, strength = number(part.value), _ATOM if part.value >= 0 else _STRENGTH["neg"]
            case "past":
                text, strength = f"{part.name}[t-1]" if part.name in self.above else part.name, _ATOM
            case "below":
                text, strength = f"{part.name}[{BELOW}]", _ATOM
            case "line" | "unit" | "constant" | "bias":
                text, strength = part.name, _ATOM
            case "time" | "input":
                text, strength = {"time": TIME, "input": INPUT}[part.op], _ATOM
            case "pre":
                alone = part.name == default.name and any(arg.op == "product" for arg in part.args)
                if not alone:
                    return f"({part.name}: {self._sum(part, default)})"
                text, strength = self._sum(part, default), _STRENGTH["pre"]
            case "add" | "sub":
                text, strength = self._terms(part, default), _STRENGTH["add"]
            case "mul" | "div":
                strength = _STRENGTH[part.op]
                a = self.text(part.args[0], default.args[0], strength)
                text = f"{a} {SIGNS[part.op]} {self.text(part.args[1], default.args[1], _STRENGTH['square'])}"
            case "neg":
                text, strength = f"-{self.text(part.args[0], default.args[0], _STRENGTH['square'])}", _STRENGTH["neg"]
            case "square":
                text, strength = f"{self.text(part.args[0], default.args[0], _ATOM)} ** 2", _STRENGTH["square"]
            case _:
                args = (self.text(a, d) for a, d in zip(part.args, default.args, strict=True))
                text, strength = f"{part.op}({', '.join(args)})", _ATOM
        return f"({text})" if strength < around else text

    def _terms(self, part: Part, default: Part) -> str:
        """A sum, in which a pre-activation stands in parentheses if what is beside it could be taken for its own."""
        both = list(zip(terms(part), terms(default), strict=True))
        first = next((k for k, ((_, p), _) in enumerate(both) if p.op == "pre"), len(both))
        pre = both[first][0][1] if first < len(both) else None
        biased = pre is not None and any(arg.op == "bias" for arg in pre.args)
        before, behind = [each for each, _ in both[:first]], [each for each, _ in both[first:]]
        free = not bare_units(before) and (biased or not bare_units(behind))
        written = ""
        for k, ((sign, p), (_, d)) in enumerate(both):
            if p.op == "pre":
                around = 1 if free and k == first and sign == "+" else 2
            else:
                around = 1 if k == 0 else _STRENGTH["mul"]
                around = _ATOM if k and (p.op == "neg" or (p.op == "number" and p.value < 0)) else around
            text = self.text(p, d, around)
            written += f" {sign} {text}" if k else text
        return written

    def _sum(self, pre: Part, default: Part) -> str:
        words = []
        for arg, d in zip(pre.args, default.args, strict=True):
            if arg.op == "bias":
                words.append(arg.name)
                continue
            operand = arg.args[0]
            text = self.text(operand, d.args[0])
            if arg.key and (arg.key != d.key or operand.op == "past"):
                text = f"({arg.key}: {text})"
            elif operand.op not in ("input", "past", "line", *FUNCTIONS):
                text = f"({text})"
            words.append(f"{arg.name} {text}")
        return " + ".join(words)


def written(part: Part) -> str:
    """A part as text, in which names are values at t."""
    return _Writer(()).text(part, part)


def number(value: float) -> str:
    """A number as it is read again."""
    return repr(value).removesuffix(".0")
