"""What a task is: data, loss, score and output layer; and what its data must be like."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from search import losses
from search.errors import UserError, expect
from search.tasks import _check

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Split:
    """Sequences of one split: of each `inputs` float32 [T, M], and `targets` as `search.losses` says."""

    inputs: Sequence[np.ndarray]
    targets: Sequence[np.ndarray]

    @cached_property
    def n_steps(self) -> int:
        """Steps of all sequences."""
        return sum(map(len, self.inputs))

    @cached_property
    def n_predicted(self) -> int:
        """What there is to predict in all sequences: steps, or with CTC characters."""
        return int(sum(_check.predicted(target).sum() for target in self.targets))


@dataclass(frozen=True)
class Task:
    """A learning problem.

    Attributes:
        name: as in ``task=NAME``.
        splits: ``train``, ``valid`` and ``test``, each of at least one sequence and with something to predict. They may
            be given as arrays of any numbers, such as classes in float64, and are kept as `Split` says.
        loss: as `search.losses.find` takes it.
        score: what the score of a split is, with its unit, for axes and tables; the lower the better.
        source: where the data came from, for the record.
        bidirectional: whether the network reads each sequence in both directions.
        n_classes: of the losses ``categorical`` and ``ctc`` (without the blank), from 1 to 10,000; else None.

    Raises:
        UserError: something is not as said here and in `search.losses`; names the split, and the sequence and the step,
            counted from 0.
    """

    name: str
    splits: dict[str, Split]
    loss: str
    score: str
    source: dict[str, object] = field(default_factory=dict)
    bidirectional: bool = False
    n_classes: int | None = None

    def __post_init__(self) -> None:
        where = f"task={self.name}"
        printable = isinstance(self.score, str) and bool(self.score.strip()) and self.score.isprintable()
        expect(printable, f"{where}: score", self.score, "a line of text, with a unit")
        expect(isinstance(self.loss, str), f"{where}: loss", self.loss, "a name")
        try:
            losses.find(self.loss)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        expect(set(self.splits) == set(SPLITS), f"{where}: splits", list(self.splits), f"{', '.join(SPLITS)}")
        train = self.splits["train"]
        first = next(zip(train.inputs, train.targets, strict=False), (np.zeros((0, 0)), np.zeros((0, 0))))
        for name, split in self.splits.items():
            _check.expect_shapes(f"{where}: {name}", self.loss, split.inputs, split.targets, first)
        n_classes = _check.checked_n_classes(where, self.loss, self.n_classes)
        splits = {}
        for name in SPLITS:
            inputs = _check.checked_inputs(f"{where}: {name}", self.splits[name].inputs)
            lengths = [len(x) for x in inputs]
            targets = self.splits[name].targets
            targets = _check.checked_targets(f"{where}: {name}", self.loss, targets, lengths, n_classes)
            splits[name] = Split(inputs, targets)
        object.__setattr__(self, "n_classes", n_classes)
        object.__setattr__(self, "splits", splits)

    @property
    def n_inputs(self) -> int:
        """Width M of the input."""
        return self.splits["train"].inputs[0].shape[1]

    @property
    def n_outputs(self) -> int:
        """Width O of the output layer."""
        if self.n_classes is None:
            return self.splits["train"].targets[0].shape[1]
        return self.n_classes + (self.loss == "ctc")

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the data, and of the equations of a loss that is not one of ours, hexadecimal."""
        digest = hashlib.sha256()
        for name in SPLITS:
            for x, t in zip(self.splits[name].inputs, self.splits[name].targets, strict=True):
                for array in (x, t):
                    number = "<f4" if array.dtype.kind == "f" else "<i4"
                    digest.update(f"{name}{array.shape}".encode() + np.ascontiguousarray(array, number).tobytes())
        if self.loss not in losses.LOSSES:  # a user's own, which may be edited
            digest.update(losses.find(self.loss).signature.encode())
        return digest.hexdigest()
