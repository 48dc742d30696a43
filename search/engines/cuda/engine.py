"""The compiled CUDA engine: one member a thread block, a whole epoch of a population in a few launches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from search import losses
from search.cells import Cell
from search.engines.engine import Epoch, Member
from search.rules import Update
from search.tasks.task import Task

if TYPE_CHECKING:
    from search.engines.cuda.device import Device
    from search.engines.cuda.kernels import CudaCompiler, CudaKernels


class CudaEngine:
    """Runs cells on a GPU by kernels made from their equations; see `search.engines.engine.Engine`.

    Args:
        on: where to run; by default the GPU that is torch's current one.

    Raises:
        UserError: there is nothing to run on; says what is missing.
    """

    name = "cuda"

    def __init__(self, on: Device | None = None):
        from search.engines.cuda.gpu import Gpu
        from search.engines.cuda.kernels import CudaCompiler

        self._compiler = CudaCompiler(on or Gpu())
        self.device = self._compiler.device.name

    def compile(self, cell: Cell, dtype: str, loss: str, update: Update) -> CudaKernels:
        """Gets the code that trains a cell. Training does so by itself; this is for showing that it takes time.

        Returns:
            the kernels; `cached` says whether they were on disk, `seconds` what it took to get them the first time

        Raises:
            UserError: the engine has no kernel for the loss or the update.
        """
        from search.engines.cuda.kernels import prepare

        kernels = self._compiler.kernels(cell, dtype, loss, update)
        prepare((kernels, threads) for threads, _ in self._compiler.device.tiles.threads)
        return kernels

    def unroll(self, cell: Cell, params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        from search.engines.cuda.unroll import unroll

        return unroll(self._compiler, cell, params, x)

    def trainer(self, task: Task, dtype: str = "float32", threads: int = 1) -> CudaTrainer:
        """A trainer for one task. All its members run at once, whatever the number of `threads`."""
        return CudaTrainer(self._compiler, task, dtype)


class CudaTrainer:
    """Trains each member on one thread block, in a fixed order of operations, whatever trains beside it."""

    def __init__(self, compiler: CudaCompiler, task: Task, dtype: str):
        from search.engines.cuda.epoch import Passes

        def kernels(member: Member) -> CudaKernels:
            return compiler.kernels(member.network.cell, dtype, task.loss, member.update)

        self._task, self._stopped = task, False
        self._passes = {name: Passes(compiler.device, kernels, split, dtype) for name, split in task.splits.items()}

    def stop(self) -> None:
        self._stopped = True

    def train_epoch(self, members: Sequence[Member], orders: Sequence[np.ndarray]) -> Epoch:
        total, _, seconds = self._passes["train"].run(members, orders, lambda: self._stopped, train=True)
        return Epoch(total / self._task.splits["train"].n_predicted, seconds)

    def evaluate(self, members: Sequence[Member], split: str) -> np.ndarray:
        passes, data = self._passes[split], self._task.splits[split]
        orders = [np.arange(passes.n_sequences)] * len(members)
        totals, best, _ = passes.run(members, orders, lambda: self._stopped, train=False)
        loss = losses.find(self._task.loss)
        return np.array([loss.score(t, row, data, self._task.n_outputs) for t, row in zip(totals, best, strict=True)])
