"""What an engine is: the numerical part of training, behind one narrow interface."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from search.cells import Cell
from search.network import Network
from search.tasks.task import Task

if TYPE_CHECKING:  # torch takes seconds to load, and not every engine needs it
    import torch


class Interrupted(Exception):
    """`Trainer.stop` was called; the epoch under way was abandoned and its members are as they were before it."""


@dataclass
class Member:
    """One trial in training, as an engine sees it.

    Attributes:
        network: what is trained.
        lr, momentum, input_noise: PROTOCOL section 3; the noise is a standard deviation.
        seed: of the input noise.
        weights, velocity: parameter vectors [network.n_parameters] in the trainer's dtype.
        epoch: epochs trained so far.
        nesterov: whether the momentum is Nesterov's, or else the standard one.
        clip: whether each gradient is clipped to [-1, 1].
    """

    network: Network
    lr: float
    momentum: float
    input_noise: float
    seed: int
    weights: np.ndarray
    velocity: np.ndarray
    epoch: int = 0
    nesterov: bool = True
    clip: bool = False

    @property
    def rule(self) -> tuple[float, float, float, float, float]:
        """The update as five numbers (e, m, a, s, c): of a gradient g clipped to [-c, c] it makes
        ``v <- m v - e g``, ``w <- w + a v - s e g`` (PROTOCOL section 3)."""
        ahead, step = (self.momentum, 1.0) if self.nesterov else (1.0, 0.0)
        return self.lr * (1.0 - self.momentum), self.momentum, ahead, step, 1.0 if self.clip else math.inf


@dataclass(frozen=True)
class Epoch:
    """What an epoch of training gave, for each member [K].

    Attributes:
        losses: training loss per predicted step, as met on the way (with noise, before each update).
        seconds: wall time attributable to the member.
    """

    losses: np.ndarray
    seconds: np.ndarray


class Trainer(Protocol):
    """Trains and evaluates members on one task. What a member computes depends on itself alone."""

    def train_epoch(self, members: Sequence[Member], orders: Sequence[np.ndarray]) -> Epoch:
        """One epoch of online Nesterov SGD for each member, over the training sequences in its order.

        Sets `weights`, `velocity` and `epoch` of the members, all at once when the epoch is complete.

        Args:
            members: K trials; cells, sizes and epochs may differ.
            orders: for each member the indices of the training sequences, [n_sequences] each.

        Raises:
            Interrupted: `stop` was called.
        """
        ...

    def evaluate(self, members: Sequence[Member], split: str) -> np.ndarray:
        """The score of each member on a split, without noise. [K]"""
        ...

    def stop(self) -> None:
        """Asks a running `train_epoch` or `evaluate` to raise `Interrupted` soon; safe in a signal handler."""
        ...


class Compiled(Protocol):
    """What compiling a cell came to: whether it was cached on disk, and how long it took."""

    @property
    def cached(self) -> bool: ...
    @property
    def seconds(self) -> float: ...


class Engine(Protocol):
    """A way to evaluate the equations of cells.

    Attributes:
        name: as in ``engine=NAME``.
        device: where it computes, for the record.
    """

    name: str
    device: str

    def unroll(self, cell: Cell, params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """Runs a layer over a batch of sequences, differentiably in `params` and `x`.

        Args:
            cell: the equations.
            params: tensors of the names and shapes of ``cell.parameters(M, N)``.
            x: input [T, B, M].

        Returns:
            y [T, B, N]
        """
        ...

    def compile(self, cell: Cell, dtype: str, loss: str) -> Compiled | None:
        """Gets ready what training a cell needs; None if the engine compiles nothing. Training does it by itself.

        Raises:
            UserError: the engine cannot run the cell or the loss; says which and why.
        """
        ...

    def trainer(self, task: Task, dtype: str, threads: int) -> Trainer:
        """A trainer for one task, in ``float32`` or ``float64``."""
        ...
