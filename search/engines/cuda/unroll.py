"""A layer over a batch of sequences as a differentiable torch function, its recurrence by compiled CUDA code.

The kernels do the recurrence alone, one block a sequence. The products over all steps at once, with the input before it
and for the gradients of matrices after it, are torch's.
"""

from typing import Any

import numpy as np
import torch

from search.cells.cell import Cell
from search.engines.cuda.kernels import CudaCompiler, CudaKernels
from search.engines.cuda.layout import LAYER, Layout, recurrent
from search.engines.plan import Product
from search.errors import UserError
from search.network import Network


def unroll(compiler: CudaCompiler, cell: Cell, params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """`search.engines.engine.Engine.unroll` on the compiler's device.

    Raises:
        UserError: neither float32 nor float64, or not on the device.
    """
    on = compiler.device.torch
    for name, tensor in {"x": x, **params}.items():
        if tensor.dtype not in (torch.float32, torch.float64) or (tensor.dtype, tensor.device) != (x.dtype, on):
            kind = f"{tensor.dtype} on {tensor.device}".removeprefix("torch.")
            raise UserError(f"engine=cuda: {name} is {kind}; expected float32 or float64, all the same, on {on}")
    return _Unroll.apply(compiler, cell, tuple(params), x, *params.values())


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, compiler: CudaCompiler, cell: Cell, names: tuple[str, ...], x: torch.Tensor, *values: torch.Tensor
    ) -> torch.Tensor:
        code = compiler.kernels(cell, str(x.dtype).removeprefix("torch."))
        params = {name: value.detach() for name, value in zip(names, values, strict=True)}
        ctx.layer = _Layer(compiler, cell, code, params, x.detach())
        return ctx.layer.forward()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, None, None, *ctx.layer.backward(dy)


class _Layer:
    """Memory of an unrolled layer, from its forward to its backward pass."""

    def __init__(
        self, compiler: CudaCompiler, cell: Cell, code: CudaKernels, params: dict[str, torch.Tensor], x: torch.Tensor
    ):
        self._plan, self._params, self._x = code.plan, params, x
        n_steps, self._n_batch, n_inputs = x.shape
        n = len(next(iter(params.values())))
        network, device = Network(cell, n_inputs, n, 0), compiler.device
        self._layout = Layout(code.plan, network, n_steps, x.element_size(), device.shared_bytes, device.tiles)
        self._code = code.variant(self._layout.threads)
        plan, width = code.plan, self._layout.n_recurrent_columns
        # The kernels take two buffers, and where each part of them begins: one for all, and one with a row a sequence.
        self._shared, shared = _parts(x, 1, {"recurrent": (width, n, n), "vectors": (len(plan.vectors), n)})
        own = {
            "columns": (n_steps, len(plan.preactivations), n),
            "tape": (n_steps + 1, len(plan.tape), n),
            "dy": (n_steps, n),
            "gradients": (len(plan.vectors), n),
            "d_below": (n_steps, len(plan.below), n),
            "transposed": (width, n, n),
        }
        self._own, places = _parts(x, self._n_batch, own)
        starts = shared | places
        record = np.zeros(1, LAYER)
        alone = {"below": -1, "from_above": -1}
        for name, start in {**starts, **alone, "mats": self._layout.mats, "vec": self._layout.first_vectors}.items():
            if name in (LAYER.names or ()):
                record[name] = start
        self._record = torch.from_numpy(record.view(np.uint8)).to(x.device)
        values = [x.new_tensor(value) for value in cell.constant_values(n).values()]
        self._constants = torch.cat([x.new_empty(0), *values])
        layout = self._layout
        self._sizes = [n, layout.chip, layout.work, n_steps, self._own["all"].stride(0), starts["gradients"]]

    def _columns(self, product: Product) -> slice:
        first = self._plan.preactivations.index(product.preactivations[0])
        return slice(first, first + len(product.preactivations))

    def _launch(self, kernel: str) -> None:
        tensors = [self._own["all"], self._shared["all"], self._constants, self._record]
        self._code.launch(kernel, self._n_batch, self._layout.shared_used, [*tensors, *self._sizes])

    def forward(self) -> torch.Tensor:
        """y [T, B, N]"""
        plan, row = self._plan, 0
        for product in recurrent(plan):
            # Row k: what operand element k adds to each column.
            block = torch.cat([self._params[matrix] for matrix in product.matrices]).T
            width = len(product.matrices)
            self._shared["recurrent"][0, row : row + width].view(block.shape).copy_(block)
            row += width
        for vector, name in zip(self._shared["vectors"][0], plan.vectors, strict=True):
            vector.copy_(self._params[name])
        x = self._x.transpose(0, 1)  # [B, T, M]
        for product in plan.inputs:
            matrices = torch.stack([self._params[matrix] for matrix in product.matrices])
            self._own["columns"][:, :, self._columns(product)] = torch.einsum("btm,pnm->btpn", x, matrices)
        self._own["tape"][:, 0] = 0
        self._launch("unroll_forward")
        return self._own["tape"][:, 1:, plan.tape[plan.state["y"]]].transpose(0, 1).contiguous()

    def backward(self, dy: torch.Tensor) -> list[torch.Tensor]:
        """d loss / d x, and d loss / d parameter for each, given dy [T, B, N]."""
        plan = self._plan
        self._own["dy"].copy_(dy.transpose(0, 1))
        self._launch("unroll_backward")
        dx = torch.zeros_like(self._x)
        gradients = dict(zip(plan.vectors, self._own["gradients"].sum(0), strict=True))
        for product in plan.products:
            d = self._own["columns"][:, :, self._columns(product)]
            if product.operand == "x":
                operand = self._x.transpose(0, 1)
                matrices = torch.stack([self._params[matrix] for matrix in product.matrices])
                dx += torch.einsum("btpn,pnm->tbm", d, matrices)
            else:
                # The state is heard one step late, what the step passes at once.
                steps = slice(1, None) if "." in product.operand else slice(None, -1)
                operand = self._own["tape"][:, steps, plan.tape[product.node]]
            gradients |= zip(product.matrices, torch.einsum("btpn,btm->pnm", d, operand), strict=True)
        return [dx, *(gradients[name].contiguous() for name in self._params)]


def _parts(
    like: torch.Tensor, rows: int, shapes: dict[str, tuple[int, ...]]
) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """A buffer of `rows` rows (``all``), views [rows, shape] of its parts, and where in a row each begins."""
    sizes = [torch.Size(shape).numel() for shape in shapes.values()]
    whole = like.new_empty(rows, sum(sizes))
    starts = dict(zip(shapes, (sum(sizes[:k]) for k in range(len(sizes))), strict=True))
    parts = zip(shapes.items(), whole.split(sizes, dim=1), strict=True)
    return {"all": whole} | {name: part.view(rows, *shape) for (name, shape), part in parts}, starts
