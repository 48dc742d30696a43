"""The card of a cell: its equations, what they cost, and how far back a gradient reaches when training begins."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis import cell_time
from search import cells
from search.base.randomness import initial_normal
from search.cells import Cell
from search.cells.printer import PAST, node_texts, readable
from search.cells.typeset import latex
from search.engines.plan import make_plan
from search.engines.use import counted
from search.network import Network
from search.run.bench import flops_per_step

STEPS = 100  # through which the gradient is followed
SHOWN = (0, 1, 2, 5, 10, 20, 50, 100)  # steps of which the card has the number
_DRAWS, _SEQUENCES = 4, 16  # of weights, and of inputs for each


@dataclass(frozen=True)
class Card:
    """What is said of a cell.

    Attributes:
        name: of the variant.
        definition: of the variant, as its file has it.
        cell: its equations.
        n_inputs, n_units: size of the layer.
        norms: as `gradient_norms` gives them.
        timing: as `analysis.cell_time.timing` gives it; None where it was not asked for.
    """

    name: str
    definition: Mapping[str, Any]
    cell: Cell
    n_inputs: int
    n_units: int
    norms: np.ndarray
    timing: cell_time.Timing | None = None

    @property
    def about(self) -> str:
        """What the cell's class says of itself; empty for a cell of equations."""
        own = "" if "equations" in self.definition else type(self.cell).__doc__ or ""
        return " ".join(own.partition("\n\n")[0].split())

    @property
    def toggles(self) -> dict[str, str]:
        """Each toggle, and its value as one types it; of a cell of equations what is said beside them."""
        if "equations" in self.definition:
            return {key: str(value) for key, value in self.definition.items() if key != "equations"}
        values = {name: getattr(self.cell, name) for name in cells.toggles(self.cell)}
        return {name: str(v).lower() if isinstance(v, bool) else str(v) for name, v in values.items()}

    @property
    def facts(self) -> dict[str, str]:
        """What the cell costs, by what it is."""
        network = Network(self.cell, self.n_inputs, self.n_units, n_outputs=0)
        shapes, plan = network.shapes, make_plan(self.cell)
        of_inputs, recurrent, vectors = _counts(self.cell)
        total = sum(map(_product, shapes.values()))
        forward = 2 * sum(counted(self.cell, self.n_inputs, self.n_units).values())
        kept = node_texts(self.cell, plan.tape)
        return {
            "parameters": f"{of_inputs} N M + {recurrent} N N + {vectors} N = {total:,}",
            "matrix products a step": f"{forward:,.0f} operations forward, {flops_per_step(network):,.0f} in training",
            "elementwise a step and unit": "{} forward, {} backward".format(*cell_time.elementwise(plan)),
            "kept for the backward pass": f"{len(kept)} numbers a step and unit: {', '.join(kept)}",
        }

    @property
    def time(self) -> dict[str, str]:
        """Where the time of a training step goes, if that was measured."""
        return cell_time.facts(self.timing, make_plan(self.cell)) if self.timing else {}

    @property
    def size(self) -> str:
        return f"M = n_inputs = {self.n_inputs}, N = hidden_size = {self.n_units}"

    @property
    def gradient(self) -> dict[int, str]:
        """Norms by the number of steps, as text."""
        return {k: f"{np.median(self.norms[:, k]):.2g}" for k in SHOWN}

    def text(self) -> list[str]:
        """The lines of the card for a terminal."""
        lines = [self.name, *([self.about] if self.about else []), ""]
        lines += [f"  {line}" for line in readable(self.cell).shown()]
        lines += ["", PAST, ""]
        lines += [f"{name}={value}" for name, value in self.toggles.items()] + ([""] if self.toggles else [])
        lines += [f"{self.size}:"] + [f"  {name}: {value}" for name, value in self.facts.items()]
        lines += [f"  {name}: {value}" for name, value in self.time.items()]
        norms = ", ".join(f"{k}: {value}" for k, value in self.gradient.items())
        return [*lines, f"  gradient of y by the input of so many steps before, at initialisation: {norms}"]

    def markdown(self) -> str:
        """The card as GitHub's Markdown, beside which stands the plot NAME.png."""
        parts = [f"# {self.name}"]
        if self.about:
            parts.append(self.about)
        parts.append(f"```math\n{latex(readable(self.cell).named())}\n```")
        parts.append(f"As text. {PAST}\n\n```\n{readable(self.cell).text}```")
        if self.toggles:
            parts.append(_table(("toggle", "value"), {name: f"`{value}`" for name, value in self.toggles.items()}))
        parts.append(_table((self.size, ""), self.facts))
        parts.append(
            f"![Norm of the gradient by steps]({self.name}.png)\n\nNorm of the gradient of y by the input of so many "
            f"steps before, at initialisation: median of {_DRAWS} draws of the weights with {_SEQUENCES} sequences of "
            "noise each, in the plot with the range of the middle half."
        )
        parts.append(_table(("steps", "norm"), {str(k): value for k, value in self.gradient.items()}))
        if self.time:
            parts.append(_table(("on the CPU engine", ""), self.time))
        measure = " measure=true" if self.time else ""
        return "\n\n".join(parts) + f"\n\nMade by `odyssey cell {self.name}{measure} out=FOLDER`.\n"


def gradient_norms(cell: Cell, n_inputs: int, n_units: int, seed: int) -> np.ndarray:
    """Norms of the gradient of y by the inputs before it, at initialisation, in float64.

    The last of 101 outputs, in a random direction of unit length, is differentiated by each input, which are noise of
    unit variance; the weights are those with which training begins.

    Returns:
        [D, STEPS + 1]: by draw and sequence, and by the number of steps from input to output
    """
    import torch  # takes seconds to load

    from search import unroll

    rng, found = np.random.default_rng(seed), []
    for draw in range(_DRAWS):
        shapes = cell.parameters(n_inputs, n_units)
        values = {name: cell.initial_value(name, initial_normal(seed + draw, name, s)) for name, s in shapes.items()}
        params = {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
        x = torch.tensor(rng.normal(size=(STEPS + 1, _SEQUENCES, n_inputs)), requires_grad=True)
        along = rng.normal(size=(_SEQUENCES, n_units))
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        last = unroll(cell, params, x, "cpu")[-1]
        (gradient,) = torch.autograd.grad((last * torch.tensor(along)).sum(), x)
        found.append(gradient.norm(dim=2).flip(0).T.numpy())
    return np.concatenate(found)


def _counts(cell: Cell) -> tuple[int, int, int]:
    """Input matrices, recurrent ones, and vectors."""
    terms = [term for pre in cell.preactivations.values() for term in pre.terms]
    of_inputs = sum(term.operand == "x" for term in terms)
    vectors = len(cell.parameters(1, 1)) - len(terms)
    return of_inputs, len(terms) - of_inputs, vectors


def _product(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def _table(head: tuple[str, str], rows: Mapping[str, str]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {value} |".replace("\n", " ") for name, value in rows.items())])
