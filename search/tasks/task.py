"""What a task is: data, loss, score and output layer."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Split:
    """Sequences of one split: `inputs` [T, M] and `targets` [T, O] of each, float32."""

    inputs: Sequence[np.ndarray]
    targets: Sequence[np.ndarray]

    @cached_property
    def n_steps(self) -> int:
        """Predicted steps over all sequences."""
        return sum(len(target) for target in self.targets)


@dataclass(frozen=True)
class Task:
    """A learning problem.

    Attributes:
        name: as in ``task=NAME``.
        splits: ``train``, ``valid`` and ``test``.
        loss: a name of `search.losses.LOSSES`; the score of a split is its total loss / predicted steps.
        score: what the score is, for axes and tables.
        source: where the data came from, for the record.
        bidirectional: whether the network reads each sequence in both directions.
    """

    name: str
    splits: dict[str, Split]
    loss: str
    score: str
    source: dict[str, object] = field(default_factory=dict)
    bidirectional: bool = False

    @property
    def n_inputs(self) -> int:
        """Width M of the input."""
        return self.splits["train"].inputs[0].shape[1]

    @property
    def n_outputs(self) -> int:
        """Width O of the output layer."""
        return self.splits["train"].targets[0].shape[1]

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the data, hexadecimal."""
        digest = hashlib.sha256()
        for name in SPLITS:
            for x, t in zip(self.splits[name].inputs, self.splits[name].targets, strict=True):
                for array in (x, t):
                    digest.update(f"{name}{array.shape}".encode() + np.ascontiguousarray(array, "<f4").tobytes())
        return digest.hexdigest()
