"""The operations in which equations are written, besides ``+ - * /``, unary minus and ``** 2``; all are element by
element but `mean`.

Each asks its argument, so that the same equations run on torch tensors (the reference engine) and
on expression-graph nodes (`search.expression`, from which the compiled engines are derived). Derivatives at a kink are
those of torch. Every operation hands NaN on, but for the condition of `where`, which then does not hold.
"""

from typing import Any

__all__ = [
    "absolute",
    "cos",
    "exp",
    "floor",
    "identity",
    "leaky_relu",
    "log",
    "log_sigmoid",
    "maximum",
    "mean",
    "minimum",
    "relu",
    "sigmoid",
    "sign",
    "sin",
    "softplus",
    "sqrt",
    "tanh",
    "where",
]


def sigmoid(v: Any) -> Any:
    """1 / (1 + exp(-v))"""
    return v.sigmoid()


def tanh(v: Any) -> Any:
    """(exp(v) - exp(-v)) / (exp(v) + exp(-v))"""
    return v.tanh()


def relu(v: Any) -> Any:
    """max(v, 0), with derivative 0 at 0"""
    return v.relu()


def leaky_relu(v: Any, slope: float = 0.01) -> Any:
    """v above 0, slope v elsewhere, with derivative slope at 0"""
    return where(v, v, slope * v)


def exp(v: Any) -> Any:
    """e to the power v"""
    return v.exp()


def log(v: Any) -> Any:
    """The natural logarithm; -inf at 0, NaN below"""
    return v.log()


def softplus(v: Any) -> Any:
    """log(1 + exp(v)), without overflow"""
    return -log_sigmoid(-v)


def log_sigmoid(v: Any) -> Any:
    """log(sigmoid(v)), without overflow"""
    return minimum(v, 0.0) - (1.0 + (-absolute(v)).exp()).log()


def sqrt(v: Any) -> Any:
    """The square root; NaN below 0"""
    return v.sqrt()


def sin(v: Any) -> Any:
    """The sine of v radians"""
    return v.sin()


def cos(v: Any) -> Any:
    """The cosine of v radians"""
    return v.cos()


def absolute(v: Any) -> Any:
    """v or -v, whichever is not negative, with derivative 0 at 0"""
    return v.abs()


def sign(v: Any) -> Any:
    """-1, 0 or 1 as v is below, at or above 0; its derivative is 0"""
    return v.sign()


def floor(v: Any) -> Any:
    """The largest whole number that is not above v; its derivative is 0"""
    return v.floor()


def maximum(a: Any, b: Any) -> Any:
    """The larger of a and b; where they are equal each has half of the derivative"""
    a, b = _both(a, b)
    return a.maximum(b)


def minimum(a: Any, b: Any) -> Any:
    """The smaller of a and b; where they are equal each has half of the derivative"""
    a, b = _both(a, b)
    return a.minimum(b)


def mean(v: Any) -> Any:
    """The mean of v over the units of the layer, the same number for each; of a cell's step alone"""
    return v.over_units() if hasattr(v, "over_units") else v.mean(-1, keepdim=True)


def where(condition: Any, a: Any, b: Any) -> Any:
    """a where `condition` is above 0, b elsewhere"""
    if not hasattr(condition, "new_full"):
        return a if condition > 0 else b
    a, b = _both(a, b, condition)
    return condition.choose(a, b) if hasattr(condition, "choose") else a.where(condition > 0, b)


def identity(v: Any) -> Any:
    """v"""
    return v


def _both(*values: Any) -> list[Any]:
    """The first two values, a number among them as a value of the same kind as the others."""
    some = next(value for value in values if hasattr(value, "new_full"))
    return [value if hasattr(value, "new_full") else some.new_full((), float(value)) for value in values[:2]]
