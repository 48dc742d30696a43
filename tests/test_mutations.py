"""Mutations of cells: what they make can be said as text and trained, and what cannot be trained is found out."""

import numpy as np
import pytest
import torch

from search import cells, unroll
from search.cells.canonical import canonical
from search.cells.parser import parse
from search.cells.printer import readable
from search.cells.text import TextCell
from search.errors import UserError
from search.evolve.genome import Genome
from search.evolve.mutations import MUTATIONS, mutated
from search.evolve.viability import fault

GRU = Genome.of({"cell": "gru"})
LSTM = Genome.of(cells.variants()["np"])
RNN = "y = tanh(W x + R y + b)"


def text(equations: str) -> Genome:
    return Genome.of({"equations": equations})


def applied(name: str, genome: Genome) -> set[str]:
    """The texts that a mutation makes of a genome."""
    made = [MUTATIONS[name](genome, np.random.default_rng(seed)) for seed in range(60)]
    return {found.tidied().equations.text.strip() for found in made if found}


@pytest.mark.slow
def test_a_long_line_of_mutations_is_text_that_reads_the_same_and_compiles() -> None:
    rng, legal, heads = np.random.default_rng(0), 0, [GRU, LSTM]
    for _ in range(300):
        before = heads[rng.integers(len(heads))]
        genome, _ = mutated(before, rng)
        assert parse(genome.equations.text) == genome.equations, genome.equations.text
        try:
            cell = cells.define(genome.definition)
        except UserError as error:
            assert str(error) == "equations: y does not depend on the input x", genome.equations.text
            continue
        legal += 1
        assert Genome.of(genome.definition) == genome
        assert canonical(TextCell(readable(cell).text)) == canonical(TextCell(genome.equations.text))
        if len(genome.equations.text) < 600:
            heads = [*heads[-20:], genome]
        params = {name: torch.zeros(shape) for name, shape in cell.parameters(2, 3).items()}
        assert unroll(cell, params, torch.zeros(3, 1, 2)).shape == (3, 1, 3)
    assert legal > 280


@pytest.mark.parametrize("name", MUTATIONS)
@pytest.mark.parametrize("genome", [GRU, LSTM], ids=["gru", "lstm"])
def test_each_mutation_makes_other_cells_of_lstm_and_gru(name: str, genome: Genome) -> None:
    made = [MUTATIONS[name](genome, np.random.default_rng(seed)) for seed in range(40)]
    definitions = [found.tidied().definition for found in made if found]
    assert all(definition != genome.definition for definition in definitions)
    if (name, genome) != ("split", LSTM):  # of which no line with matrices is read twice
        forms = {canonical(cells.define(d)) for d in definitions if _legal(d)}
        assert forms - {canonical(cells.define(genome.definition))}, name


def _legal(definition: dict[str, object]) -> bool:
    try:
        cells.define(definition)
    except UserError:
        return False
    return True


@pytest.mark.parametrize(
    "name, before, after",
    [
        ("activation", RNN, "y = sigmoid(W x + R y + b)"),
        ("operation", "a = tanh(W x + R y)\ny = a * y", "a = tanh(W x + R y)\ny = a - y"),
        ("insert_activation", RNN, "y = tanh(W x + R relu(y) + b)"),
        ("insert_operation", RNN, "y = tanh(W x + R y + b) * y"),
        ("insert_operation", RNN, "y = tanh(W x + R (y - (W1 x)) + b)"),
        ("insert_product", "a = W x\ny = tanh(R y + a)", "a = W x\ny = tanh(R y + R1 a + a)"),
        ("remove", RNN, "y = W x + R y + b"),
        ("remove", RNN, "y = tanh(W x + R y)"),
        ("remove", "a = tanh(W x)\ny = a * y", "a = tanh(W x)\ny = a"),
        ("swap", "a = tanh(W x)\ny = a * sin(y)", "a = tanh(W x)\ny = sin(y) * a"),
        ("rewire", "a = tanh(W x)\ny = a * y", "a = tanh(W x)\ny = a * a"),
        ("rewire", "a = tanh(W x)\ny = a * y", "a = tanh(W x)\ny = a[t-1] * y"),
        (
            "share",
            "a = tanh(W_a x)\ny = a * tanh(W_y x + R y + b)",
            "v1 = W_a x\na = tanh(v1)\ny = a * tanh(R y + b + v1)",
        ),
        ("split", "a = tanh(W_a x + b_a)\ny = a * y + a", "a = tanh(W_a x + b_a)\ny = a * y + tanh(W1 x + b_1)"),
        ("one", RNN, "y = 1 - tanh(W x + R y + b)"),
        ("one", RNN, "y = tanh(W x + R (y + 1) + b)"),
    ],
)
def test_a_mutation_does_what_its_name_says(name: str, before: str, after: str) -> None:
    assert text(after).equations.text.strip() in applied(name, text(before))


def test_the_bias_of_a_gate_is_opened_and_closed_again() -> None:
    opened = MUTATIONS["bias"](text(RNN), np.random.default_rng(0))
    assert opened and dict(opened.initial) in ({"b": 1.0}, {"b": -1.0})
    values = [MUTATIONS["bias"](opened, np.random.default_rng(seed)) for seed in range(9)]
    assert {} in [found.initial for found in values if found]
    assert Genome.of(opened.definition) == opened


def test_what_y_does_not_hear_is_left_out() -> None:
    genome = text("a = tanh(W x)\nb_gate = sigmoid(V x + b_v)\ny = a + y")
    assert "b_gate" not in genome.equations.names and list(genome.initial) == []


@pytest.mark.parametrize(
    "equations, expected",
    [
        (RNN, None),
        ("y = tanh(W x + b)", "no memory"),
        ("h = tanh(W x)\ny = tanh(R h + b)", "no memory"),
        ("c = c * sigmoid(W_c x)\ny = tanh(W x + R y) + c", "dead"),
        ("y = y * tanh(W x)", "dead"),
        ("y = relu(-relu(W x) - relu(R y))", "dead"),
        ("y = 2 * y + W x", "explosive"),
        ("y = y * y + exp(W x) + 1", "explosive"),
        ("y = sqrt(W x + R y)", "explosive"),
        (
            "\n".join(f"v{k} = W{k} x" for k in range(13)) + "\ny = y" + "".join(f" + v{k}" for k in range(13)),
            "too large",
        ),
    ],
)
def test_cells_that_cannot_be_trained_are_found_out(equations: str, expected: str | None) -> None:
    assert fault(cells.define({"equations": equations})) == expected


@pytest.mark.parametrize(
    "variant", ["vanilla", "np", "vanilla_bias1", "nfg", "gru", "rnn", "irnn", "mut1", "mut3", "lem"]
)
def test_cells_of_the_literature_are_viable(variant: str) -> None:
    assert fault(cells.get(variant)) is None
