"""Equations as text, read: one line for each value, ``NAME = EXPRESSION``, and nothing of it is run as Python.

    i = sigmoid(W_i x + R_i y + p_i * c + b_i)    # the input gate
    c = i * tanh(W_z x + R_z y + b_z) + (1 - i) * c
    y = tanh(c)

A name is the value at this step if a line above gives it, and that of the step before otherwise, or as ``c[t-1]``;
``c[below]`` is that of the layer below at this step.
``x`` is the input, ``t`` the number of the step. ``MATRIX operand`` is a product, of which the operand may be computed,
``R_n (r * y)``. The products of a sum are one pre-activation, whose bias is the first name in that sum that is a
parameter. Parameters of the units are called ``b``, ``p``, ``b_...`` or ``p_...``, or declared in a line of their own:
``vectors q, scale``. ``+ - * / ** 2`` and the functions of `search.ops` bind as in Python. A pre-activation or an
operand gets another name than its own in ``(name: ...)``; ``preactivations f, h`` says their order.
"""

import inspect
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from search.cells.cell import OUTPUT_LAYER
from search.cells.equations import FORGOTTEN, FUNCTIONS, INPUT, SIGNS, Equations, Line, Part
from search.cells.trace import BELOW, TIME
from search.errors import UserError

_TOKEN = re.compile(
    r"(?P<blank>[ \t\r]+|#[^\n]*)|(?P<end>[\n;])|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[^\W\d]\w*)|(?P<sign>\*\*|[-+*/=(),:\[\]])",
)
VECTOR = re.compile(r"[bp](_\w*)?")  # names of parameters that need no declaration
DECLARATIONS = ("vectors", "preactivations")
_DEEPEST = 150  # levels of an expression, each of which takes some of Python's stack
_LONGEST = 100_000  # characters
_OPERATIONS = {sign: op for op, sign in SIGNS.items()}


@dataclass(frozen=True)
class Token:
    """A word or sign of the text; `kind` is name, number, sign or end."""

    kind: str
    text: str
    place: tuple[int, int]
    blank: bool  # whether a blank stands before it

    @property
    def shown(self) -> str:
        if self.kind == "end":
            return "the end of the line" if self.text != ";" else "';'"
        return repr(self.text if len(self.text) <= 30 else f"{self.text[:30]}...")


def parse(text: str, constants: Collection[str] = ()) -> Equations:
    """The equations of a text, named.

    Args:
        text: as above.
        constants: names of the per-unit constants.

    Raises:
        UserError: it is none; one line that names line and character.
    """
    if len(text) > _LONGEST:
        raise UserError(f"equations: expected at most {_LONGEST} characters")
    found = _Reader(_statements(_tokens(text)), constants).read().named()
    _check_names(found)
    return found


def wrong(place: tuple[int, int], text: str) -> NoReturn:
    """Raises UserError for what is wrong at a place."""
    raise UserError(f"equations: line {place[0]}, character {place[1]}: {text}")


def _tokens(text: str) -> list[Token]:
    found, at, line, start, blank = [], 0, 1, 0, False
    while at < len(text):
        match, place = _TOKEN.match(text, at), (line, at - start + 1)
        if not match:
            wrong(place, f"expected a name, a number or one of + - * / ( ) = , not {text[at]!r}")
        kind = str(match.lastgroup)
        if kind != "blank":
            found.append(Token(kind, match[0], place, blank))
        blank, at = kind in ("blank", "end"), match.end()
        if match[0] == "\n":
            line, start = line + 1, at
    return [*found, Token("end", "", (line, at - start + 1), False)]


def _statements(tokens: Sequence[Token]) -> list[list[Token]]:
    """The tokens of each line that is not empty, with its end; within parentheses a line goes on."""
    found: list[list[Token]] = [[]]
    opened: list[Token] = []
    for k, token in enumerate(tokens):
        if token.text == "(":
            opened.append(token)
        elif token.text == ")":
            opened = opened[:-1]
        if token.kind != "end":
            found[-1].append(token)
        elif token.text == "\n" and opened:
            if [each.text for each in tokens[k + 2 : k + 3]] == ["="]:
                wrong(opened[-1].place, "this parenthesis is not closed before the next line begins")
        elif opened:
            wrong(opened[-1].place, "this parenthesis is not closed")
        elif found[-1]:
            found[-1].append(token)
            found.append([])
            opened = []
    return found[:-1]


class _Reader:
    """Reads statements in their order."""

    def __init__(self, statements: Sequence[Sequence[Token]], constants: Collection[str]):
        self.statements, self.constants = statements, constants
        self.given: dict[str, Token] = {}
        self.declared: dict[str, dict[str, Token]] = {word: {} for word in DECLARATIONS}
        self.above: set[str] = set()
        self.tokens: Sequence[Token] = ()
        self.at = self.level = 0

    def read(self) -> Equations:
        equations = [statement for statement in self.statements if not self._declares(statement)]
        for statement in equations:
            self._give(statement)
        if "y" not in self.given:
            raise UserError("equations: expected a line y = ..., the output")
        lines = []
        for statement in equations:
            self.tokens, self.at = statement, 2
            part = _whole(self._sum())
            if self.token.kind != "end":
                wrong(self.token.place, f"expected an operator or the end of the line, not {self.token.shown}")
            lines.append(Line(statement[0].text, part))
            self.above.add(statement[0].text)
        return Equations(tuple(lines), tuple(self.declared["vectors"]), tuple(self.declared["preactivations"]))

    def _declares(self, statement: Sequence[Token]) -> bool:
        """Reads ``vectors q, p``, if it is one."""
        word, *rest = statement
        if word.text not in DECLARATIONS or rest[0].text == "=":
            return False
        names = self.declared[word.text]
        for k, token in enumerate(rest):
            taken = (*names, *(() if word.text == "preactivations" else (*self.constants, *_TAKEN)))
            if k % 2 == 0 and (token.kind != "name" or token.text in taken):
                wrong(token.place, f"expected a name that has no meaning yet, not {token.shown}")
            if k % 2 and token.text != "," and token.kind != "end":
                wrong(token.place, f"expected a comma or the end of the line, not {token.shown}")
            if k % 2 == 0:
                names[token.text] = token
        return True

    def _give(self, statement: Sequence[Token]) -> None:
        """Notes the name that a line gives."""
        name, sign = statement[0], statement[1]
        if name.kind != "name":
            wrong(name.place, f"expected a line NAME = EXPRESSION, not {name.shown}")
        if sign.text != "=":
            wrong(sign.place, f"expected = after the name that the line gives, not {sign.shown}")
        if name.text in (*_TAKEN, *self.constants) or name.text in self.declared["vectors"]:
            wrong(name.place, f"{name.text!r} has a meaning; expected another name")
        if name.text in self.given and name.text != FORGOTTEN:
            wrong(name.place, f"{name.text!r} is given in line {self.given[name.text].place[0]}; expected another name")
        self.given[name.text] = name

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def _next(self) -> Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def _expect(self, sign: str, after: str) -> None:
        if self.token.text != sign:
            wrong(self.token.place, f"expected {sign!r} {after}, not {self.token.shown}")
        self.at += 1

    def _sum(self) -> Part:
        """Terms joined by + and -; the products among those that are added become one pre-activation."""
        place = self.token.place
        terms = [("+", self._term())]
        while self.token.text in ("+", "-"):
            sign = self._next().text
            terms.append((sign, self._term()))
            if len(terms) > _DEEPEST:
                wrong(place, f"expected at most {_DEEPEST} terms; give a part of them in a line of its own")
        own = [part for sign, part in terms if sign == "+" and part.op == "product"]
        if own:
            bias = next((part for sign, part in terms if sign == "+" and part.op == "unit"), None)
            parts = [*own, *([replace(bias, op="bias")] if bias else [])]
            pre = Part("pre", tuple(parts), place=own[0].place)
            terms = [
                (sign, pre if part is own[0] else part)
                for sign, part in terms
                if part is own[0] or (part is not bias and not (sign == "+" and part.op == "product"))
            ]
        _, whole = terms[0]
        for sign, part in terms[1:]:
            whole = self._made(_OPERATIONS[sign], place, _whole(whole), _whole(part))
        return whole

    def _term(self) -> Part:
        part = self._factor()
        while self.token.text in ("*", "/"):
            sign = self._next()
            part = self._made(_OPERATIONS[sign.text], sign.place, _whole(part), _whole(self._factor()))
        return part

    def _factor(self, level: int = 0) -> Part:
        if self.token.text == "-":
            place = self._next().place
            if level > _DEEPEST:
                wrong(place, "expected fewer signs")
            part = _whole(self._factor(level + 1))
            negated = part.op == "number"
            return Part("number", value=-part.value, place=place) if negated else self._made("neg", place, part)
        part = self._atom()
        if self.token.text == "**":
            power = self._next()
            if part.op == "product":
                wrong(power.place, "expected parentheses: (W v) ** 2 or W (v ** 2)")
            if self.token.kind != "number" or float(self.token.text) != 2:
                wrong(self.token.place, f"expected the power 2, not {self.token.shown}; write others as products")
            self.at += 1
            if self.token.text == "**":
                wrong(self.token.place, "expected parentheses around one of the powers")
            part = self._made("square", power.place, part)
        return part

    def _atom(self) -> Part:
        """A number, a name, a function's value, a product, or what stands in parentheses."""
        token = self._next()
        if token.kind == "number":
            if not math.isfinite(float(token.text)):
                wrong(token.place, f"expected a finite number, not {token.shown}")
            return Part("number", value=float(token.text), place=token.place)
        if token.text == "(":
            return self._parentheses(token)
        if token.kind != "name":
            wrong(token.place, f"expected a name, a number or an opening parenthesis, not {token.shown}")
        if token.text in FUNCTIONS:
            return self._function(token)
        follows = self.token
        if follows.text == "(" and not follows.blank:
            wrong(token.place, f"expected a function of search.ops, or a blank after a matrix, not {token.shown}")
        if follows.kind == "name" or follows.text == "(":
            if token.text in (*self.given, *_TAKEN, *self.constants):
                wrong(follows.place, f"expected an operator after {token.shown}, which is no matrix")
            if token.text in self.declared["vectors"]:
                wrong(follows.place, f"expected an operator after {token.shown}, which is declared in vectors")
            return self._made("product", token.place, self._operand(), name=token.text)
        return self._name(token)

    def _parentheses(self, opening: Token) -> Part:
        """What stands in parentheses, with the name that it may have: ``(name: ...)`` of a pre-activation."""
        if self.token.kind == "name" and self.tokens[self.at + 1].text == ":":
            name = self._next()
            self.at += 1
            part = _whole(self._nested(opening))
            if part.op == "unit":
                part = Part("pre", (replace(part, op="bias"),), place=part.place)
            if part.op != "pre" or part.name:
                wrong(name.place, "expected a sum of products and a bias after a name of a pre-activation")
            part = replace(part, name=name.text)
        else:
            part = _whole(self._nested(opening))
        self._expect(")", f"for the parenthesis of line {opening.place[0]}, character {opening.place[1]}")
        return part

    def _nested(self, opening: Token) -> Part:
        self.level += 1
        if self.level > _DEEPEST // 3:
            wrong(opening.place, f"expected at most {_DEEPEST // 3} levels of parentheses")
        part = self._sum()
        self.level -= 1
        return part

    def _function(self, token: Token) -> Part:
        self._expect("(", f"after {token.text}")
        args = [_whole(self._nested(token))]
        while self.token.text == ",":
            self.at += 1
            args.append(_whole(self._nested(token)))
        self._expect(")", f"for the parenthesis after {token.text}")
        parameters = inspect.signature(FUNCTIONS[token.text]).parameters.values()
        least, most = sum(p.default is p.empty for p in parameters), len(parameters)
        if not least <= len(args) <= most:
            wrong(
                token.place, f"{token.text} has {len(args)} arguments; expected {' or '.join(map(str, {least, most}))}"
            )
        return self._made(token.text, token.place, *args)

    def _operand(self) -> Part:
        """What a matrix is multiplied by; with a key where it is said, ``(key: ...)``."""
        token = self.token
        if token.text == "(" and self.tokens[self.at + 1].kind == "name" and self.tokens[self.at + 2].text == ":":
            key = self.tokens[self.at + 1]
            self.at += 3
            part = _whole(self._nested(token))
            self._expect(")", f"for the parenthesis of line {token.place[0]}, character {token.place[1]}")
            return replace(part, key=key.text)
        if token.text == INPUT:
            self.at += 1
            return Part("input", place=token.place)
        follows = self.tokens[self.at + 1]
        if token.kind == "name" and token.text not in FUNCTIONS and (follows.kind == "name" or follows.text == "("):
            wrong(follows.place, f"expected an operator after {token.shown}, or parentheses around what it multiplies")
        return self._atom()

    def _name(self, token: Token) -> Part:
        name, place = token.text, token.place
        if name == INPUT:
            wrong(place, "x is the input, of which only a matrix product can be taken, as in W x")
        if self.token.text == "[":
            for words, op in ((["[", TIME, "-", "1", "]"], "past"), (["[", BELOW, "]"], "below")):
                found = [token.text for token in self.tokens[self.at : self.at + len(words)]]
                if found == words and name in self.given and name != FORGOTTEN:
                    self.at += len(words)
                    return Part(op, name=name, place=place)
            wrong(place, f"expected another value of a line as NAME[t-1] or NAME[below], not {name}[...")
        if name == TIME:
            return Part("time", place=place)
        if name in self.constants:
            return Part("constant", name=name, place=place)
        if name in self.above and name != FORGOTTEN:
            return Part("line", name=name, place=place)
        if name in self.given and name != FORGOTTEN:
            return Part("past", name=name, place=place)
        if name in self.declared["vectors"] or VECTOR.fullmatch(name):
            return Part("unit", name=name, place=place)
        wrong(place, f"{token.shown} is given by no line; expected one that is, or b_... or p_... for a parameter")

    def _made(self, op: str, place: tuple[int, int], *args: Part, name: str = "") -> Part:
        key = ""
        if op == "product":
            args, key = (replace(args[0], key=""),), args[0].key
        part = Part(op, tuple(args), name, key=key, place=place)
        if part.depth > _DEEPEST:
            wrong(place, f"expected at most {_DEEPEST} levels; give a part of them in a line of its own")
        return part


_TAKEN = (INPUT, TIME, *FUNCTIONS, *DECLARATIONS)


def _whole(part: Part) -> Part:
    """A part outside a sum of its own, where a product is a pre-activation."""
    return Part("pre", (part,), place=part.place) if part.op == "product" else part


def _check_names(equations: Equations) -> None:
    """Raises UserError unless each parameter is declared once and each name has one meaning."""
    kinds: dict[str, str] = {}
    pres: set[str] = set()
    keys: dict[str, tuple[int, int]] = {}
    for part in equations.walk():
        if part.op == "pre":
            if part.name in pres:
                wrong(part.place, f"two pre-activations are called {part.name!r}; expected (NAME: ...) for this one")
            pres.add(part.name)
            heard = [arg.key or arg.args[0].name or INPUT for arg in part.args if arg.op == "product"]
            for operand in heard:
                if heard.count(operand) > 1:
                    wrong(part.place, f"a sum has two products with {operand!r}; one matrix does")
            keys |= {arg.key: arg.place for arg in part.args if arg.key}
        if part.op not in ("product", "bias", "unit"):
            continue
        name, known = part.name, kinds.get(part.name)
        if name in OUTPUT_LAYER:
            wrong(part.place, f"{name!r} is a parameter of the output layer; expected another name")
        if name in equations.names:
            wrong(part.place, f"{name!r} is given by a line; expected another name for a parameter")
        if known and not known == part.op == "unit":
            wrong(part.place, f"{name!r} is a parameter already; expected another name")
        kinds[name] = part.op
    for key in keys:
        if key in kinds or key == INPUT:
            wrong(keys[key], f"the operand {key!r} has the name of something else; expected another name")
    absent = [name for name in equations.order if name not in pres]
    if absent:
        raise UserError(f"equations: preactivations {', '.join(absent)}: expected names of pre-activations")
