"""Sequences of symbols as arrays, and the prediction of each next one."""

import numpy as np


def one_hot(symbols: np.ndarray, n_symbols: int) -> np.ndarray:
    """Symbols [T] as float32 [T, n_symbols]."""
    return (symbols[:, None] == np.arange(n_symbols)).astype(np.float32)


def code_points(text: str) -> np.ndarray:
    """The characters of a text, [T]."""
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


def numbered(text: str, alphabet: str) -> np.ndarray:
    """The place [T] of each character in an alphabet, which is in the order of code points and has all of them."""
    return np.searchsorted(code_points(alphabet), code_points(text))


def predict_next(symbols: np.ndarray, n_symbols: int) -> tuple[np.ndarray, np.ndarray]:
    """Of T + 1 symbols all but the last, one-hot float32 [T, n_symbols], and the one after each, int32 [T]."""
    return one_hot(symbols[:-1], n_symbols), symbols[1:].astype(np.int32)
