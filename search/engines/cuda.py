"""The compiled CUDA engine: one member a thread block, a whole epoch of a population in a few launches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from search.cells import Cell
from search.engines.engine import Epoch, Member
from search.tasks.task import Task

if TYPE_CHECKING:
    from search.compiler.cuda_kernels import CudaKernels
    from search.compiler.cuda_native import Device


class CudaEngine:
    """Runs cells on a GPU by kernels made from their equations; see `search.engines.engine.Engine`.

    Args:
        on: where to run; by default the GPU, or numba-cuda's simulator where ``NUMBA_ENABLE_CUDASIM=1``.

    Raises:
        UserError: there is nothing to run on; says what is missing.
    """

    name = "cuda"

    def __init__(self, on: Device | None = None):
        from search.compiler.cuda_kernels import CudaCompiler
        from search.compiler.cuda_native import device

        self._compiler = CudaCompiler(on or device())
        self.device = self._compiler.device.name

    def compile(self, cell: Cell, dtype: str, loss: str) -> CudaKernels:
        """Gets the code that trains a cell. Training does so by itself; this is for showing that it takes time.

        Returns:
            the kernels; `cached` says whether they were on disk, `seconds` what it took to get them the first time

        Raises:
            UserError: the engine has no kernel for the loss, or no schedule for the cell.
        """
        return self._compiler.kernels(cell, dtype, loss)

    def unroll(self, cell: Cell, params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        from search.compiler.cuda_unroll import unroll

        return unroll(self._compiler, cell, params, x)

    def trainer(self, task: Task, dtype: str = "float32", threads: int = 1) -> CudaTrainer:
        """A trainer for one task. All its members run at once, whatever the number of `threads`."""
        return CudaTrainer(self, self._compiler.device, task, dtype)


class CudaTrainer:
    """Trains each member on one thread block, in a fixed order of operations, whatever trains beside it."""

    def __init__(self, engine: CudaEngine, device: Device, task: Task, dtype: str):
        from search.compiler.cuda_epoch import DeviceSequences

        self._engine, self._device, self._task, self._dtype = engine, device, task, dtype
        self._data = {name: DeviceSequences.of(split, dtype, device.torch) for name, split in task.splits.items()}
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def train_epoch(self, members: Sequence[Member], orders: Sequence[np.ndarray]) -> Epoch:
        losses, seconds = self._pass(members, orders, "train", train=True)
        return Epoch(losses / self._task.splits["train"].n_steps, seconds)

    def evaluate(self, members: Sequence[Member], split: str) -> np.ndarray:
        orders = [np.arange(self._data[split].n_sequences)] * len(members)
        return self._pass(members, orders, split, train=False)[0] / self._task.splits[split].n_steps

    def _pass(
        self, members: Sequence[Member], orders: Sequence[np.ndarray], split: str, train: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        from search.compiler.cuda_epoch import run

        def kernels(member: Member) -> CudaKernels:
            return self._engine.compile(member.network.cell, self._dtype, self._task.loss)

        return run(self._device, kernels, members, orders, self._data[split], lambda: self._stopped, train)
