"""``python -m tests.on_terminal FOLDER [deaf]``: a sweep in which all epochs but the first last until they are stopped,
or, of a deaf engine, a minute."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from search.cells import Cell
from search.engines import Epoch, Interrupted, Member
from search.study import progress
from search.study.plan import Plan
from search.study.study import Study
from search.study.sweep import run
from search.tasks import Task
from tests.echo import load


class SlowEngine:
    name, device = "slow", "none"

    def compile(self, cell: Cell, dtype: str, loss: str, update: object) -> None:
        return None

    def trainer(self, task: object, dtype: str, threads: int) -> "SlowTrainer":
        return SlowTrainer()


class SlowTrainer:
    _deaf, _stopped = "deaf" in sys.argv, False

    def train_epoch(self, members: Sequence[Member], orders: object) -> Epoch:
        end = time.monotonic() + (60.0 if members[0].epoch else 0.0)
        while time.monotonic() < end:
            time.sleep(0.01)
            if self._stopped and not self._deaf:
                raise Interrupted
        for member in members:
            member.epoch += 1
        return Epoch(np.ones(len(members)), np.ones(len(members)))

    def evaluate(self, members: Sequence[Member], split: str) -> np.ndarray:
        return np.arange(7.0, 7.0 + len(members))

    def stop(self) -> None:
        self._stopped = True


def plan(task: Task) -> Plan:
    low_high = {"hidden_size": (2, 9), "lr": (1e-3, 1e-1), "momentum": (0.0, 0.9), "input_noise": (0.0, 1.0)}
    space = {name: {"distribution": "uniform", "low": low, "high": high} for name, (low, high) in low_high.items()}
    space["hidden_size"]["distribution"] = "uniform_int"
    variants = {"vanilla": {"cell": "lstm"}, "rnn": {"cell": "rnn"}}
    return Plan("s", {"name": "echo"}, task.score, variants, 5, 20, 20, 0, "random", space, "float32", task.hash)


if __name__ == "__main__":
    progress.PLAIN_INTERVAL = 0.1
    task = load()
    study = Study.create(Path(sys.argv[1]), plan(task))
    with progress.Progress(study.counts(), study.plan.epochs, task.score, "odyssey sweep study=s") as display:
        run(study, task, SlowEngine(), population=4, threads=1, progress=display, lease=60.0, trial_timeout=600.0)  # type: ignore[arg-type]
