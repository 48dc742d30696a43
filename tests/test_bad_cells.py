"""What a user sees who writes a cell wrongly: one line that names the file, the line and what is wrong."""

import re
from pathlib import Path

import pytest

from search import cells
from search.errors import UserError
from search.run.cli import main

HEAD = """\
import functools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from search.cells import LSTM, Cell
from search.ops import exp, identity, relu, sigmoid, tanh

KEPT = []


class Own(Cell):
    units = ("p_f",)

    def affine(self):
        return {"f": "W_f x + R_f y + b_f", "h": "W_h x + R_h fy + b_h"}

    def step(self, past, pre, p):
        f = sigmoid(pre("f") + p.p_f * past.y)
        return {"y": (1.0 - f) * past.y + f * tanh(pre("h", fy=f * past.y))}


"""


def in_step(line: str) -> str:
    """A module whose cell has this line in its step, after `f` is defined."""
    return f"""
class Bad(Own):
    def step(self, past, pre, p):
        f = sigmoid(pre("f"))
        {line}  # HERE
        return {{"y": f * tanh(pre("h", fy=f))}}
"""


def returning(text: str) -> str:
    return f"""
class Bad(Own):
    def step(self, past, pre, p):  # HERE
        f, h = sigmoid(pre("f")), pre("h", fy=past.y)
        {text}
"""


def with_affine(text: str, units: str = "()", blamed: str = "affine") -> str:
    return f"""
class Bad(Cell):
    units = {units}

    def affine(self):  # {"HERE" if blamed == "affine" else ""}
        return {text}

    def step(self, past, pre, p):  # {"HERE" if blamed == "step" else ""}
        return {{"y": tanh(pre("a"))}}
"""


MAY = "numbers, + - * /, ** 2 and the operations of search.ops: exp, maximum, sigmoid, sqrt, tanh, where, ..."
# Module, less its head; what the line says. The line that it names is marked HERE.
BAD = {
    # The module
    "syntax error": ("class Bad(Own)  # HERE\n    pass\n", "class Bad(Own) # HERE: expected ':' (SyntaxError)"),
    "indentation": (
        "class Bad(Own):\npass  # HERE\n",
        "expected an indented block after class definition on line|(IndentationError)",
    ),
    "import of no module": ("import no_such_module  # HERE", "import no_such_module: No module named 'no_such_module'"),
    "import of no name": ("from search.ops import softmax  # HERE", "cannot import name 'softmax'"),
    "error while imported": ("KEPT[0]  # HERE", "KEPT[0]: list index out of range (IndexError)"),
    "exit while imported": ("raise SystemExit(0)  # HERE", "SystemExit"),
    "not frozen": ("@dataclass  # HERE\nclass Bad(Own):\n    size: int = 1\n", "frozen"),
    # The class
    "no cell": ("class Bad:  # HERE\n    pass", "expected a subclass of search.cells.Cell"),
    "a function": ("def Bad():  # HERE\n    pass", "expected a subclass of search.cells.Cell"),
    "no affine": ("class Bad(Cell):  # HERE\n    step = Own.step", "Bad.affine: missing; it gives the matrix products"),
    "no step": ("class Bad(Cell):  # HERE\n    affine = Own.affine", "Bad.step: missing; it gives the equations"),
    "init with arguments": (
        "class Bad(Own):\n    def __init__(self, n):  # HERE\n        pass",
        "missing 1 required positional argument: 'n'",
    ),
    "toggle without a default": (
        "@dataclass(frozen=True)\nclass Bad(Own):  # HERE\n    n: int",
        "missing 1 required positional argument: 'n'",
    ),
    "toggle of another type": (
        "@dataclass(frozen=True)\nclass Bad(Own):  # HERE\n    sizes: list[int] = ()",
        "toggle sizes is declared as list[int]; expected bool, int, float or Literal",
    ),
    "toggle of an unknown type": (
        "@dataclass(frozen=True)\nclass Bad(Own):  # HERE\n    size: 'Size' = 1",
        "name 'Size' is not defined",
    ),
    # affine and units
    "affine no method": ("class Bad(Own):  # HERE\n    affine = {}", "'dict' object is not callable"),
    "affine None": (with_affine("None"), "Bad.affine: expected a dict of strings"),
    "affine a list": (with_affine("['W x']"), "expected a dict of strings"),
    "affine of numbers": (with_affine("{'a': 3}"), "expected a dict of strings"),
    "affine of tuples": (with_affine("{'a': ('W', 'x')}"), "expected a dict of strings"),
    "affine that raises": (
        "class Bad(Own):\n    def affine(self):\n        return self.nothing  # HERE",
        "self.nothing: 'Bad' object has no attribute 'nothing' (AttributeError)",
    ),
    "three words": (with_affine("{'a': 'W x y'}"), "expected terms 'MATRIX operand'"),
    "minus": (with_affine("{'a': 'W x - R y'}"), "expected terms 'MATRIX operand'"),
    "two biases": (with_affine("{'a': 'W x + b + c'}"), "more than one bias"),
    "number for a bias": (with_affine("{'a': 'W x + 1'}"), "'1' is not a name"),
    "product with a sign": (with_affine("{'a': 'W*x + R y'}"), "'W*x' is not a name"),
    "name with a dot": (with_affine("{'a': 'W.a x'}"), "'W.a' is not a name"),
    "operand that is no name": (with_affine("{'a': 'W x + R 2y'}"), "'2y' is not a name"),
    "parameter declared twice": (with_affine("{'a': 'W x + W y'}"), "'W' must be declared once"),
    "unit declared twice": (with_affine("{'a': 'W x'}", "('p', 'p')"), "'p' must be declared once"),
    "same state twice": (with_affine("{'a': 'W x + R y + Q y'}"), "two products with y"),
    "input twice": (with_affine("{'a': 'W x + V x'}"), "two products with x"),
    "matrix called y": (with_affine("{'a': 'W x + y y'}"), "'y' is a parameter and an operand"),
    "words swapped": (with_affine("{'a': 'W x + y R'}"), "'y' is a parameter and an operand"),
    "bias called x": (with_affine("{'a': 'W x + x'}"), "'x' is a parameter and an operand"),
    "matrix of the output layer": (with_affine("{'a': 'W_out x'}"), "'W_out' is a parameter of the output layer"),
    "unit of the output layer": (with_affine("{'a': 'W x'}", "('b_out',)"), "'b_out' is a parameter of the output"),
    "state never returned": (
        with_affine("{'a': 'W x + R h'}", blamed="step"),
        "does not return h, which is heard by a through R",
    ),
    "never asked for": (
        with_affine("{'a': 'W x', 'b': 'V x'}", blamed="step"),
        "never asks for pre-activation b of `affine`",
    ),
    "no product with x": (with_affine("{'a': 'R y'}", blamed="step"), "y does not depend on the input x"),
    "units a string": ("class Bad(Own):  # HERE\n    units = 'p_f'", "Bad.units: expected a tuple of names"),
    "units no property": (
        "class Bad(Own):\n    def units(self):  # HERE\n        return ()",
        "expected a tuple of names",
    ),
    # Operations
    "branch": (in_step("h = f if f > 0 else 0.0"), f"f > 0: a step cannot branch on a value; it may use {MAY}"),
    "branch on truth": (in_step("h = 1.0 if f else 0.0"), ": a step cannot branch on a value"),
    "bool": (in_step("bool(f)"), "bool(f): a step cannot branch on a value"),
    "not": (in_step("not f"), ": a step cannot branch on a value"),
    "equal": (in_step("f == 0"), "f == 0: a step cannot branch on a value"),
    "max": (in_step("max(f, 0.0)"), "max(f, 0.0): a step cannot branch on a value"),
    "cube": (in_step("f ** 3"), f"f ** 3: write a power as a product; a step may use {MAY}"),
    "root": (in_step("f ** 0.5"), "f ** 0.5: write a power as a product"),
    "power": (in_step("2.0 ** f"), f"2.0 ** f: unsupported operand type(s) for ** or pow|; a step may use {MAY}"),
    "abs": (in_step("abs(f)"), f"abs(f): bad operand type for abs()|; a step may use {MAY}"),
    "floor": (in_step("f // 2"), "f // 2: unsupported operand"),
    "matrix product": (in_step("f @ f"), "f @ f: unsupported operand"),
    "float": (in_step("float(f)"), "float(f): float() argument"),
    "math": (in_step("math.exp(f)"), "math.exp(f): must be real number"),
    "len": (in_step("len(f)"), "len(f): object of type 'Expr' has no len()"),
    "iteration": (in_step("[g for g in f]"), "'Expr' object is not iterable"),
    "indexing": (in_step("f[0]"), "f[0]: 'Expr' object is not subscriptable"),
    "method": (in_step("f.clamp(0.0)"), "f.clamp: 'Expr' object has no attribute 'clamp'"),
    "torch function": (in_step("torch.sigmoid(f)"), f"torch.sigmoid(f): sigmoid(): argument|; a step may use {MAY}"),
    "torch function in Python": (in_step("torch.nn.functional.softplus(f)"), "torch.nn.functional.softplus(f): "),
    "torch tensor": (
        in_step("torch.ones(3) * f"),
        "torch.ones(3) * f: expected a value of the step or a number, not a",
    ),
    "numpy function": (in_step("np.tanh(f)"), "np.tanh(f): "),
    "numpy mean": (in_step("np.mean(f)"), f"np.mean(f): a step is not for NumPy; it may use {MAY}"),
    "numpy clip": (in_step("np.clip(f, 0, 1)"), "np.clip(f, 0, 1): a step is not for NumPy"),
    "numpy array": (
        in_step("np.ones(3) * f"),
        "np.ones(3) * f: expected a value of the step or a number, not a ndarray",
    ),
    "string": (in_step("f + 'one'"), "f + 'one': expected a value of the step or a number, not a str"),
    "nan": (in_step("float('nan') * f"), "float('nan') * f: makes the constant nan; expected a finite number"),
    "infinity": (in_step("f - math.inf"), "f - math.inf: makes the constant inf"),
    "overflow": (in_step("(f - f + 1e308) * 10 + (0.0 * f + 1e308) * 10"), "makes the constant inf"),
    "huge integer": (in_step("f * 10**400"), "f * 10**400: "),
    "operation on a number": (in_step("sigmoid(0.5)"), "sigmoid(0.5): "),
    "unknown operation": (
        in_step("softplus(f)"),
        f"softplus: name 'softplus' is not defined (NameError); a step may use {MAY}",
    ),
    "recursion": (
        "def again(v):\n    return again(v)  # HERE\n" + in_step("again(f)").replace("  # HERE", ""),
        "again(v): maximum recursion depth exceeded (RecursionError)",
    ),
    "assertion": (in_step("assert p is None"), "AssertionError"),
    # Names
    "unknown pre-activation": (in_step('pre("g")'), 'pre("g"): not declared in `affine`, which has: f, h'),
    "operand without a product": (in_step('pre("f", u=f)'), 'pre("f", u=f): f has no product with u'),
    "operand called x": (in_step('pre("f", x=f)'), "x is the input"),
    "operand None": (in_step('pre("h", fy=None)'), "expected a value of the step or a number, not None"),
    "two operands": (
        in_step("").replace("  # HERE", "").replace("fy=f))}", "fy=f)) * pre('h', fy=f * f)}  # HERE"),
        "pre('h', fy=f * f): h is asked for twice, with different operands",
    ),
    "undeclared unit": (in_step("p.q"), "p.q: not declared in `units`, which has: p_f"),
    "state called x": (in_step("past.x"), "past.x: x is the input"),
    "state by index": (in_step("past['y']"), "past['y']: "),
    "state written": (in_step("past.c = f"), "past.c: it can only be read; the state at t is what step returns"),
    "kept from before": (
        in_step("KEPT.append(f); f * KEPT[0]"),
        "f * KEPT[0]: a value that was kept from an earlier call of step",
    ),
    # What it returns
    "nothing": (returning("pass"), "Bad.step: returns None; expected a dict of y"),
    "a tuple": (returning("return f, h"), "returns a tuple; expected a dict of y"),
    "no y": (returning('return {"h": h}'), "does not return y, which is the output"),
    "no state": (returning('return {"y": f * h * past.c}'), "does not return c, which is read from `past`"),
    "y None": (returning('return {"y": None}'), "y: expected a value of the step or a number, not None"),
    "y a tensor": (
        returning('return {"y": torch.ones(1)}'),
        "y: expected a value of the step or a number, not a Tensor",
    ),
    "y a string": (returning('return {"y": "0.5"}'), "y: expected a value of the step or a number, not a str"),
    "y NaN": (returning('return {"y": math.nan}'), "y: makes the constant nan"),
    "y a number": (returning('return {"y": 0.5}'), "y does not depend on the input x"),
    "y of nothing": (returning('return {"y": 0.9 * past.y + 0.1}'), "y does not depend on the input x"),
    "a generator": (returning('yield {"y": f * h}'), "returns a generator"),
    "other equations each time": (
        returning('KEPT.append(0); return {"y": len(KEPT) * f * h}'),
        "has other equations when it is called again",
    ),
    "step without p": ("class Bad(Own):\n    def step(self, past, pre):  # HERE\n        pass", "takes 3 positional"),
    # Initial values
    "initial None": (
        "class Bad(Own):\n    def initial(self, name, normal):  # HERE\n        pass",
        "gives a NoneType for W_f",
    ),
    "initial of another shape": (
        "class Bad(Own):\n    def initial(self, name, normal):  # HERE\n        return normal[:1]",
        "gives an array [1, 3] for W_f; expected an array [5, 3] of finite numbers",
    ),
    "initial infinite": (
        "class Bad(Own):\n    def initial(self, name, normal):  # HERE\n        return normal + np.inf",
        "of finite numbers",
    ),
    "initial random": (
        "class Bad(Own):\n    def initial(self, name, normal):  # HERE\n        return normal + np.random.rand()",
        "gives other values when it is called again",
    ),
    "constants in a list": (
        "class Bad(Own):\n    def constants(self, n_units):  # HERE\n        return [1.0] * n_units",
        "Bad.constants: expected a dict of arrays by name",
    ),
    "constants of another shape": (
        "class Bad(Own):\n    def constants(self, n_units):  # HERE\n        return {'period': np.ones(3)}",
        "Bad.constants: period: expected an array [5] of finite numbers",
    ),
    "constants infinite": (
        "class Bad(Own):\n    def constants(self, n_units):  # HERE\n        return {'c': np.full(n_units, np.inf)}",
        "c: expected an array [5] of finite numbers",
    ),
    "a constant called as a parameter": (
        "class Bad(Own):\n    def constants(self, n_units):  # HERE\n        return {'p_f': np.ones(n_units)}",
        "p.p_f is something else",
    ),
    "a parameter called below": (
        "class Bad(Own):  # HERE\n    units = ('p_f', 'below')",
        "p.below is the state of the layer below",
    ),
    "a parameter called t": ("class Bad(Own):  # HERE\n    units = ('p_f', 't')", "p.t is the number of the step"),
    "initial that raises": (
        "class Bad(Own):\n    def initial(self, name, normal):\n        return normals  # HERE",
        "normals: name 'normals' is not defined",
    ),
}


def written(folder: Path, source: str) -> int:
    """Writes the module ``NAME.py``; returns the number of the line marked HERE."""
    text = HEAD + source
    folder.joinpath(f"{folder.name}.py").write_text(text)
    return 1 + next(k for k, line in enumerate(text.splitlines()) if "# HERE" in line)


@pytest.mark.parametrize("title", BAD)
def test_a_bad_cell_is_refused_in_one_line_that_names_file_and_line(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, expected = BAD[title]
    folder = tmp_path / re.sub(r"\W", "_", f"bad_{title}")  # each a module name of its own
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    line = written(folder, source)
    with pytest.raises(UserError) as caught:
        cells.get(f"{folder.name}.Bad")
    text = str(caught.value)
    print(text)
    assert text.startswith(f"{folder.name}.py:{line}: "), text
    assert "\n" not in text and all(part in text for part in expected.split("|")), text


def test_an_error_in_a_library_of_the_users_names_the_line_that_called_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    tmp_path.joinpath("own_gates.py").write_text("def hard(v):\n    return min(1.0, v)\n")
    tmp_path.joinpath("hard_cell.py").write_text(HEAD + "from own_gates import hard\n" + in_step("hard(f)"))
    with pytest.raises(UserError, match=r"^own_gates\.py:2: min\(1\.0, v\): a step cannot branch"):
        cells.get("hard_cell.Bad")


@pytest.mark.parametrize("command, variant", [("train", "variant=bad"), ("sweep", "variants=[bad]")])
def test_commands_refuse_a_bad_cell_before_any_work(
    command: str, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    tmp_path.joinpath("conf", "variant").mkdir(parents=True)
    module = f"bad_for_{command}"
    tmp_path.joinpath("conf", "variant", "bad.yaml").write_text(f"cell: {module}.Bad\n")
    tmp_path.joinpath(f"{module}.py").write_text(HEAD + in_step("f > 0"))
    data = ["task.source=boulanger", "task.path=absent.json"]  # would be refused, but later
    assert main([command, "--config-dir", "conf", variant, *data]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith(f"odyssey: {module}.py:30: f > 0: a step cannot branch")
    assert not tmp_path.joinpath("runs").exists()
