"""The compiled CUDA kernels of a cell."""

from dataclasses import dataclass

from search import losses
from search.cells.cell import Cell
from search.engines.cuda.native import Code, Device
from search.engines.cuda.source import KERNELS, epoch_source, unroll_source
from search.engines.plan import Plan, make_plan
from search.errors import UserError
from search.rules import Update

UNROLL = tuple(name for name in KERNELS if name != "epoch")


@dataclass(frozen=True)
class CudaKernels:
    """A cell's code, ready to run.

    Attributes:
        plan: what it was made from.
        code: the kernel ``epoch``, or ``unroll_forward`` and ``unroll_backward``, of `search.engines.cuda.source`.
    """

    plan: Plan
    code: Code

    @property
    def cached(self) -> bool:
        """Whether the code was found in the cache on disk."""
        return self.code.cached

    @property
    def seconds(self) -> float:
        """Time it took to get it."""
        return self.code.seconds


class CudaCompiler:
    """Compiles cells for one device, each once."""

    def __init__(self, device: Device):
        self.device = device
        self._known: dict[tuple[object, ...], CudaKernels] = {}

    def kernels(self, cell: Cell, dtype: str, loss: str | None = None, update: Update | None = None) -> CudaKernels:
        """The kernel of an epoch with a loss and an update, or those of an unroll if there is none.

        Raises:
            UserError: there is no such loss, or no kernel for clipping by norm, or for constants.
        """
        key = (cell.signature, dtype, loss, update and update.signature)
        if key not in self._known:
            if loss is not None:
                losses.find(loss)
            plan, tiles = make_plan(cell), self.device.tiles
            if update is not None and update.scale_place >= 0:
                raise UserError("engine=cuda: clip_norm: expected null, or engine=cpu, which clips by norm")
            if plan.constants:
                raise UserError("engine=cuda: expected a cell without constants, or engine=cpu, which has them")
            if loss is None or update is None:
                source = unroll_source(plan, tiles)
            else:
                source = epoch_source(plan, loss, tiles, update.program)
            code = self.device.code(source, UNROLL if loss is None else ("epoch",), dtype)
            self._known[key] = CudaKernels(plan, code)
        return self._known[key]
