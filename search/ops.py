"""The elementwise operations in which cells are written, besides ``+ - * /``, unary minus and ``** 2``.

Each asks its argument, so that the same equations run on torch tensors (the reference engine) and
on expression-graph nodes (`search.expression`, from which the compiled engines are derived).
"""

from typing import Any

__all__ = ["exp", "identity", "relu", "sigmoid", "tanh"]


def sigmoid(v: Any) -> Any:
    """1 / (1 + exp(-v))"""
    return v.sigmoid()


def tanh(v: Any) -> Any:
    """(exp(v) - exp(-v)) / (exp(v) + exp(-v))"""
    return v.tanh()


def relu(v: Any) -> Any:
    """max(v, 0), with derivative 0 at 0"""
    return v.relu()


def exp(v: Any) -> Any:
    """e to the power v"""
    return v.exp()


def identity(v: Any) -> Any:
    """v"""
    return v
