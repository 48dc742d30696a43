"""What the CUDA engine needs of the place where its kernels run."""

from collections.abc import Sequence
from typing import Protocol

import torch

from search.engines.cuda.layout import Tiles

Argument = torch.Tensor | int
DType = torch.dtype
Tensor = torch.Tensor


class Code(Protocol):
    """Kernels for one size of block, ready to run.

    Attributes:
        cached: whether the code was found in the cache on disk.
        seconds: time it took to get it.
    """

    cached: bool
    seconds: float

    def launch(self, kernel: str, grid: int, shared_bytes: int, arguments: Sequence[Argument]) -> None:
        """Starts a kernel on torch's current stream; the caller keeps the tensors alive."""
        ...

    def resident(self, kernel: str, shared_bytes: int) -> int:
        """Blocks of this kind that the device runs at a time."""
        ...


class Device(Protocol):
    """Where kernels run.

    Attributes:
        name: of the device, for the record.
        torch: the device of tensors that kernels work on.
        shared_bytes: shared memory that a block may have.
        tiles: how blocks divide their work.
    """

    name: str
    torch: torch.device
    shared_bytes: int
    tiles: Tiles

    def code(self, source: str, kernels: Sequence[str], dtype: str, threads: int) -> Code:
        """Compiles kernels of `search.engines.cuda.source`, in ``float32`` or ``float64``, for blocks of `threads`."""
        ...

    def empty(self, size: int, dtype: DType) -> Tensor:
        """Memory on the device that kernels are to write before they read it."""
        ...
