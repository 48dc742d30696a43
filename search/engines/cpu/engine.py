"""The compiled CPU engine: one member a thread, a whole epoch of it in one call of machine code."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from search import losses
from search.cells import Cell
from search.engines.cpu.epoch import Pass, Sequences
from search.engines.cpu.kernels import Kernels, kernels
from search.engines.cpu.layout import Arena
from search.engines.engine import Epoch, Member
from search.rules import Update
from search.tasks.task import Task

if TYPE_CHECKING:
    import torch

Result = TypeVar("Result")


class CpuEngine:
    """Runs cells as machine code made from their equations; see `search.engines.engine.Engine`."""

    name = "cpu"

    def __init__(self) -> None:
        self.device = _cpu_model()

    def compile(self, cell: Cell, dtype: str, loss: str, update: Update) -> Kernels:
        """Gets the code that trains a cell. Training does so by itself; this is for showing that it takes time.

        Returns:
            the kernels; `cached` says whether they were on disk, `seconds` what it took to get them the first time

        Raises:
            UserError: there is no such loss.
        """
        losses.find(loss)
        return kernels(cell, dtype, loss, update)

    def unroll(self, cell: Cell, params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        from search.engines.cpu.unroll import unroll  # needs torch, which training does not

        return unroll(cell, params, x)

    def trainer(self, task: Task, dtype: str = "float32", threads: int = 1) -> CpuTrainer:
        return CpuTrainer(self, task, dtype, threads)


class CpuTrainer:
    """Trains each member on one thread, in a fixed order of operations, whatever the other threads do."""

    def __init__(self, engine: CpuEngine, task: Task, dtype: str, threads: int):
        self._engine, self._task, self._dtype, self._threads = engine, task, dtype, threads
        self._data = {name: Sequences.of(split, np.dtype(dtype)) for name, split in task.splits.items()}
        self._stop = np.zeros(1, np.int32)
        self._stopped = False
        self._arenas: list[Arena] = []  # of threads that are between two members

    def stop(self) -> None:
        self._stopped = True
        self._stop[0] = 1

    def train_epoch(self, members: Sequence[Member], orders: Sequence[np.ndarray]) -> Epoch:
        def train(k: int) -> tuple[float, float, list[np.ndarray]]:
            start = time.perf_counter()
            with self._pass(members[k], "train", train=True) as epoch:
                loss = epoch.run(np.ascontiguousarray(orders[k], np.int32), self._stop)
                vectors = epoch.results()
            return loss, time.perf_counter() - start, vectors

        results = self._each(members, train)
        for member, (_, _, vectors) in zip(members, results, strict=True):
            for vector, trained in zip(member.vectors, vectors, strict=True):
                vector[:] = trained
            member.epoch += 1
        total, seconds = (np.array([result[i] for result in results]) for i in (0, 1))
        return Epoch(total / self._task.splits["train"].n_predicted, seconds)

    def evaluate(self, members: Sequence[Member], split: str) -> np.ndarray:
        data, loss = self._task.splits[split], losses.find(self._task.loss)
        order = np.arange(len(data.inputs), dtype=np.int32)

        def score(k: int) -> float:
            with self._pass(members[k], split, train=False) as whole:
                return loss.score(whole.run(order, self._stop), whole.best, data, self._task.n_outputs)

        return np.array(self._each(members, score))

    @contextmanager
    def _pass(self, member: Member, split: str, train: bool) -> Iterator[Pass]:
        code = self._engine.compile(member.network.cell, self._dtype, self._task.loss, member.update)
        arena = self._arenas.pop() if self._arenas else Arena()
        try:
            yield Pass(member, code, self._data[split], arena, train)
        finally:
            self._arenas.append(arena)

    def _each(self, members: Sequence[Member], work: Callable[[int], Result]) -> list[Result]:
        """``work(k)`` for each member, the largest first so that the threads end together; the results in order."""
        largest_first = sorted(range(len(members)), key=lambda k: -members[k].network.n_parameters)
        with ThreadPoolExecutor(self._threads) as pool:
            futures = {k: pool.submit(work, k) for k in largest_first}
            try:
                return [futures[k].result() for k in range(len(members))]
            except BaseException:  # Ctrl-C too: the threads must not run on for an epoch
                self._stop[0] = 1
                pool.shutdown(cancel_futures=True)
                self._stop[0] = self._stopped
                raise


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
