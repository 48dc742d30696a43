"""The losses of the tasks, as the reference engine computes them."""

from collections.abc import Callable

import torch

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def bernoulli(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy in nats, summed over outputs and time steps.

    Args:
        logits: before the sigmoid, [K, T, O].
        targets: 0 or 1, [T, O].

    Returns:
        [K]
    """
    return (torch.nn.functional.softplus(logits) - logits * targets).sum(dim=(1, 2))


LOSSES: dict[str, Loss] = {"bernoulli": bernoulli}
