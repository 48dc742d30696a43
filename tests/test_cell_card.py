"""The cards of cells: what they say, and that those in docs/cells are those of the cells as they are."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser

from analysis.cell_card import SHOWN, STEPS, Card, gradient_norms
from search import cells
from search.cells import Cell
from search.cells.printer import readable
from search.cells.typeset import latex
from search.run.cli import main
from tests.test_cells import VARIANTS
from tests.test_text_cells import Random

DOCS = Path(__file__).parents[1] / "docs" / "cells"
OWN = "equations: |\n  a = tanh(W x + R y + b)\n  y = a ** 2 / p\n"


def card(name: str) -> Card:
    return Card(name, cells.variants()[name], cells.get(name), 88, 64, np.ones((2, STEPS + 1)))


@pytest.mark.parametrize("name", VARIANTS)
def test_docs_have_the_card_of_every_variant(name: str) -> None:
    """Made by ``odyssey cell all out=docs/cells``."""
    written = DOCS.joinpath(f"{name}.md").read_text()
    assert written.partition("![")[0] == card(name).markdown().partition("![")[0]
    assert DOCS.joinpath(f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_card_counts_what_the_equations_have() -> None:
    facts = card("gru").facts
    assert facts["parameters"] == f"3 N M + 3 N N + 3 N = {3 * 64 * (88 + 64 + 1):,}"
    products = f"{6 * 64 * (88 + 64):,} operations forward, {6 * 64 * (2 * 88 + 3 * 64):,} in training"
    assert facts["matrix products a step"] == products
    assert facts["elementwise a step and unit"].startswith("8 forward")  # 3 functions, 1 - z, 3 products, a sum
    assert facts["kept for the backward pass"].endswith(": y, r * y, z, r, n")
    assert card("vanilla").toggles["peephole_i"] == "true" and card("cifg").toggles["forget_gate"] == "coupled"


def test_the_gradient_of_a_known_cell_is_the_known_one() -> None:
    """y = W x + y / 2: of k steps the gradient is W^T u / 2^k, and u is of unit length."""
    cell = cells.define({"equations": "y = W x + 0.5 * y"})
    norms = gradient_norms(cell, n_inputs=3, n_units=1, seed=1)
    assert norms.shape == (64, STEPS + 1)
    np.testing.assert_allclose(
        norms / norms[:, :1], np.broadcast_to(0.5 ** np.arange(STEPS + 1), norms.shape), rtol=1e-9
    )


def parsed(text: str) -> None:
    """Raises ValueError unless matplotlib reads the lines of aligned LaTeX."""
    lines = text.removeprefix("\\begin{aligned}\n").removesuffix("\n\\end{aligned}").split(" \\\\\n")
    for line in lines:
        MathTextParser("path").parse(f"${line.replace('&', '').replace('{', '{')}$")


@pytest.mark.parametrize("cell", [*map(cells.get, VARIANTS), *map(Random, range(10))], ids=str)
def test_equations_are_typeset_as_latex(cell: Cell) -> None:
    parsed(latex(readable(cell).named()))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("y = tanh(W_z x + R_z (p_i * y) + b_z)", r"\tanh\left(W_{z}\,x_{t} + R_{z}\,\left(p_{i} \odot y_{t-1}\right)"),
        ("a = W x\ny = (a - (1 - a)) / a", r"y_{t} &= \frac{a_{t} - \left(1 - a_{t}\right)}{a_{t}}"),
        ("y = W x + 2 * (1 + y) ** 2", r"2\,{\left(1 + y_{t-1}\right)}^{2}"),
        ("h_1 = W x\ny = -h_1 * 1e-5", r"-h_{1,t} \odot \left(1 \cdot 10^{-5}\right)"),
        ("vectors nu_h\ny = W x + exp(nu_h) * y", r"\exp\left(\nu_{h}\right) \odot y_{t-1}"),
        ("gate = W x\ny = where(gate, absolute(y), sqrt(gate[t-1]))", r"\sqrt{\mathrm{gate}_{t-1}}"),
    ],
)
def test_latex_says_what_the_text_says(text: str, expected: str) -> None:
    found = latex(readable(cells.define({"equations": text})).named())
    assert expected in found
    parsed(found)


def test_the_command_prints_cards_and_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own" / "variant").mkdir(parents=True)
    (tmp_path / "own" / "variant" / "mine.yaml").write_text(OWN)
    small = ["hidden_size=4", "n_inputs=3", "--config-dir", "own"]
    assert main(["cell", "mine,gru", *small]) == 0
    out = capsys.readouterr().out
    assert "  y = a ** 2 / p\n" in out and "\n\ngru\n" in out and "M = n_inputs = 3, N = hidden_size = 4:" in out
    assert main(["cell", "mine", *small, "out=cards"]) == 0
    written = (tmp_path / "cards" / "mine.md").read_text()
    assert "```math\n" in written and "](mine.png)" in written and all(f"| {k} |" in written for k in SHOWN)
    image = matplotlib.image.imread(tmp_path / "cards" / "mine.png")
    assert image.shape[0] > 200 and image.std() > 0.02


@pytest.mark.slow
def test_the_command_measures_cells_and_lists_their_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["hidden_size=4", "n_inputs=3", "measure=true"]
    assert main(["cell", "rnn,gru", *small]) == 0
    out = capsys.readouterr().out
    assert out.count("% of the matrix rate") == 2 and "time of elementwise work, and of the update: " in out
    table = out[out.index("\nvariant ") :].strip().splitlines()
    assert len(table) == 3 and {line.split()[0] for line in table[1:]} == {"rnn", "gru"}
    assert main(["cell", "rnn,gru", *small, "out=cards"]) == 0
    told = (tmp_path / "cards" / "times.md").read_text()
    assert "M = 3, N = 4" in told and told.count("\n| ") == 3
    card = (tmp_path / "cards" / "rnn.md").read_text()
    assert (
        "| its time, by that of its arithmetic at vanilla's rate | " in card
        and "cell rnn measure=true out=FOLDER" in card
    )
    assert main(["cell", "rnn", "hidden_size=4", "n_inputs=3", "out=plain"]) == 0
    assert card.partition("![")[0] == (tmp_path / "plain" / "rnn.md").read_text().partition("![")[0]


@pytest.mark.parametrize(
    "words, expected",
    [
        (["vanila"], "variants=vanila: expected names among cifg"),
        (["gru", "hidden_size=0"], "hidden_size=0: expected a whole number of at least 1"),
        (["gru", "n_inputs=1.5"], "n_inputs=1.5: expected a whole number"),
        (["gru", "measure=yes"], "measure=yes: expected true or false"),
        (["gru", "rnn"], "rnn: expected key=value"),
        (["bad", "--config-dir", "own"], "line 1, character 5: 'nothing' is given by no line"),
    ],
)
def test_bad_words_are_refused_in_one_line(
    words: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own" / "variant").mkdir(parents=True)
    (tmp_path / "own" / "variant" / "bad.yaml").write_text(yaml.safe_dump({"equations": "y = nothing"}))
    assert main(["cell", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and expected in err


def test_the_plot_is_of_all_steps() -> None:
    from analysis.cell_figure import draw_gradient

    norms = np.exp(-np.arange(STEPS + 1.0)) * np.ones((5, 1))
    for values, scale in ((norms, "log"), (np.maximum(norms, 0.0) * 0.0, "linear")):
        figure = draw_gradient("mine", values)
        assert isinstance(figure, Figure) and figure.axes[0].get_yscale() == scale
        FigureCanvasAgg(figure).draw()
        assert figure.axes[0].get_xlim() == (0, STEPS)
