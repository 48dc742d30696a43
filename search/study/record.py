"""The record of a trial, as the storage keeps it and `analysis.load` reads it."""

import math
from datetime import UTC, datetime
from typing import Any

from search.base.provenance import git_revision, versions
from search.training.trial import Trial


def result_of(trial: Trial, dtype: str, data_hash: str, engine: str, device: str) -> dict[str, Any]:
    """All that is kept of a trial, by the names of the columns of `analysis.load`; JSON has no NaN, so None is none."""
    result = dict(trial.settings) | {
        "seed": trial.member.seed,
        "status": trial.status,
        "valid_score": trial.valid_score,
        "test_score": trial.test_score,
        "best_epoch": trial.best_epoch,
        "epochs": trial.member.epoch,
        "last_valid_score": trial.curve[-1][1] if trial.curve else math.nan,
        "train_seconds": trial.train_seconds,
        "n_parameters": trial.member.network.n_parameters,
        "engine": engine,
        "device": device,
        "dtype": dtype,
        "data_hash": data_hash,
        "git_revision": git_revision(),
        "versions": versions(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in result.items()}
