"""A user's own task, as an example: label every step of the sequences in a CSV file.

Its columns are ``sequence``, any number of features, and ``label``: a class from 0, or -1 where there is none.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from search.tasks import Split, Task


def load(path: str, seed: int = 0) -> Task:
    table = pd.read_csv(path)
    assert table["sequence"].notna().all(), "a row without sequence"
    features = table.columns.drop(["sequence", "label"])
    parts = [part for _, part in table.groupby("sequence", sort=True)]
    order = np.random.default_rng(seed).permutation(len(parts))
    ends = [round(0.6 * len(parts)), round(0.8 * len(parts))]

    def split(chosen: np.ndarray) -> Split:
        inputs = [parts[k][features].to_numpy(np.float32) for k in chosen]
        return Split(inputs, [parts[k]["label"].to_numpy() for k in chosen])

    splits = dict(zip(("train", "valid", "test"), map(split, np.split(order, ends)), strict=True))
    source = {"file": Path(path).name, "seed": seed}
    return Task("mine", splits, "categorical", "wrong steps [%]", source, n_classes=table["label"].max() + 1)
