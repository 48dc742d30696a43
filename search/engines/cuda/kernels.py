"""The compiled CUDA kernels of a cell."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from search import losses
from search.cells.cell import Cell
from search.engines.cuda.device import Code, Device
from search.engines.cuda.source import KERNELS, epoch_source, unroll_source
from search.engines.plan import Plan, make_plan
from search.rules import Update

UNROLL = tuple(name for name in KERNELS if name != "epoch")


@dataclass(frozen=True)
class CudaKernels:
    """A cell's code, compiled for one size of block after the other as they are asked for.

    Attributes:
        device: that it runs on.
        plan: what it was made from.
        source: of the kernels.
        names: of the kernels ``epoch``, or ``unroll_forward`` and ``unroll_backward``, of `search.engines.cuda.source`.
        dtype: of numbers.
    """

    device: Device
    plan: Plan
    source: str
    names: tuple[str, ...]
    dtype: str
    _variants: dict[int, Code] = field(default_factory=dict, repr=False)

    def variant(self, threads: int) -> Code:
        """The code for blocks of a size."""
        if threads not in self._variants:
            self._variants[threads] = self.device.code(self.source, self.names, self.dtype, threads)
        return self._variants[threads]

    @property
    def cached(self) -> bool:
        """Whether the code was found in the cache on disk."""
        return all(code.cached for code in self._variants.values())

    @property
    def seconds(self) -> float:
        """Time it took to get it; sizes of block are compiled beside one another."""
        return max(code.seconds for code in self._variants.values())


def prepare(wanted: Iterable[tuple[CudaKernels, int]]) -> None:
    """Gets the code of kernels for sizes of block, of all at once."""
    missing = {(id(kernels), threads): kernels for kernels, threads in wanted}
    if missing:
        with ThreadPoolExecutor(len(missing)) as pool:
            list(pool.map(lambda item: item[1].variant(item[0][1]), missing.items()))


class CudaCompiler:
    """Compiles cells for one device, each once."""

    def __init__(self, device: Device):
        self.device = device
        self._known: dict[tuple[object, ...], CudaKernels] = {}

    def kernels(self, cell: Cell, dtype: str, loss: str | None = None, update: Update | None = None) -> CudaKernels:
        """The kernel of an epoch with a loss and an update, or those of an unroll if there is none.

        Raises:
            UserError: there is no such loss.
        """
        key = (cell.signature, cell.layers_tied, dtype, loss, update and update.signature)
        if key not in self._known:
            if loss is not None:
                losses.find(loss)
            plan = make_plan(cell)
            if loss is None or update is None:
                source, names = unroll_source(plan), UNROLL
            else:
                source, names = epoch_source(plan, loss, self.device.tiles, update.program), ("epoch",)
            self._known[key] = CudaKernels(self.device, plan, source, names, dtype)
        return self._known[key]
