"""A layer over a batch of sequences as a differentiable torch function, by compiled code."""

from typing import Any

import numpy as np
import torch

from search.cells.cell import Cell
from search.engines.cpu.kernels import Kernels, kernels
from search.engines.cpu.layout import GUARD, UNROLL, Arena, Layout, Record, guarded, layer_fields
from search.engines.cpu.windows import windows
from search.errors import UserError


def unroll(cell: Cell, params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """`search.engines.engine.Engine.unroll` on the CPU.

    Raises:
        UserError: neither float32 nor float64, or not on the CPU.
    """
    for name, tensor in {"x": x, **params}.items():
        if tensor.dtype not in (torch.float32, torch.float64) or tensor.dtype != x.dtype or tensor.device.type != "cpu":
            kind = f"{tensor.dtype} on {tensor.device}".removeprefix("torch.")
            raise UserError(f"engine=cpu: {name} is {kind}; expected float32 or float64, all the same, on cpu")
    return _Unroll.apply(cell, tuple(params), x, *params.values())


class _Unroll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cell: Cell, names: tuple[str, ...], x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        code = kernels(cell, str(x.dtype).removeprefix("torch."))
        arrays = [value.detach().numpy() for value in values]
        ctx.layer = _Layer(cell, code, dict(zip(names, arrays, strict=True)), x.detach().numpy())
        return torch.from_numpy(ctx.layer.forward())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, None, *(torch.from_numpy(gradient) for gradient in ctx.layer.backward(dy.numpy()))


class _Layer:
    """Memory of an unrolled layer, from its forward to its backward pass."""

    def __init__(self, cell: Cell, code: Kernels, params: dict[str, np.ndarray], x: np.ndarray):
        self._code, self._names, self._shape = code, tuple(params), x.shape
        n_steps, n_batch, n_inputs = x.shape
        n_units = len(next(iter(params.values())))
        self._layout = layout = Layout(code.plan, code.target, n_inputs, n_units)
        self._x = guarded(x.reshape(n_steps, n_batch * n_inputs), x.dtype)  # rows lie a batch apart, guards too
        buffers = layout.buffers(n_steps) | layout.parameters("weights") | layout.parameters("gradients")
        buffers["tape"] = (n_batch * (n_steps + 1), layout.tape_stride)
        (self._arrays,) = Arena().take([buffers], x.dtype)
        layout.fill_constants(self._arrays, cell)
        for name, view in layout.views(self._arrays, "weights").items():
            view[...] = params[name]
        self._record = Record(layer_fields(code.plan))
        self._record.set(**layout.sizes(), **self._arrays, **layout.neighbours(self._arrays))
        self._windows = windows(layout, cell, n_steps)
        if self._windows:
            self._record.set(**self._windows.words())
        self._job = Record(UNROLL)
        self._job.set(layer=self._record.words, n_steps=n_steps, n_batch=n_batch, x=self._x)
        self._job.set(tape=self._arrays["tape"], tape_size=(n_steps + 1) * layout.tape_stride)

    def forward(self) -> np.ndarray:
        """y [T, B, N]"""
        n_steps, n_batch, _ = self._shape
        self._code.function("unroll_forward")(self._job.address)
        slot = self._code.plan.tape[self._code.plan.state["y"]] * self._layout.unit_stride
        tape = self._arrays["tape"].reshape(n_batch, n_steps + 1, self._layout.tape_stride)
        return tape[:, 1:, slot : slot + self._layout.n_units].transpose(1, 0, 2).copy()

    def backward(self, dy: np.ndarray) -> list[np.ndarray]:
        """d loss / d x, and d loss / d parameter for each, given dy [T, B, N]."""
        n_steps, n_batch, n_inputs = self._shape
        layout, dtype = self._layout, dy.dtype
        dx_stride = layout.padded(n_inputs)
        by_sequence = np.zeros((n_batch, n_steps + 1, layout.unit_stride), dtype)
        by_sequence[:, :n_steps, : layout.n_units] = dy.transpose(1, 0, 2)
        dx = np.zeros((n_batch * n_steps + GUARD, dx_stride), dtype)
        widths = [layout.product_columns(product) for product in self._code.plan.inputs]
        transposed = np.zeros((sum(widths), dx_stride), dtype)
        transposed[:, :n_inputs] = np.concatenate(
            [self._arrays[f"weights.{p}"][:, :width].T for p, width in enumerate(widths)]
        )
        for p, _ in enumerate(self._code.plan.products):
            self._arrays[f"gradients.{p}"].fill(0.0)
        self._arrays["vector_gradients"].fill(0.0)
        self._job.set(dy=by_sequence, dy_size=by_sequence[0].size, dx=dx, dx_stride=dx_stride, transposed=transposed)
        self._code.function("unroll_backward")(self._job.address)
        gradients = layout.views(self._arrays, "gradients")
        dx = dx[: n_batch * n_steps, :n_inputs].reshape(n_batch, n_steps, n_inputs).transpose(1, 0, 2)
        return [dx.copy(), *(gradients[name].copy() for name in self._names)]
