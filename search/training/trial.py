"""The training loop: a population of trials, epoch by epoch, with early stopping (docs/protocol.md, 3)."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from search import rules
from search.base.randomness import epoch_order
from search.cells import Cell
from search.engines.engine import Interrupted, Member, Trainer
from search.errors import UserError
from search.network import Network
from search.tasks.task import Task
from search.training.status import Status


@dataclass(frozen=True, eq=False)
class Trial:
    """One trial: its settings, and how far its training has come.

    Attributes:
        key: whatever the caller knows it by.
        settings: hyperparameters and toggles by name, as sampled.
        member: what the engine trains; ``member.epoch`` is the number of epochs trained.
        curve: for each epoch with finite scores, (training loss, validation score) per predicted step.
        best_epoch: counted from 1; 0 before the first.
        best_weights: those of the best validation epoch.
        train_seconds: sum of `Epoch.seconds`.
        status: ``running``, ``finished`` or ``diverged``.
        test_score: of `best_weights`, once the trial has ended; NaN if it diverged in its first epoch.
    """

    key: Any
    settings: Mapping[str, Any]
    member: Member
    best_weights: np.ndarray
    curve: tuple[tuple[float, float], ...] = ()
    best_epoch: int = 0
    train_seconds: float = 0.0
    status: Status = Status.RUNNING
    test_score: float = math.nan

    @staticmethod
    def new(
        key: Any,
        cell: Cell,
        settings: Mapping[str, Any],
        seed: int,
        task: Task,
        dtype: str,
        optimizer: Mapping[str, Any] = rules.DEFAULT,
    ) -> "Trial":
        """A trial before its first epoch.

        Args:
            key: whatever the caller knows it by.
            cell: what is trained.
            settings: has ``hidden_size``, ``input_noise``, where they are not 1 and False ``n_layers`` and ``skip``
                (`search.network.Network`), and whatever of the update rule `optimizer` does not give.
            seed: of the initial weights and the input noise.
            task: gives the sizes of input and output.
            dtype: ``float32`` or ``float64``.
            optimizer: definition of the update rule, as `search.rules.update` takes it.

        Raises:
            UserError: this machine has not the memory for it, or the rule not all its hyperparameters.
        """
        network = Network(
            cell,
            task.n_inputs,
            int(settings["hidden_size"]),
            task.n_outputs,
            task.bidirectional,
            int(settings.get("n_layers", Network.n_layers)),
            settings.get("skip", Network.skip),
        )
        update = rules.update(optimizer, settings)
        member = Member.new(network, update, float(settings["input_noise"]), seed, dtype)
        return Trial(key, settings, member, best_weights=member.weights)

    @property
    def valid_score(self) -> float:
        """The best validation score; NaN before the first."""
        return self.curve[self.best_epoch - 1][1] if self.best_epoch else math.nan

    def advanced(
        self, member: Member, loss: float, score: float, seconds: float, epochs: int, patience: int
    ) -> "Trial":
        """The trial one epoch later, given its trained member, training loss and validation score."""
        after = replace(self, member=member, train_seconds=self.train_seconds + seconds)
        if not (math.isfinite(loss) and math.isfinite(score)):
            return replace(after, status=Status.DIVERGED)
        after = replace(after, curve=(*self.curve, (loss, score)))
        epoch = len(after.curve)
        if not self.best_epoch or score < self.valid_score:
            after = replace(after, best_epoch=epoch, best_weights=member.weights.copy())
        ended = epoch >= epochs or epoch - after.best_epoch >= patience
        return replace(after, status=Status.FINISHED) if ended else after


@dataclass(frozen=True)
class Round:
    """The trials of a population after an epoch: those still `live`, those that have `ended` with it, and those that
    raised instead, as they were before it."""

    live: list[Trial]
    ended: list[Trial]
    failed: list[tuple[Trial, Exception]]


# Gives the trials to train on: those of the list, less what others have taken over, and new ones while there are fewer
# than the number. It may wait if the list is empty; an empty one in return means that nothing is left to train.
Refill = Callable[[list[Trial], int], list[Trial]]


def listed(trials: Iterable[Trial]) -> Refill:
    """Trains the trials of a list, in its order."""
    queue = iter(trials)
    return lambda live, population: [*live, *islice(queue, max(0, population - len(live)))]


def train(
    refill: Refill,
    trainer: Trainer,
    n_sequences: int,
    *,
    epochs: int,
    patience: int,
    population: int,
    seed: int,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[Round]:
    """Trains trials to their end, at most `population` at a time; one that ends makes room for the next.

    A trial that raises leaves the others undisturbed: each is then trained alone for that epoch, which gives the same
    numbers. If the population does not fit into memory it is halved, and the rest waits.

    Args:
        refill: gives the trials; see `Refill`.
        trainer: of the engine.
        n_sequences: in the training set.
        epochs: the most that a trial trains.
        patience: epochs without a new best after which it stops.
        population: trials in training at a time.
        seed: of the study, which fixes the order of sequences in each epoch for all trials.
        note: is told, in one line, that the population was halved.

    Yields:
        after each epoch of the population.

    Raises:
        Interrupted: the trainer was asked to stop; the last round still holds.
        UserError: the engine cannot run a cell.
    """

    def one_round(batch: list[Trial]) -> Round:
        return _round(batch, trainer, n_sequences, epochs, patience, seed)

    held: list[Trial] = []
    while held := refill(held, population):
        batch, aside = held[:population], held[population:]
        try:
            done = _guarded(batch, one_round)
        except Exception as error:
            if not _out_of_memory(error):
                raise
            population = len(batch) // 2
            note(
                f"out of memory with {len(batch)} trials at a time ({type(error).__name__}): going on with {population}"
            )
            continue
        held = [*done.live, *aside]
        yield replace(done, live=held)


def _round(batch: list[Trial], trainer: Trainer, n_sequences: int, epochs: int, patience: int, seed: int) -> Round:
    """One epoch of a batch; see `train`."""
    members = [trial.member.copy() for trial in batch]
    trained = trainer.train_epoch(members, [epoch_order(seed, m.epoch, n_sequences) for m in members])
    scores = trainer.evaluate(members, "valid")
    after = [
        trial.advanced(member, float(loss), float(score), float(seconds), epochs, patience)
        for trial, member, loss, score, seconds in zip(
            batch, members, trained.losses, scores, trained.seconds, strict=True
        )
    ]
    ended = _tested([trial for trial in after if trial.status != Status.RUNNING], trainer)
    return Round([trial for trial in after if trial.status == Status.RUNNING], ended, [])


def _guarded(batch: list[Trial], one_round: Callable[[list[Trial]], Round]) -> Round:
    """A round in which a trial that raises leaves the others undisturbed."""
    try:
        return one_round(batch)
    except (Interrupted, UserError):
        raise
    except Exception as error:
        if len(batch) == 1:
            return Round([], [], [(batch[0], error)])
        if _out_of_memory(error):
            raise
    rounds = [_guarded([trial], one_round) for trial in batch]
    return Round(*([trial for each in rounds for trial in getattr(each, name)] for name in Round.__match_args__))


def _out_of_memory(error: Exception) -> bool:
    """Whether a population did not fit. Torch is not loaded for the question: who has not loaded it cannot raise it."""
    torch = sys.modules.get("torch")
    return isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError))


def _tested(ended: list[Trial], trainer: Trainer) -> list[Trial]:
    """The same trials with the test scores of their best weights."""
    scored = [trial for trial in ended if trial.best_epoch]
    best = [replace(trial.member, weights=trial.best_weights) for trial in scored]
    scores = dict(zip(map(id, scored), trainer.evaluate(best, "test") if best else (), strict=True))
    return [replace(trial, test_score=float(scores.get(id(trial), math.nan))) for trial in ended]
