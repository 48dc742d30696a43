"""What the tests of engines share: members and tasks at sizes that suit an engine, and what equality means."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from search import engines
from search.base.randomness import epoch_order
from search.cells import LSTM, Cell, Preactivations, toggles, variants
from search.engines import Engine, Member
from search.engines.cuda.engine import CudaEngine
from search.ops import exp, mean, relu, sigmoid, tanh
from search.run.bench import PAPER_VARIANTS
from search.tasks import Split, Task
from tests.conftest import make_member
from tests.cuda_emulator import Emulator

CELLS = [*PAPER_VARIANTS, "gru", "rnn", "irnn", "tests.mut3.MUT3"]  # to which every test of engines is put
ZOO = sorted(variants().keys() - {*CELLS, "vanilla_bias1"})  # the others with equations of their own: tests.test_zoo
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
# Shared memory for all recurrent matrices, for some of their rows, and for none.
SHARED_BYTES = {"cuda": 227 * 1024, "cuda, some rows shared": 16 * 1024, "cuda, none shared": 0}
ENGINES = ("cpu", *SHARED_BYTES)


def make_engine(name: str) -> Engine:
    """One of `ENGINES`; those on CUDA run in the emulator, which checks every access."""
    if name == "cpu":
        return engines.choose("cpu", "cpu")
    return CudaEngine(Emulator(shared_bytes=SHARED_BYTES[name]))


@dataclass(frozen=True)
class Scale:
    """Sizes at which an engine's code takes every path, and no more than it can do in a test.

    Attributes:
        shapes: (units, steps, batch) of a layer by itself.
        lengths: of the sequences of a task.
        n_inputs, n_outputs: of a task; of the latter several.
        members: (cell, units) of a population.
        epochs: of its training.
    """

    shapes: tuple[tuple[int, int, int], ...]
    lengths: tuple[int, ...]
    n_inputs: int
    n_outputs: tuple[int, ...]
    members: tuple[tuple[str, int], ...]
    epochs: int

    @staticmethod
    def of(engine: str) -> "Scale":
        return CPU if engine == "cpu" else CUDA

    def task(
        self,
        *,
        loss: str = "bernoulli",
        bidirectional: bool = False,
        n_inputs: int | None = None,
        n_outputs: int | None = None,
    ) -> Task:
        rng = np.random.default_rng(0)
        n_inputs, n_outputs = n_inputs or self.n_inputs, n_outputs or self.n_outputs[0]

        def targets(n_steps: int) -> np.ndarray:
            match loss:
                case "bernoulli":
                    return (rng.random((n_steps, n_outputs)) < 0.3).astype(np.float32)
                case "squared" | "tests.huber.Huber":
                    values = rng.normal(size=(n_steps, n_outputs)).astype(np.float32)
                    values[rng.random(n_steps) < 0.3] = np.nan
                    return values
                case "categorical":
                    return rng.integers(-1, n_outputs, n_steps, np.int32)
            # With CTC the last output is the blank; there may be as many classes as steps, and a class may repeat.
            classes = rng.integers(0, n_outputs - 1, max(1, rng.integers(n_steps + 1)), np.int32)
            while len(classes) + (classes[1:] == classes[:-1]).sum() > n_steps:
                classes = classes[:-1]
            return classes

        def split() -> Split:
            inputs = [rng.normal(size=(n, n_inputs)).astype(np.float32) for n in self.lengths]
            return Split(inputs, [targets(len(x)) for x in inputs])

        splits = {name: split() for name in ("train", "valid", "test")}
        classes = {"categorical": n_outputs, "ctc": n_outputs - 1}.get(loss)
        return Task("small", splits, loss, "nats", bidirectional=bidirectional, n_classes=classes)

    def population(self, task: Task, dtype: str) -> list[Member]:
        """Members of all rules of update."""
        types = ("nesterov", "standard")
        rules = [{"momentum_type": kind, "gradient_clipping": clip} for clip in (False, True) for kind in types]
        cells = enumerate(self.members)
        return [make_member(task, cell, n, k, dtype, **rules[k % len(rules)]) for k, (cell, n) in cells]

    def curves(self, engine: Engine, task: Task, members: Sequence[Member], dtype: str, threads: int = 1) -> np.ndarray:
        """Training losses and validation scores, [2 * epochs, K]"""
        trainer = engine.trainer(task, dtype, threads)
        rows = []
        for epoch in range(self.epochs):
            order = epoch_order(0, epoch, len(task.splits["train"].inputs))
            rows += [trainer.train_epoch(members, [order] * len(members)).losses, trainer.evaluate(members, "valid")]
        return np.array(rows)


CPU = Scale(
    shapes=((1, 1, 1), (5, 7, 3), (16, 4, 1), (17, 1, 3), (33, 9, 2)),
    lengths=(1, 19, 15, 12, 8, 2, 22),
    n_inputs=7,
    n_outputs=(5, 19),
    members=(("vanilla", 5), ("fgr", 17), ("gru", 16), ("tests.mut3.MUT3", 33), ("cifg", 1), ("rnn", 12)),
    epochs=3,
)
# Of one cell more members than blocks are resident; sizes of one, of several shares a unit, and of more than one tile.
CUDA = Scale(
    shapes=((1, 1, 1), (5, 7, 3), (17, 1, 3), (33, 9, 2), (70, 3, 1)),
    lengths=(1, 19, 4),
    n_inputs=7,
    n_outputs=(35,),
    members=(("vanilla", 5), ("fgr", 11), ("gru", 16), ("tests.mut3.MUT3", 20), ("vanilla", 1), ("vanilla", 33)),
    epochs=2,
)


@dataclass(frozen=True)
class Odd(Cell):
    """Declares what no other cell does: a state that no matrix hears, one that is a constant, a pre-activation with
    nothing but a product with the state, one that only a passed operand feeds, and one that changes nothing."""

    def affine(self) -> dict[str, str]:
        return {
            "a": "W_a x + R_a y",
            "b": "R_b s",
            "c": "R_c first + Q_c second + b_c",
            "d": "W_d x + R_d third + b_d",
            "e": "W_e x + R_e y + b_e",
        }

    @property
    def units(self) -> tuple[str, ...]:
        return ("p", "unused")

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        a = pre("a")
        c = pre("c", first=tanh(a) * past.quiet, second=a / (1.0 + exp(-past.y)))
        d = sigmoid(pre("d", third=relu(c) - p.p * past.fixed))
        pre("e")
        return {"y": d * pre("b") + 0.5 * a, "s": tanh(c), "quiet": 0.5 * past.quiet + d, "fixed": 0.3}


@dataclass(frozen=True)
class Averaged(Cell):
    """Takes means over the units where no other cell does: of a mean, of a parameter, of an operand that it passes, of
    what that gives, and of a state that is itself a mean."""

    def affine(self) -> dict[str, str]:
        return {"a": "W x + R y", "b": "Q u + b"}

    @property
    def units(self) -> tuple[str, ...]:
        return ("g",)

    def step(self, past: Any, pre: Preactivations, p: Any) -> dict[str, Any]:
        a = pre("a")
        u = (a - mean(a)) * mean(p.g * past.y)
        b = pre("b", u=u)
        return {"y": tanh(b - mean(b * b)) + mean(mean(a) * past.s) + a, "s": mean(u) + mean(p.g)}


def unrolled(engine: Engine, cell: Cell, params: dict[str, torch.Tensor], x: torch.Tensor) -> list[torch.Tensor]:
    """y, and the gradients of a weighted sum of it with respect to x and each parameter."""
    inputs = [x, *params.values()]
    y = engine.unroll(cell, params, x)
    weights = torch.cos(torch.arange(y.numel(), dtype=y.dtype)).reshape(y.shape)
    gradients = torch.autograd.grad((y * weights).sum(), inputs, allow_unused=True)
    return [y.detach(), *(torch.zeros_like(v) if g is None else g for v, g in zip(inputs, gradients, strict=True))]


def assert_unrolls_like(
    engine: Engine,
    reference: Engine,
    cell: Cell,
    *,
    n_units: int,
    n_steps: int = 6,
    n_batch: int = 2,
    dtype: str,
    spread: float = 0.4,  # of the weights; through many steps and units more than 1 / sqrt(units) makes chaos
) -> None:
    number = getattr(torch, dtype)
    params = {
        name: (spread * torch.randn(*shape, dtype=number)).requires_grad_()
        for name, shape in cell.parameters(3, n_units).items()
    }
    x = torch.randn(n_steps, n_batch, 3, dtype=number, requires_grad=True)
    ours, theirs = (unrolled(e, cell, params, x) for e in (engine, reference))
    # A gradient that the equations make 0, such as that of b_i of the sLSTM, is what the others' sums round to. Of a
    # single number, as a bias of one unit, there is no larger one beside it where the terms of its sum cancel.
    scale = max(1.0, *(float(gradient.abs().max()) for gradient in theirs[1:]))
    for name, a, b in zip(["y", "x", *params], ours, theirs, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        least = scale * (1e-2 if b.numel() == 1 else 1e-3)
        worst = (a - b).abs().max() / b.abs().max().clamp(min=least)
        assert worst < TOLERANCE[dtype], f"{name}: {worst:.1e}"


def lstms() -> list[LSTM]:
    """The LSTM with every combination of its toggles, each set of equations once."""
    choices = {
        "input_gate": ("sigmoid", "one"),
        "forget_gate": ("sigmoid", "coupled", "one"),
        "output_gate": ("sigmoid", "one"),
        "input_activation": ("tanh", "identity"),
        "output_activation": ("tanh", "identity"),
        "recurrence": ("full", "diagonal"),
    } | dict.fromkeys(("peephole_i", "peephole_f", "peephole_o", "gate_recurrence"), (True, False))
    assert choices.keys() == set(toggles(LSTM)) - {"forget_bias"}
    cells = [LSTM(**dict(zip(choices, values, strict=True))) for values in itertools.product(*choices.values())]
    return list({cell.signature: cell for cell in cells}.values())
