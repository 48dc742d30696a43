"""The losses of the tasks, as the reference engine computes them, and the scores that go with them.

| loss | targets of a sequence | score of a split |
|---|---|---|
| ``bernoulli`` | 0 or 1, float32 [T, O] | loss per step |
| ``squared`` | float32 [T, O]; NaN in the rows of steps that are not predicted | loss per predicted step |
| ``categorical`` | class, int32 [T]; -1 at steps that are not predicted | wrong steps in percent of those predicted |
| ``ctc`` | classes in order, int32 [L]; T steps must have room for them | edits in percent of all classes |

Each is in nats (``squared``: half the squared error), summed over the sequence. With ``ctc`` the last of the O outputs
is the blank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # torch takes seconds to load, and only the losses of the reference engine need it
    import torch


@dataclass(frozen=True)
class Loss:
    """A loss and its score.

    Attributes:
        total: of logits [K, T, O] and the targets of a sequence the loss of each member [K].
        errors: of the most probable outputs at every step of a split, int32 [steps], and its lengths and targets, the
            number of errors, of which the score is the percentage; None if the score is the loss.
    """

    total: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    errors: Callable[[np.ndarray, np.ndarray, Sequence[np.ndarray], int], int] | None = None


def bernoulli(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of sigmoids."""
    from torch.nn.functional import softplus

    return (softplus(logits) - logits * targets).sum(dim=(1, 2))


def squared(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Half the squared error of linear outputs, over the rows that are predicted."""
    predicted = ~targets.isnan().any(dim=1)
    return 0.5 * ((logits[:, predicted] - targets[predicted]) ** 2).sum(dim=(1, 2))


def categorical(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of a softmax, over the steps that are predicted."""
    predicted = targets >= 0
    logs = logits[:, predicted].log_softmax(dim=-1)
    return -logs.gather(2, targets[predicted].long().expand(len(logits), -1)[:, :, None]).sum(dim=(1, 2))


def ctc(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Connectionist temporal classification (Graves et al. 2006, equations 6 to 8)."""
    import torch
    from torch.nn.functional import ctc_loss

    n_members, n_steps, n_outputs = logits.shape
    return ctc_loss(
        logits.log_softmax(dim=-1).transpose(0, 1),
        targets.long().expand(n_members, -1),
        torch.full((n_members,), n_steps),
        torch.full((n_members,), len(targets)),
        blank=n_outputs - 1,
        reduction="none",
    )


def wrong_steps(best: np.ndarray, lengths: np.ndarray, targets: Sequence[np.ndarray], n_outputs: int) -> int:
    """Predicted steps whose most probable class is not theirs."""
    wanted = np.concatenate(targets)
    return int(((best != wanted) & (wanted >= 0)).sum())


def edits(best: np.ndarray, lengths: np.ndarray, targets: Sequence[np.ndarray], n_outputs: int) -> int:
    """Insertions, deletions and substitutions between the targets and what best-path decoding reads: the most probable
    output of each step, repetitions once, blanks not at all (Graves et al. 2006, section 3.2)."""
    from rapidfuzz.distance import Levenshtein  # which training has no need of

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
        Levenshtein.distance(piece, "".join(map(chr, target))) for piece, target in zip(pieces, targets, strict=True)
    )


LOSSES: dict[str, Loss] = {
    "bernoulli": Loss(bernoulli),
    "squared": Loss(squared),
    "categorical": Loss(categorical, wrong_steps),
    "ctc": Loss(ctc, edits),
}
