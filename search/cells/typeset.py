"""Equations as LaTeX, in the part of it that GitHub's Markdown shows."""

import re

from search.cells.equations import Equations, Part, number, terms

_GREEK = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "kappa", "lambda", "mu", "nu", "xi", "pi"),
    *("rho", "sigma", "tau", "phi", "chi", "psi", "omega"),
)
_SUM, _PRODUCT, _SIGNED, _POWER, _ATOM = range(1, 6)  # strength
_FUNCTIONS = {
    **{name: rf"\{name}" for name in ("tanh", "exp", "log", "sin", "cos")},
    "sigmoid": r"\sigma",
    "log_sigmoid": r"\log\sigma",
    "maximum": r"\max",
    "minimum": r"\min",
}
_FENCES = {"absolute": (r"\left|", r"\right|"), "floor": (r"\left\lfloor", r"\right\rfloor"), "sqrt": (r"\sqrt{", "}")}


def latex(equations: Equations) -> str:
    """The equations as one block, a line for each value; every value has its step as an index.

    Args:
        equations: named, as `search.cells.printer.readable` gives them.
    """
    lines = [f"{_name(line.name, 't')} &= {_typeset(line.part)}" for line in equations.lines]
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"


def _name(name: str, index: str = "") -> str:
    """A name, of which what stands behind the first _ or is a number at its end is an index."""
    split = re.fullmatch(r"([^\W_]*?)(?:_(\w+)|(\d+))?", name)
    base, *below = (split[1], split[2] or split[3]) if split and split[1] else (name, None)
    base = base.replace("_", r"\_")
    base = rf"\{base}" if base in _GREEK else base if len(base) == 1 else rf"\mathrm{{{base}}}"
    indices = ",".join([*(each.replace("_", r"\_") for each in below if each), *([index] if index else [])])
    return f"{base}_{{{indices}}}" if indices else base


def _typeset(part: Part, around: int = 0) -> str:
    """A part, in parentheses where what is `around` binds more strongly."""
    text, strength = _written(part)
    return rf"\left({text}\right)" if strength < around else text


def _written(part: Part) -> tuple[str, int]:
    """A part, and how strongly it binds."""
    args = part.args
    match part.op:
        case "number":
            return _number(part.value)
        case "line" | "past":
            return _name(part.name, "t" if part.op == "line" else "t-1"), _ATOM
        case "below":
            return rf"{_name(part.name, 't')}^{{\mathrm{{below}}}}", _ATOM
        case "unit" | "constant" | "bias":
            return _name(part.name), _ATOM
        case "time" | "input":
            return {"time": "t", "input": "x_{t}"}[part.op], _ATOM
        case "product":
            return rf"{_name(part.name)}\,{_typeset(args[0], _ATOM)}", _PRODUCT
        case "pre":
            return " + ".join(map(_typeset, args)), _SUM if len(args) > 1 else _PRODUCT
        case "add" | "sub":
            (_, first), *others = terms(part)
            rest = "".join(f" {sign} {_typeset(each, _PRODUCT if sign == '-' else _SUM)}" for sign, each in others)
            return _typeset(first, _SUM) + rest, _SUM
        case "mul":
            sign = r"\," if args[0].op == "number" else r" \odot "
            return _typeset(args[0], _PRODUCT) + sign + _typeset(args[1], _SIGNED + 1), _PRODUCT
        case "div":
            return rf"\frac{{{_typeset(args[0])}}}{{{_typeset(args[1])}}}", _POWER
        case "neg":
            return f"-{_typeset(args[0], _SIGNED + 1)}", _SIGNED
        case "square":
            return f"{{{_typeset(args[0], _ATOM)}}}^{{2}}", _POWER
        case "identity":
            return _written(args[0])
        case "where":
            condition, a, b = map(_typeset, args)
            return rf"\mathrm{{where}}\left({condition} > 0,\ {a},\ {b}\right)", _ATOM
    inner = r",\ ".join(map(_typeset, args))
    if part.op in _FENCES:
        opening, closing = _FENCES[part.op]
        return f"{opening}{inner}{closing}", _ATOM
    called = _FUNCTIONS.get(part.op) or rf"\mathrm{{{part.op}}}".replace("_", r"\_")
    return rf"{called}\left({inner}\right)", _ATOM


def _number(value: float) -> tuple[str, int]:
    digits, _, power = number(value).partition("e")
    text = rf"{digits} \cdot 10^{{{int(power)}}}" if power else digits
    return text, _PRODUCT if power else _ATOM if value >= 0 else _SIGNED
