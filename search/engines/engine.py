"""What an engine is: the numerical part of training, behind one narrow interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from search.cells import Cell
from search.network import Network
from search.rules import Update
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
        update: what is done with the weights after each sequence.
        input_noise: standard deviation of the noise on the inputs.
        seed: of the input noise.
        weights: parameter vector [network.n_parameters] in the trainer's dtype.
        slots: what the update keeps, by name; each as `weights`.
        epoch: epochs trained so far.
    """

    network: Network
    update: Update
    input_noise: float
    seed: int
    weights: np.ndarray
    slots: dict[str, np.ndarray]
    epoch: int = 0

    @staticmethod
    def new(network: Network, update: Update, input_noise: float, seed: int, dtype: str) -> Member:
        """A member before its first epoch.

        Raises:
            UserError: this machine has not the memory for it.
        """
        weights = network.initial(seed, dtype)
        slots = {name: np.zeros_like(weights) for name in update.program.slots}
        return Member(network, update, input_noise, seed, weights, slots)

    @property
    def vectors(self) -> list[np.ndarray]:
        """The weights, then the slots in order."""
        return [self.weights, *self.slots.values()]

    @property
    def signature(self) -> tuple[str, str]:
        """The equations of cell and update: members of one signature can share code."""
        cell = self.network.cell
        return cell.signature + (" tied" if cell.layers_tied else ""), self.update.signature

    def copy(self) -> Member:
        """The same, with arrays of its own."""
        return replace(self, weights=self.weights.copy(), slots={k: v.copy() for k, v in self.slots.items()})


@dataclass(frozen=True)
class Epoch:
    """What an epoch of training gave, for each member [K].

    Attributes:
        losses: training loss per predicted step, as met on the way (with noise, before each update).
        seconds: that the member took by itself, as far as the engine can tell those apart that train beside it.
    """

    losses: np.ndarray
    seconds: np.ndarray


class Trainer(Protocol):
    """Trains and evaluates members on one task. What a member computes depends on itself alone."""

    def train_epoch(self, members: Sequence[Member], orders: Sequence[np.ndarray]) -> Epoch:
        """One epoch of each member, over the training sequences in its order, with an update after each of them.

        Sets `weights`, `slots` and `epoch` of the members, all at once when the epoch is complete.

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

    def compile(self, cell: Cell, dtype: str, loss: str, update: Update) -> Compiled | None:
        """Gets ready what training a cell needs; None if the engine compiles nothing. Training does it by itself.

        Raises:
            UserError: the engine cannot run the cell or the loss; says which and why.
        """
        ...

    def trainer(self, task: Task, dtype: str, threads: int) -> Trainer:
        """A trainer for one task, in ``float32`` or ``float64``."""
        ...
