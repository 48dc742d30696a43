"""Draws from other distributions than the normal one, for `Cell.initial`, which is given normal draws."""

import numpy as np


def uniform(normal: np.ndarray, low: float, high: float) -> np.ndarray:
    """Draws from the uniform distribution from `low` to `high`, given draws from N(0, 0.1), by their quantiles."""
    from scipy.special import ndtr  # some 50 ms, which most cells need not wait for

    return low + (high - low) * ndtr(normal / 0.1)


def standard(normal: np.ndarray) -> np.ndarray:
    """Draws from N(0, 1), given draws from N(0, 0.1)."""
    return normal / 0.1
