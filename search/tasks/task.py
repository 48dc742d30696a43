"""What a task is: data, loss, score and output layer."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

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
        return int(sum(_predicted(target).sum() for target in self.targets))


def _predicted(target: np.ndarray) -> np.ndarray:
    return target >= 0 if target.ndim == 1 else ~np.isnan(target).any(axis=1)


@dataclass(frozen=True)
class Task:
    """A learning problem.

    Attributes:
        name: as in ``task=NAME``.
        splits: ``train``, ``valid`` and ``test``.
        loss: a name of `search.losses.LOSSES`.
        score: what the score of a split is, with its unit, for axes and tables; the lower the better.
        source: where the data came from, for the record.
        bidirectional: whether the network reads each sequence in both directions.
        n_classes: of the losses ``categorical`` and ``ctc`` (without the blank); else None.
    """

    name: str
    splits: dict[str, Split]
    loss: str
    score: str
    source: dict[str, object] = field(default_factory=dict)
    bidirectional: bool = False
    n_classes: int | None = None

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
        """SHA-256 of the data, hexadecimal."""
        digest = hashlib.sha256()
        for name in SPLITS:
            for x, t in zip(self.splits[name].inputs, self.splits[name].targets, strict=True):
                for array in (x, t):
                    number = "<f4" if array.dtype.kind == "f" else "<i4"
                    digest.update(f"{name}{array.shape}".encode() + np.ascontiguousarray(array, number).tobytes())
        return digest.hexdigest()
