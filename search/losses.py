"""The losses of the tasks, what targets each takes, and the scores that go with them.

| loss | targets of a sequence | score of a split |
|---|---|---|
| ``bernoulli`` | 0 or 1, float32 [T, O] | loss per step |
| ``squared`` | float32 [T, O]; NaN in the rows of steps that are not predicted | loss per predicted step |
| ``categorical`` | class, int32 [T]; -1 at steps that are not predicted | wrong steps in percent of those predicted |
| ``ctc`` | classes in order, int32 [L]; T steps must have room for them | edits in percent of all classes |

Each is in nats (``squared``: half the squared error), summed over the sequence. With ``ctc`` the last of the O outputs
is the blank. An `Elementwise` loss of a user's own goes by its import path, ``my_module.MyLoss``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from search.expression import EquationError, Expr, Graph, Node, adjoints, closure
from search.ops import absolute, exp, relu, where
from search.own import explained, imported

if TYPE_CHECKING:  # torch takes seconds to load, and only the losses of the reference engine need it
    import torch


@dataclass(frozen=True)
class Targets:
    """The targets that a loss takes.

    Attributes:
        dtype: of the arrays.
        expected: what each row of them is, in words; ``{last}`` is the last class.
        legal: of rows, and the number of classes, whether each is that, or each number in it: bool [rows, ...].
        classes: whether they are classes, [T] or with CTC [L], or else [T, O].
        each_step: whether there is a row for each step.
        gaps: whether, of numbers, a row of NaN says that its step is not predicted.
    """

    dtype: type[np.generic]
    expected: str
    legal: Callable[[np.ndarray, int], np.ndarray]
    classes: bool
    each_step: bool = True
    gaps: bool = False


def _whole(rows: np.ndarray, low: int, high: int) -> np.ndarray:
    return (rows >= low) & (rows <= high) & (rows == np.trunc(rows))


BITS = Targets(np.float32, "each target to be 0 or 1", lambda rows, n: (rows == 0) | (rows == 1), classes=False)
NUMBERS = Targets(
    np.float32,
    "finite targets, or NaN in all columns of a step that is not predicted",
    lambda rows, n: np.logical_or(np.isfinite(rows).all(axis=1), np.isnan(rows).all(axis=1)),
    classes=False,
    gaps=True,
)
LABELS = Targets(
    np.int32,
    "a class from 0 to {last}, or -1 where nothing is predicted",
    lambda rows, n: _whole(rows, -1, n - 1),
    classes=True,
)
CLASSES = Targets(
    np.int32, "a class from 0 to {last}", lambda rows, n: _whole(rows, 0, n - 1), classes=True, each_step=False
)


class Scored(Protocol):
    """What `Loss.score` needs of a split."""

    @property
    def inputs(self) -> Sequence[np.ndarray]: ...
    @property
    def targets(self) -> Sequence[np.ndarray]: ...
    @property
    def n_predicted(self) -> int: ...


class Loss:
    """A loss and its score.

    Attributes:
        targets: that it takes.
        counts_errors: whether the score is the percentage of `errors`, or else the loss per what is predicted.
    """

    targets: ClassVar[Targets]
    counts_errors: ClassVar[bool] = False

    def total(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss of each member [K], of outputs [K, T, O] and the targets of a sequence."""
        raise NotImplementedError

    @property
    def signature(self) -> str:
        """The loss as text: equal for losses that compute the same."""
        return type(self).__name__

    def errors(self, best: np.ndarray, split: Scored, n_outputs: int) -> int:
        """The number of errors, of the most probable outputs at every step of a split, int32 [steps]."""
        raise NotImplementedError

    def score(self, total: float, best: np.ndarray, split: Scored, n_outputs: int) -> float:
        """The score of a split.

        Args:
            total: the loss of all sequences, if that is what the score is of.
            best: the most probable outputs at every step, if the score is of errors.
            split: which is scored.
            n_outputs: O.
        """
        if self.counts_errors:
            return 100.0 * self.errors(best, split, n_outputs) / split.n_predicted
        return total / split.n_predicted


@dataclass(frozen=True)
class LossProgram:
    """An `Elementwise` loss, ready to print.

    Attributes:
        nodes: the graph, with the leaves ``output`` and ``target``.
        order: nodes to evaluate, each after its arguments.
        cost, change: nodes of the loss of an output, and of its derivative.
        factor: node of a number from 1 to 2 whose logarithm is part of the loss too; -1 if there is none.
    """

    nodes: tuple[Node, ...]
    order: tuple[int, ...]
    cost: int
    change: int
    factor: int


class Elementwise(Loss):
    """A loss that is a sum over steps and outputs of what `step` says, written as its equations.

    Example, Huber's::

        class Huber(Elementwise):
            targets = NUMBERS

            def step(self, output, target):
                far = absolute(output - target)
                return where(far - 1.0, far - 0.5, 0.5 * far * far)
    """

    def step(self, output: Any, target: Any) -> Any:
        """The loss of one output at one step, in ``+ - * /``, ``** 2``, numbers and `search.ops`.

        It may return a dict: ``cost``, and with it ``change``, the derivative where it can be had more cheaply than by
        differentiation, and ``factor``, a number from 1 to 2 whose logarithm is part of the loss (engines may take it
        of the product of many).
        """
        raise EquationError("missing; it gives the loss of one output, e.g. 0.5 * (output - target) ** 2")

    @cached_property
    def program(self) -> LossProgram:
        """`step`, recorded, and its derivative."""
        graph = Graph()
        output, target = graph.leaf("output", ""), graph.leaf("target", "")
        said = self.step(output, target)
        said = dict(said) if isinstance(said, Mapping) else {"cost": said}
        cost = Expr(graph, graph.operand(said["cost"]).index)
        factor = Expr(graph, graph.operand(said["factor"]).index) if "factor" in said else None
        change = Expr(graph, graph.operand(said["change"]).index) if "change" in said else None
        if change is None:
            change = _derivative(graph, output, cost, factor)
        roots = [cost.index, change.index, *([] if factor is None else [factor.index])]
        nodes = tuple(graph.nodes)
        return LossProgram(
            nodes, tuple(closure(nodes, roots)), cost.index, change.index, -1 if factor is None else factor.index
        )

    @property
    def signature(self) -> str:
        return repr((self.program, self.targets.gaps))

    def total(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        known = ~targets.isnan()
        said = self.step(outputs, targets.nan_to_num())
        if isinstance(said, Mapping):
            said = said["cost"] + said["factor"].log() if "factor" in said else said["cost"]
        return said.where(known, 0.0).sum(dim=(1, 2))


def _derivative(graph: Graph, output: Expr, cost: Expr, factor: Expr | None) -> Expr:
    """Of the loss by the output, appended to the graph."""
    seeds = [(cost.index, graph.const(1.0)), *([] if factor is None else [(factor.index, 1.0 / factor)])]
    found = adjoints(graph, seeds)
    if output.index not in found:
        raise EquationError("does not depend on the output")
    return found[output.index]


class Bernoulli(Elementwise):
    """Binary cross-entropy of sigmoids: softplus(a) - a t, softplus(a) = max(a, 0) + log(1 + exp(-|a|))."""

    targets = BITS

    def step(self, output: Any, target: Any) -> Any:
        small = exp(-absolute(output))
        above = 1.0 + small
        inverse = 1.0 / above
        probability = where(output, inverse, small * inverse)
        return {"cost": relu(output) - output * target, "factor": above, "change": probability - target}


class Squared(Elementwise):
    """Half the squared error of linear outputs."""

    targets = NUMBERS

    def step(self, output: Any, target: Any) -> Any:
        error = output - target
        return error * (error * 0.5)


class Categorical(Loss):
    """Cross-entropy of a softmax, over the steps that are predicted."""

    targets = LABELS
    counts_errors = True

    def total(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        predicted = targets >= 0
        logs = outputs[:, predicted].log_softmax(dim=-1)
        return -logs.gather(2, targets[predicted].long().expand(len(outputs), -1)[:, :, None]).sum(dim=(1, 2))

    def errors(self, best: np.ndarray, split: Scored, n_outputs: int) -> int:
        """Predicted steps whose most probable class is not theirs."""
        wanted = np.concatenate(split.targets)
        return int(((best != wanted) & (wanted >= 0)).sum())


class CTC(Loss):
    """Connectionist temporal classification (Graves et al. 2006, equations 6 to 8)."""

    targets = CLASSES
    counts_errors = True

    def total(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        import torch
        from torch.nn.functional import ctc_loss

        n_members, n_steps, n_outputs = outputs.shape
        return ctc_loss(
            outputs.log_softmax(dim=-1).transpose(0, 1),
            targets.long().expand(n_members, -1),
            torch.full((n_members,), n_steps),
            torch.full((n_members,), len(targets)),
            blank=n_outputs - 1,
            reduction="none",
        )

    def errors(self, best: np.ndarray, split: Scored, n_outputs: int) -> int:
        """Insertions, deletions and substitutions between the targets and what best-path decoding reads: the most
        probable output of each step, repetitions once, blanks not at all (Graves et al. 2006, section 3.2)."""
        from rapidfuzz.distance import Levenshtein  # which training has no need of

        lengths = np.array(list(map(len, split.inputs)))
        starts = np.cumsum(lengths) - lengths
        changed = np.ones(len(best), bool)
        changed[1:] = best[1:] != best[:-1]
        changed[starts] = True
        read = changed & (best != n_outputs - 1)
        ends = np.cumsum(read)
        firsts = ends[starts] - read[starts]
        characters = "".join(map(chr, best[read]))
        pieces = [characters[a:b] for a, b in zip(firsts, [*firsts[1:], len(characters)], strict=True)]
        return sum(
            Levenshtein.distance(piece, "".join(map(chr, target)))
            for piece, target in zip(pieces, split.targets, strict=True)
        )


LOSSES: dict[str, Loss] = {
    "bernoulli": Bernoulli(),
    "squared": Squared(),
    "categorical": Categorical(),
    "ctc": CTC(),
}


@cache
def find(name: str) -> Loss:
    """A loss by its name, or one of a user's own by its import path.

    Raises:
        UserError: there is none, or its equations are not legal.
    """
    if name in LOSSES:
        return LOSSES[name]
    kind = imported("loss", name, Elementwise, "search.losses.Elementwise", LOSSES)
    with explained(kind, "step"):
        made = kind()
        _ = made.program
    return made
