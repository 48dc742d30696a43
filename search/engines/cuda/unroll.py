"""A layer over a batch of sequences as a differentiable torch function, its recurrence by compiled CUDA code.

The kernels do the recurrence alone, one block a sequence. The products over all steps at once, with the input before it
and for the gradients of matrices after it, are torch's.
"""

from typing import Any

import torch

from search.cells.cell import Cell
from search.engines.cuda.kernels import CudaCompiler, CudaKernels
from search.engines.cuda.layout import UNROLL, Layout, recurrent
from search.engines.plan import Product
from search.errors import UserError


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
        ctx.layer = _Layer(compiler, code, params, x.detach())
        return ctx.layer.forward()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, None, None, *ctx.layer.backward(dy)


class _Layer:
    """Memory of an unrolled layer, from its forward to its backward pass."""

    def __init__(self, compiler: CudaCompiler, code: CudaKernels, params: dict[str, torch.Tensor], x: torch.Tensor):
        self._device, self._code, self._params, self._x = compiler.device, code, params, x
        plan = code.plan
        n_steps, self._n_batch, n_inputs = x.shape
        n = len(next(iter(params.values())))
        shared_bytes, tiles = self._device.shared_bytes, self._device.tiles
        self._layout = Layout(plan, n_inputs, n, 0, 1, n_steps, x.element_size(), shared_bytes, tiles)
        width = self._layout.n_recurrent_columns
        sizes = {
            "weights": (width * n, n),
            "transposed": (width * n, n),
            "vectors": (len(plan.vectors), n),
            "columns": (self._n_batch, n_steps, len(plan.preactivations), n),
            "tape": (self._n_batch, n_steps + 1, len(plan.tape), n),
            "dy": (self._n_batch, n_steps, n),
            "gradients": (self._n_batch, len(plan.vectors), n),
        }
        counts = [torch.Size(size).numel() for size in sizes.values()]
        # The kernels take one buffer, and where each part of it begins.
        self._buffer = x.new_empty(sum(counts))
        starts = [sum(counts[:k]) for k in range(len(counts))]
        parts = zip(sizes, self._buffer.split(counts), strict=True)
        self._parts = {name: part.view(sizes[name]) for name, part in parts}
        fields = dict(zip(sizes, starts, strict=True)) | {
            "n_units": n,
            "n_steps": n_steps,
            "chip": self._layout.chip,
            "mats": self._layout.mats,
            "column_size": self._parts["columns"][0].numel(),
            "tape_size": self._parts["tape"][0].numel(),
            "dy_size": self._parts["dy"][0].numel(),
        }
        self._job = torch.tensor([fields[name] for name in UNROLL], dtype=torch.int64).to(x.device)

    def _columns(self, product: Product) -> slice:
        first = self._code.plan.preactivations.index(product.preactivations[0])
        return slice(first, first + len(product.preactivations))

    def _launch(self, kernel: str) -> None:
        shape = (self._n_batch, self._layout.threads, self._layout.shared_used)
        self._code.code.launch(kernel, *shape, [self._buffer, self._job])

    def forward(self) -> torch.Tensor:
        """y [T, B, N]"""
        plan, parts = self._code.plan, self._parts
        row = 0
        n = self._layout.n_units
        for product in recurrent(plan):
            # Row k: what operand element k adds to each column.
            block = torch.cat([self._params[matrix] for matrix in product.matrices]).T
            parts["weights"].view(-1)[row * n : (row + block.shape[1]) * n].view(block.shape).copy_(block)
            row += block.shape[1]
        for vector, name in zip(parts["vectors"], plan.vectors, strict=True):
            vector.copy_(self._params[name])
        x = self._x.transpose(0, 1)  # [B, T, M]
        for product in plan.inputs:
            matrices = torch.stack([self._params[matrix] for matrix in product.matrices])
            parts["columns"][:, :, self._columns(product)] = torch.einsum("btm,pnm->btpn", x, matrices)
        parts["tape"][:, 0] = 0
        self._launch("unroll_forward")
        return parts["tape"][:, 1:, plan.tape[plan.state["y"]]].transpose(0, 1).contiguous()

    def backward(self, dy: torch.Tensor) -> list[torch.Tensor]:
        """d loss / d x, and d loss / d parameter for each, given dy [T, B, N]."""
        plan, parts = self._code.plan, self._parts
        parts["dy"].copy_(dy.transpose(0, 1))
        self._launch("unroll_backward")
        dx = torch.zeros_like(self._x)
        gradients = dict(zip(plan.vectors, parts["gradients"].sum(0), strict=True))
        for product in plan.products:
            d = parts["columns"][:, :, self._columns(product)]
            if product.operand == "x":
                operand = self._x.transpose(0, 1)
                matrices = torch.stack([self._params[matrix] for matrix in product.matrices])
                dx += torch.einsum("btpn,pnm->tbm", d, matrices)
            else:
                # The state is heard one step late, what the step passes at once.
                steps = slice(1, None) if "." in product.operand else slice(None, -1)
                operand = parts["tape"][:, steps, plan.tape[product.node]]
            gradients |= zip(product.matrices, torch.einsum("btpn,btm->pnm", d, operand), strict=True)
        return [dx, *(gradients[name].contiguous() for name in self._params)]
