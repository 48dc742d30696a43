"""Where the time of a cell's training step goes on the CPU engine, beside the time of its arithmetic.

A cell is measured as it is and with its products left out: with every pre-activation multiplied by a constant 0, of
which the engine finds that no product counts (`search.engines.use`). What is left is elementwise work, the update of
weights, and what every cell has; the last is what a cell of nothing else takes. `vanilla` is measured in turn with it:
its operations a second are the rate at which arithmetic is expected to go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np

from search import cells, engines
from search.cells import Cell
from search.cells.cell import Preactivations
from search.engines.plan import DEAR, Plan, make_plan
from search.expression import OPERATIONS
from search.network import Network
from search.run.bench import epoch_seconds, flops_per_step, sgemm_rate
from search.tasks import Split, Task

MOST = 1.3  # times the time of its arithmetic, beyond which a card says why
_POPULATION, _REPEATS, _EPOCHS = 4, 5, 12  # an epoch takes milliseconds, which anything else on the machine may take
_NONE = "no_product"  # the constant


@dataclass(frozen=True)
class WithoutProducts(Cell):
    """A cell whose pre-activations are all 0, and none of whose products need be computed."""

    whole: Cell = field(metadata={"toggle": False})

    def __post_init__(self) -> None:  # its field is no toggle to be checked
        pass

    def affine(self) -> dict[str, str]:
        return self.whole.affine()

    @property
    def units(self) -> tuple[str, ...]:
        return self.whole.units

    def constants(self, n_units: int) -> dict[str, np.ndarray]:
        return {**self.whole.constants(n_units), _NONE: np.zeros(n_units)}

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        def none(name: str, /, **operands: Any) -> Any:
            return getattr(p, _NONE) * pre(name, **operands)

        return self.whole.step(past, none, p)

    def initial(self, name: str, normal: np.ndarray) -> np.ndarray:
        return self.whole.initial(name, normal)


@dataclass(frozen=True)
class Parts:
    """Seconds of a training step of one trial, by what they go to.

    Attributes:
        products: the cell's matrix products.
        elementwise: the rest of the cell, and the update of its weights.
        common: what every cell has: noise on the inputs, the output layer, the loss.
    """

    products: float
    elementwise: float
    common: float

    @property
    def total(self) -> float:
        return self.products + self.elementwise + self.common


@dataclass(frozen=True)
class Timing:
    """The time of a cell.

    Attributes:
        cell: of the cell.
        vanilla: of ``vanilla`` of the same size.
        arithmetic: operations of its matrix products by those of vanilla's.
        share: of the machine's matrix rate.
    """

    cell: Parts
    vanilla: Parts
    arithmetic: float
    share: float

    @property
    def times(self) -> float:
        """The cell's time by that of its arithmetic at vanilla's rate."""
        return self.cell.total / (self.vanilla.total * self.arithmetic)

    @property
    def excess(self) -> Parts:
        """Seconds of each part over those that vanilla takes for it, for as much arithmetic."""
        pairs = zip(astuple(self.cell), astuple(self.vanilla), strict=True)
        return Parts(*(own - its * self.arithmetic for own, its in pairs))

    @property
    def product_rate(self) -> float:
        """Rate of the products alone, by that of vanilla's."""
        return self.arithmetic * self.vanilla.products / self.cell.products

    def why(self, plan: Plan) -> str:
        """What most of the excess goes to; empty where the time is within `MOST` of the arithmetic's."""
        if self.times <= MOST:
            return ""
        excess, own = self.excess, self.cell
        of = f"of {_us(own.total)} us"
        match max(vars(excess), key=vars(excess).__getitem__):
            case "common":
                return (
                    f"{_us(own.common)} {of} are noise on the inputs, output layer and loss, as of every cell, "
                    "and it has little arithmetic of its own"
                )
            case "elementwise":
                forward, backward = elementwise(plan)
                stages = f"{len(plan.forward)} + {len(plan.backward)} stages"
                return (
                    f"{_us(own.elementwise)} {of} are elementwise, forward and backward: {forward} + {backward} "
                    f"operations a unit in {stages}, {elementwise(plan, DEAR)[0]} functions and divisions forward "
                    "among them"
                )
        n = len(plan.products)
        return f"{_us(own.products)} {of} are products, {n} of them, at {self.product_rate:.2f} of vanilla's rate"


def timing(cell: Cell, n_inputs: int, n_units: int) -> Timing:
    """Measures a cell, in turn with vanilla.

    On 16 sequences of 100 steps of noise with two classes, several trials at a time, as by ``odyssey bench``. Of
    several repeats the least counts, for what else a machine does only adds to it. Parts are differences: on a machine
    that is busy they can be far off, and even below 0.
    """
    task = _task(n_inputs)
    threads, engine = engines.n_cores(), engines.choose("cpu")
    vanilla, nothing = cells.get("vanilla"), cells.define({"equations": "y = W x"})
    measured = [cell, WithoutProducts(cell), vanilla, WithoutProducts(vanilla), WithoutProducts(nothing)]
    sizes = [n_units] * _POPULATION * threads

    def least(cell: Cell) -> float:
        return min(epoch_seconds(engine, task, cell, sizes, threads, _EPOCHS))

    rows = [[least(each) for each in measured] for _ in range(_REPEATS)]
    n_steps = task.splits["train"].n_steps
    whole, bare, its_whole, its_bare, common = (min(column) / n_steps for column in zip(*rows, strict=True))
    flops, its_flops = (flops_per_step(Network(each, n_inputs, n_units, task.n_outputs)) for each in (cell, vanilla))
    return Timing(
        Parts(whole - bare, bare - common, common),
        Parts(its_whole - its_bare, its_bare - common, common),
        flops / its_flops,
        flops / whole / max(sgemm_rate(_REPEATS)),
    )


def elementwise(plan: Plan, operations: Sequence[str] = OPERATIONS) -> tuple[int, int]:
    """Elementwise operations of the schedule, for each unit at a step: forward, and backward."""
    forward, backward = (
        sum(plan.nodes[index].op in operations for stage in stages for index in stage.nodes)
        for stages in (plan.forward, plan.backward)
    )
    return forward, backward


def facts(timing: Timing, plan: Plan) -> dict[str, str]:
    """What a card says of the time, by what it is."""
    own, its = timing.cell, timing.vanilla
    found = {
        "time of a training step": f"{_us(own.total)} us; vanilla's {_us(its.total)}",
        "rate of its arithmetic": f"{100 * timing.share:.0f} % of the matrix rate",
        "time of its matrix products": f"{_us(own.products)} us; vanilla's {_us(its.products)}",
        "time of elementwise work, and of the update": f"{_us(own.elementwise)} us; vanilla's {_us(its.elementwise)}",
        "time of noise, output layer and loss": f"{_us(own.common)} us, of every cell",
        "its time, by that of its arithmetic at vanilla's rate": f"{timing.times:.2f}",
    }
    return found | ({"why that is more": why} if (why := timing.why(plan)) else {})


def table(timed: Mapping[str, tuple[Cell, Timing]]) -> list[list[str]]:
    """The head, and for each variant a row, those first whose time is the most beside that of their arithmetic."""
    rows = [["variant", "us a step", "times its arithmetic", "products", "elementwise", "common", "why"]]
    for name, (cell, each) in sorted(timed.items(), key=lambda item: -item[1][1].times):
        parts = [_us(part) for part in astuple(each.cell)]
        rows.append([name, _us(each.cell.total), f"{each.times:.2f}", *parts, each.why(make_plan(cell))])
    return rows


def markdown(rows: Sequence[Sequence[str]], size: str) -> str:
    """The table as GitHub's Markdown, with what its columns are."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    text = (
        f"Of a training step of one trial of one layer on the CPU engine, {size}, in us. *Times its arithmetic*: that "
        "time by what as many operations in matrix products take of `vanilla`. *Products*: the cell's own; "
        "*elementwise*: the rest of the cell, and the update of its weights; *common*: noise on the inputs, output "
        f"layer and loss, as of every cell. *Why*: what most of the excess goes to, where it is more than {MOST} times."
    )
    made = "Made by `odyssey cell all measure=true out=FOLDER` on a machine that did nothing else."
    parts = ["# Times of all cells", text, "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]), made]
    return "\n\n".join(parts) + "\n"


def _task(n_inputs: int) -> Task:
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((100, n_inputs), np.float32) for _ in range(16)]
    split = Split(inputs, [rng.integers(0, 2, 100, np.int32) for _ in inputs])
    return Task("noise", dict.fromkeys(("train", "valid", "test"), split), "categorical", "error [%]", n_classes=2)


def _us(seconds: float) -> str:
    return f"{1e6 * seconds:.3g}"
