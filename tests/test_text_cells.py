"""Cells as text: read, printed, and what is said of text that is none."""

import itertools
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from analysis import load
from search import cells, ops, unroll
from search.cells import Cell, Preactivations
from search.cells.canonical import canonical
from search.cells.parser import parse
from search.cells.printer import definition, equations, printed, readable, reading
from search.cells.text import TextCell
from search.errors import UserError
from search.expression import EquationError
from search.run.cli import main
from search.study import repeat
from search.study.plan import read_plan
from tests.clockwork import Clockwork
from tests.mut3 import MUT3
from tests.test_cells import CHOICES, OPERATIONS, VARIANTS, Commented, Leaky, OtherEquation, OtherMatrices

VANILLA = """\
# The vanilla LSTM
z = tanh(W_z x + R_z y + b_z)
i = sigmoid(W_i x + R_i y + p_i * c + b_i)
f = sigmoid(W_f x + R_f y + p_f * c + b_f)
c = z * i + c * f
o = sigmoid(W_o x + R_o y + p_o * c + b_o)
y = tanh(c) * o
"""
MGU = "f = sigmoid(W_f x + R_f y + b_f)\nh = tanh(W_h x + R_h (f * y) + b_h)\ny = (1 - f) * y + f * h\n"

# Variants whose initial values, constants or tied layers are more than a file can say.
BEGUN_BY_CODE = ("irnn", "clockwork", "cornn", "grid_tied", "indrnn", "layer_norm", "lem", "lru", "unicornn")


def read(text: str, **more: Any) -> Cell:
    return cells.define({"equations": text} | more)


def test_the_vanilla_lstm_as_text_is_the_vanilla_lstm() -> None:
    assert read(VANILLA).fingerprint == cells.get("vanilla").fingerprint
    assert read(VANILLA, initial={"b_f": 1}).fingerprint == cells.get("vanilla_bias1").fingerprint
    assert list(read(VANILLA).parameters(2, 3)) == list(cells.get("vanilla").parameters(2, 3))
    assert cells.toggles(read(VANILLA)) == () and not cells.is_own({"equations": VANILLA})


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_printed_and_read_again_as_it_was(variant: str) -> None:
    cell = cells.get(variant)
    again = reading(equations(cell), cell)
    assert again.signature == cell.signature and printed(again) == printed(cell)
    if variant in BEGUN_BY_CODE:
        with pytest.raises(EquationError, match=r"are no number added to the draw|are those of code"):
            definition(cell)
    else:
        assert cells.define(definition(cell)).fingerprint == cell.fingerprint


@pytest.mark.slow
def test_every_lstm_is_printed_and_read_again_as_it_was() -> None:
    for values in itertools.product(*CHOICES.values()):
        cell = cells.get("lstm", **dict(zip(CHOICES, values, strict=True)))
        assert read(printed(cell)).signature == cell.signature, values


@pytest.mark.parametrize(
    "cell",
    [MUT3(), Leaky(), Leaky(order=2), Commented(), OtherEquation(), OtherMatrices(), Clockwork()],
    ids=lambda cell: type(cell).__name__,
)
def test_a_cell_of_the_users_is_printed_and_read_again_as_it_was(cell: Cell) -> None:
    assert reading(equations(cell), cell).signature == cell.signature


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_printed_and_read_again_as_it_was(name: str) -> None:
    operation = OPERATIONS[name]
    n_operands = operation.__code__.co_argcount if hasattr(operation, "__code__") else 1 + (name != "neg")

    class One(Cell):
        units = ("p",)

        def affine(self) -> dict[str, str]:
            return {"a": "W x + R y + b"}

        def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
            return {"y": operation(*(pre("a"), p.p * past.y, p.p + past.y)[:n_operands]) + pre("a")}

    cell = One()
    assert reading(equations(cell), cell).signature == cell.signature, printed(cell)


@dataclass(frozen=True)
class Random(Cell):
    """A cell that nobody would write: its parts are drawn."""

    seed: int = 0

    def affine(self) -> dict[str, str]:
        rng = np.random.default_rng(self.seed)
        found = {}
        for name in rng.permutation(["a", "g", "y", "h", "long_name"])[: rng.integers(1, 5)]:
            heard = rng.permutation(["x", "y", "c", "u", "cy", "h"])[: rng.integers(0, 4)]
            terms = [f"{rng.choice(['W', 'rec'])}_{name}_{operand} {operand}" for operand in heard]
            bias = [f"b_{name}"] if rng.random() < 0.5 or not terms else []
            found[str(name)] = " + ".join([*terms, *bias])
        return found | {"first": "W x"}

    @property
    def units(self) -> tuple[str, ...]:
        return tuple(map(str, np.random.default_rng(self.seed).permutation(["p", "q", "p_i"])))

    def constants(self, n_units: int) -> dict[str, np.ndarray]:
        return {"period": np.ones(n_units)}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        rng = np.random.default_rng(self.seed)
        made: list[Any] = [pre("first")]
        leaves: list[Callable[[], Any]] = [lambda: past.y, lambda: past.c, lambda: past.h, lambda: p.p, lambda: p.p_i]
        leaves += [lambda: p.q, lambda: p.period, lambda: p.t, lambda: 1.0, lambda: 0.5, lambda: -2.0, lambda: 0.0]
        asked = [name for name in self.affine() if name != "first"]
        binary = [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / b]
        unary = [ops.tanh, ops.sigmoid, ops.sign, ops.absolute, lambda v: -v, lambda v: v**2, ops.leaky_relu]

        def value() -> Any:
            return made[rng.integers(len(made))] if rng.random() < 0.6 else leaves[rng.integers(len(leaves))]()

        while asked or len(made) < 12:
            some, draw = made[rng.integers(len(made))], rng.random()
            if asked and draw < 0.3:
                name = asked.pop(int(rng.integers(len(asked))))
                heard = [term.split()[1] for term in self.affine()[name].split(" + ") if " " in term]
                passed = [operand for operand in heard if operand in ("u", "cy") or (operand == "h" and draw < 0.1)]
                made.append(pre(name, **{operand: value() for operand in passed}))
            elif draw < 0.7:
                made.append(binary[rng.integers(4)](*((some, value()) if draw < 0.5 else (value(), some))))
            elif draw < 0.9:
                made.append(unary[rng.integers(len(unary))](some))
            else:
                made.append(rng.choice([ops.maximum, ops.minimum])(some, value()))
        y = made[-1] + made[0]
        return {"y": y, "c": made[rng.integers(len(made))], "h": (y, past.c, 1.0)[rng.integers(3)]}


def test_random_cells_are_printed_and_read_again_as_they_were() -> None:
    for seed in range(150):
        cell = Random(seed)
        found = equations(cell)
        again = reading(found, cell)
        assert again.signature == cell.signature, found.text
        assert parse(found.text, cell.constant_names) == found.named()
        assert parse(readable(cell).text, cell.constant_names) == readable(cell).named()


@pytest.mark.parametrize(
    "same",
    [
        "g = sigmoid(W x + R y + b)\nc_ = tanh(V x + Q (y * g) + b_2)\ny = c_ * g + y * (1 - g)\nh = W_h x",
        "vectors q\nf = sigmoid(W_f x + b_f + R_f y)\nk = f * y\nh = tanh(R_h k + W_h x + b_h)\n"
        "y = (1 - f) * y + f * h",
        "last = y\nf = sigmoid(W_f x + R_f y + b_f)\nh = tanh(W_h x + R_h (f * y) + b_h)\n"
        "y = (1 - f) * y[t-1] + f * h + 0 * 1",
    ],
)
def test_the_canonical_form_is_that_of_cells_that_compute_the_same(same: str) -> None:
    assert canonical(read(same)) == canonical(read(MGU))


@pytest.mark.parametrize(
    "was, now",
    [("1 - f", "f - 1"), ("tanh", "sin"), ("(f * y)", "y"), ("+ b_h", ""), ("f * h", "h * h"), ("* y +", "* h +")],
)
def test_the_canonical_form_is_another_for_another_cell(was: str, now: str) -> None:
    assert was in MGU and canonical(read(MGU.replace(was, now))) != canonical(read(MGU))
    shared = "a = tanh(W x + R y)\nh = tanh(V x + Q y)\ny = p_a * a + p_h * h"
    assert canonical(read(shared)) != canonical(read(shared.replace("p_h", "p_a")))
    assert canonical(read(MGU, initial={"b_f": 1})) != canonical(read(MGU)) == canonical(read(MGU, initial={"b_f": 0}))


def test_the_canonical_form_tells_cells_apart_and_is_that_of_their_text() -> None:
    known = {name: cells.get(name) for name in VARIANTS}
    alike = {canonical(known[name]) for name in ("gru", "mut2")}  # with a matrix for the x of the latter
    assert len(alike) == 1 and len({canonical(cell) for cell in known.values()}) == len(known) - 1
    for cell in (*known.values(), *map(Random, range(100))):
        text = readable(cell).text
        again = TextCell(text, repeated=tuple((name, (1.0,)) for name in cell.constant_names))
        if cell not in [known[name] for name in ("vanilla_bias1", *BEGUN_BY_CODE)]:  # which begin otherwise
            assert canonical(again) == canonical(cell), text


@pytest.mark.usefixtures("fresh_cache")
@pytest.mark.parametrize("engine", ["reference", "cpu"])
def test_a_cell_of_text_computes_what_its_equations_say(engine: str) -> None:
    """The minimal gated unit, written out in NumPy."""
    rng, cell = np.random.default_rng(0), read(MGU)
    p = {name: rng.normal(size=shape) for name, shape in cell.parameters(2, 3).items()}
    x = rng.normal(size=(5, 1, 2))
    got = unroll(cell, {name: torch.tensor(value) for name, value in p.items()}, torch.tensor(x), engine)
    y = np.zeros(3)
    for t in range(5):
        f = 1 / (1 + np.exp(-(p["W_f"] @ x[t, 0] + p["R_f"] @ y + p["b_f"])))
        y = (1 - f) * y + f * np.tanh(p["W_h"] @ x[t, 0] + p["R_h"] @ (f * y) + p["b_h"])
        np.testing.assert_allclose(got[t, 0], y, rtol=1e-12)


@pytest.mark.parametrize(
    "one, other",
    [
        ("y = tanh(W x + R y + b)", "y = tanh(b + R y + W x + 0)"),
        ("y = W x - p * y + R y", "y = (W x + R y) - (p * y)"),
        ("y = W x - R y", "y = (W x) - (y_2: R y)"),
        ("a = W x\ny = a - (a - 1)", "a = W x  # heard\n\ny = (a - (\n  a - 1))"),
        ("a = W x\ny = -a ** 2 * 2", "a = W x\ny = (-(a ** 2)) * 2"),
        ("a = W x\ny = a / 2 / a * 3 - 1 - a", "a = W x; y = ((((a / 2) / a) * 3) - 1) - a"),
        ("a = W x\ny = a * -a", "a = W x;y=a*(-a)"),
        ("y = tanh(W x + R tanh(y))", "y = tanh(W x + R (y_: tanh(y)))"),
        ("a = W x\ny = 1.50e0 * a + .5", "a = W x\ny = 1.5 * a + 0.5"),
        ("y = W x + t", "y = (y: W x) + t"),
    ],
)
def test_two_ways_to_write_the_same(one: str, other: str) -> None:
    def shape(text: str) -> list[tuple[str, str, float]]:
        walked = sorted((p.op, p.name, p.value) for p in readable(read(text)).named().walk())
        return walked

    assert shape(one) == shape(other)
    rng, values = np.random.default_rng(0), []
    params = {name: torch.tensor(rng.normal(size=shape)) for name, shape in sorted(read(one).parameters(2, 3).items())}
    x = torch.tensor(rng.normal(size=(3, 1, 2)))
    for text in (one, other):
        cell = read(text)
        values.append(unroll(cell, {name: params[name] for name in cell.parameters(2, 3)}, x))
    torch.testing.assert_close(*values, rtol=0, atol=0)


def test_a_name_is_of_this_step_once_a_line_above_gives_it() -> None:
    text = "y = W x + y\nc = y + c\nh = c[t-1] + h + y[t-1]"
    cell = read(text)
    assert cell.traced.state == ("y", "c", "h") and printed(cell).count("[t-1]") == 2
    x = torch.arange(1.0, 4.0, dtype=torch.float64).reshape(3, 1, 1)
    assert unroll(cell, {"W": torch.ones(1, 1, dtype=torch.float64)}, x).flatten().tolist() == [1.0, 3.0, 6.0]


def test_parameters_of_any_name_are_declared() -> None:
    cell = read(
        "vectors scale, q\npreactivations h, a\na = (W x) + q\nh = R_h y + shift_b\ny = scale * a + h".replace(
            "shift_b", "b_h"
        )
    )
    assert cell.units == ("scale", "q") and list(cell.preactivations) == ["h", "a"]
    assert list(cell.parameters(2, 3)) == ["R_h", "W", "b_h", "scale", "q"]


def test_constants_are_divided_among_the_units() -> None:
    cell = read("y = tanh(W x) / period", constants={"period": [1, 2, 4]})
    assert cell.constant_values(7)["period"].tolist() == [1, 1, 1, 2, 2, 4, 4]
    assert read("y = tanh(W x) / period", constants={"period": [1, 2, 8]}).fingerprint != cell.fingerprint


@pytest.mark.slow
def test_a_study_knows_its_equations_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "own" / "variant" / "mine.yaml"
    file.parent.mkdir(parents=True)

    def sweep(text: str, trials: int) -> int:
        file.write_text(yaml.safe_dump({"equations": text, "initial": {"b_f": 1}}))
        task = ["task=adding", "task.length=20", "task.n_sequences=8", "epochs=1", "space.hidden_size.high=21"]
        return main(["sweep", "study=s", "variants=mine,rnn", f"trials={trials}", *task, "--config-dir", "own"])

    assert sweep("# the gate's\n" + MGU, 1) == 0
    assert read_plan(tmp_path / "runs" / "s").cells.keys() == {"mine", "rnn"}
    assert sweep(MGU.replace("h =", "h  ="), 2) == 0, "comments and blanks change nothing"
    capfd.readouterr()
    assert sweep(MGU.replace("(1 - f)", "(1 + f)"), 3) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and "the equations of mine have been edited" in err
    frame = load(tmp_path / "runs" / "s")
    assert list(frame["variant"]) == ["mine", "mine", "rnn", "rnn"] and set(frame["status"]) == {"finished"}
    assert main(["report", "study=s"]) == 0

    row = frame.iloc[0].to_dict()
    words = shlex.split(repeat.train(read_plan(tmp_path / "runs" / "s"), "mine", row))
    monkeypatch.chdir(tmp_path / "own")
    capfd.readouterr()
    assert main(words[1:]) == 0
    assert json.loads(capfd.readouterr().out)["valid_score"] == row["valid_score"]


def test_commands_refuse_bad_text_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own" / "variant").mkdir(parents=True)
    (tmp_path / "own" / "variant" / "bad.yaml").write_text("equations: |\n  y = tanh(W x\n")
    for words in (["train", "variant=bad"], ["sweep", "variants=bad"], ["cell", "bad"]):
        assert main([*words, "--config-dir", "own"]) == 2
        out, err = capfd.readouterr()
        assert out == "" and err.count("\n") == 1 and "equations: line 1, character 9: this parenthesis" in err
    assert not (tmp_path / "runs").exists()


def test_the_text_of_a_variant_file_is_yaml() -> None:
    values = definition(cells.get("vanilla_bias1"))
    assert cells.define(yaml.safe_load(yaml.safe_dump(values))).fingerprint == cells.get("vanilla_bias1").fingerprint


HEAD = "f = sigmoid(W_f x + R_f y + b_f)\n"
BAD = {  # what the text is, and what is said of it
    "": "equations: expected a line y = ..., the output",
    "# nothing\n\n": "equations: expected a line y = ..., the output",
    HEAD: "equations: expected a line y = ..., the output",
    "y": "line 1, character 2: expected = after the name that the line gives, not the end of the line",
    "y =": "line 1, character 4: expected a name, a number or an opening parenthesis, not the end of the line",
    "y = tanh(W x": "line 1, character 9: this parenthesis is not closed",
    "y = (W x + b\nz = y": "line 1, character 5: this parenthesis is not closed before the next line",
    "y = tanh(W x))": "line 1, character 14: expected an operator or the end of the line, not ')'",
    "y = W x +": "line 1, character 10: expected a name, a number or an opening parenthesis",
    "y = W x * / p": "line 1, character 11: expected a name, a number or an opening parenthesis, not '/'",
    "y == W x": "line 1, character 4: expected a name, a number or an opening parenthesis, not '='",
    "y = 2 W x": "line 1, character 7: expected an operator or the end of the line, not 'W'",
    "y = W x y": "line 1, character 9: expected an operator or the end of the line, not 'y'",
    "y = W x + R y z": "line 1, character 15: expected an operator after 'y'",
    "2 = W x": "line 1, character 1: expected a line NAME = EXPRESSION, not '2'",
    "y + 1 = W x": "line 1, character 3: expected = after the name",
    "x = W x\ny = x": "line 1, character 1: 'x' has a meaning",
    "tanh = W x\ny = tanh": "line 1, character 1: 'tanh' has a meaning",
    "y = W x\ny = R y": "line 2, character 1: 'y' is given in line 1",
    "y = W x; y = R y": "line 1, character 10: 'y' is given in line 1",
    "y = W x + x": "line 1, character 11: x is the input, of which only a matrix product can be taken",
    HEAD + "y = f * cc": "line 2, character 9: 'cc' is given by no line",
    "y = sigmod(W x)": "line 1, character 5: expected a function of search.ops, or a blank after",
    "y = tanh W x": "line 1, character 10: expected '(' after tanh, not 'W'",
    "y = tanh(W x, R y)": "line 1, character 5: tanh has 2 arguments; expected 1",
    "y = maximum(W x)": "line 1, character 5: maximum has 1 arguments; expected 2",
    "y = where(W x, 1)": "line 1, character 5: where has 2 arguments; expected 3",
    "y = W x ** 2": "line 1, character 9: expected parentheses: (W v) ** 2 or W (v ** 2)",
    HEAD + "y = f ** 3": "line 2, character 10: expected the power 2, not '3'",
    HEAD + "y = f ** f": "line 2, character 10: expected the power 2, not 'f'",
    HEAD + "y = f ** 2 ** 2": "line 2, character 12: expected parentheses around one of the powers",
    HEAD + "y = f > 0": "line 2, character 7: expected a name, a number or one of",
    HEAD + "y = f[t-2]": "line 2, character 5: expected another value of a line as NAME[t-1] or NAME[below], not f[",
    HEAD + "y = f[0]": "line 2, character 5: expected another value of a line",
    HEAD + "y = b_f[t-1] * f": "line 2, character 5: expected another value of a line",
    HEAD + "y = f.real": "line 2, character 6: expected a name, a number or one of",
    HEAD + "y = f'": "line 2, character 6: expected a name",
    HEAD + "y = __import__(os)": "line 2, character 5: expected a function of search.ops",
    HEAD + "y = f (f)": "line 2, character 7: expected an operator after 'f', which is no matrix",
    HEAD + "y = f * W_f x": "line 2, character 9: 'W_f' is a parameter already",
    HEAD + "y = f * b_f": "line 2, character 9: 'b_f' is a parameter already",
    "y = W x + U x": "line 1, character 5: a sum has two products with 'x'",
    "y = W_out x": "line 1, character 5: 'W_out' is a parameter of the output layer",
    "W = V x\ny = W x": "line 2, character 7: expected an operator after 'W', which is no matrix",
    "y = W x + 1e999": "line 1, character 11: expected a finite number",
    HEAD + "y = f * (1 / 0)": "line 2, character 12: float division by zero",
    HEAD + "y = f + 1e308 * 10": "line 2, character 5: makes the constant inf",
    HEAD + "y = f + tanh(0.5)": "line 2, character 9: tanh of numbers alone",
    "y = 0.5 * y": "equations: y does not depend on the input x",
    "a = W x\ny = 1": "equations: y does not depend on the input x",
    "y = tanh(R y + b)": "equations: y does not depend on the input x",
    "vectors x\ny = W x": "line 1, character 9: expected a name that has no meaning yet, not 'x'",
    "vectors q p\ny = W x": "line 1, character 11: expected a comma or the end of the line, not 'p'",
    "vectors q,\ny = W x": "line 1, character 11: expected a name that has no meaning yet, not the end of the line",
    "preactivations g\ny = W x": "preactivations g: expected names of pre-activations",
    "y = (a: 2)": "line 1, character 6: expected a sum of products and a bias",
    "y = (g: W x) + (g: R y)": "line 1, character 20: two pre-activations are called 'g'",
    "y = tanh(" * 80 + "W x" + ")" * 80: "expected",
    "y = " + "(" * 5000 + "W x" + ")" * 5000: "expected at most 50 levels of parentheses",
    "y = W x" + " + p" * 5000: "line 1, character 5: expected at most 150 terms",
    "y = W x" + " * p" * 5000: "expected at most 150 levels",
    "y = " + "-" * 5000 + "p + W x": "expected fewer signs",
    "y = W x" + " " * 200_000: "expected at most 100000 characters",
    "y = W x \x1b[31m": "line 1, character 9: expected a name, a number or one of + - * / ( ) = , not '\\x1b'",
}


@pytest.mark.parametrize("text", BAD, ids=lambda text: repr(text[:30]))
def test_bad_text_is_refused_in_one_line_that_names_the_place(text: str) -> None:
    with pytest.raises(UserError) as caught:
        read(text)
    said = str(caught.value)
    assert BAD[text] in said and said.startswith("equations: ") and "\n" not in said and len(said) < 200, said


@pytest.mark.parametrize(
    "definition, expected",
    [
        ({"equations": 3}, "equations=3: expected a text"),
        ({"equations": None}, "equations=null: expected a text"),
        ({"equations": MGU, "cell": "lstm"}, "cell: a cell of equations has no such key; expected one of equations"),
        ({"equations": MGU, "forget_gate": "one"}, "forget_gate: a cell of equations has no such key"),
        ({"equations": MGU, "initial": 1}, "initial=1: expected a mapping"),
        ({"equations": MGU, "initial": {"b_g": 1}}, "initial=b_g: expected parameters among W_f, R_f, W_h, R_h, b_f"),
        ({"equations": MGU, "initial": {"b_f": "1"}}, "initial.b_f=1: expected a finite number"),
        ({"equations": MGU, "initial": {"b_f": float("nan")}}, "initial.b_f=nan: expected a finite number"),
        ({"equations": MGU, "initial": {"b_f": 1e300}}, "initial.b_f=1e+300: expected a finite number of float32"),
        ({"equations": MGU, "constants": {"period": 1}}, "constants.period=1: expected a list of finite numbers"),
        ({"equations": MGU, "constants": {"period": []}}, "constants.period=[]: expected a list of finite numbers"),
        ({"equations": MGU, "constants": {"y": [1]}}, "line 3, character 1: 'y' has a meaning"),
        ({"equations": MGU, "constants": {"2": [1]}}, "constants=2: expected names"),
    ],
)
def test_bad_definitions_are_refused_in_one_line(definition: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        cells.define(definition)
    assert expected in str(caught.value) and "\n" not in str(caught.value)
