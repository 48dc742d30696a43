"""A small task of the tests' own: repeat the input of the step before. Random bits, so its optimum is known: 0."""

import numpy as np

from search.tasks import Split, Task


def load(n_sequences: int = 24, width: int = 5, seed: int = 0) -> Task:
    rng = np.random.default_rng(seed)

    def split(n: int) -> Split:
        inputs = [rng.integers(0, 2, (int(length), width)).astype(np.float32) for length in rng.integers(2, 12, n)]
        return Split(
            inputs, [np.roll(x, 1, axis=0) * (np.arange(len(x)) > 0)[:, None].astype(np.float32) for x in inputs]
        )

    splits = {"train": split(n_sequences), "valid": split(n_sequences // 3), "test": split(n_sequences // 3)}
    return Task("echo", splits, "bernoulli", "negative log-likelihood [nats per step]", source={"seed": seed})
