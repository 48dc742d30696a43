"""The compiled CPU engine: one trial a thread, everything in an epoch of a trial in one call of machine code."""

import platform
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from search.cells import Cell
from search.compiler.kernels import Kernels, kernels
from search.compiler.layout import GUARD, JOB, UNROLL, Arena, Layout, Record, layer_fields, piece_size
from search.compiler.llvm_library import LOSSES
from search.engines.engine import Epoch, Interrupted, Member
from search.errors import UserError
from search.tasks.task import Split, Task


class CpuEngine:
    """Runs cells as machine code made from their equations; see `search.engines.engine.Engine`."""

    name = "cpu"

    def __init__(self) -> None:
        self.device = _cpu_model()

    def compile(self, cell: Cell, dtype: str, loss: str) -> Kernels:
        """Gets the code to train a cell, so that its time can be shown as such; a later call costs nothing.

        Returns:
            the kernels; ``cached`` and ``seconds`` say where they came from and what that took

        Raises:
            UserError: the engine cannot run the cell, or has no such loss.
        """
        if loss not in LOSSES:
            raise UserError(f"engine=cpu: no kernel for loss {loss}; expected one of {', '.join(LOSSES)}")
        return kernels(cell, dtype, loss)

    def unroll(self, cell: Cell, params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return _Unroll.apply(cell, tuple(params), x, *params.values())

    def trainer(self, task: Task, dtype: str = "float32", threads: int = 1) -> "CpuTrainer":
        return CpuTrainer(self, task, dtype, threads)


class CpuTrainer:
    """Trains each member on one thread, the largest first; what it computes does not depend on the others."""

    def __init__(self, engine: CpuEngine, task: Task, dtype: str, threads: int):
        self._engine, self._task, self._dtype = engine, task, np.dtype(dtype)
        self._threads = threads
        self._data = {name: _Sequences.of(split, self._dtype) for name, split in task.splits.items()}
        self._stop = np.zeros(1, np.int32)
        self._stopped = False
        self._local = threading.local()

    def stop(self) -> None:
        self._stopped = True
        self._stop[0] = 1

    def train_epoch(self, members: Sequence[Member], orders: Sequence[np.ndarray]) -> Epoch:
        def train(k: int) -> tuple[float, float, np.ndarray, np.ndarray]:
            start = time.perf_counter()
            run = self._run(members[k], "train", orders[k], train=True)
            weights, velocity = run.unpack("weights"), run.unpack("velocity")
            return run.loss, time.perf_counter() - start, weights, velocity

        results = self._each(members, train)
        for member, (_, _, weights, velocity) in zip(members, results, strict=True):
            member.weights[:], member.velocity[:] = weights, velocity
            member.epoch += 1
        losses, seconds = (np.array([result[i] for result in results]) for i in (0, 1))
        return Epoch(losses / self._task.splits["train"].n_steps, seconds)

    def evaluate(self, members: Sequence[Member], split: str) -> np.ndarray:
        order = np.arange(len(self._data[split].lengths), dtype=np.int32)
        losses = self._each(members, lambda k: self._run(members[k], split, order, train=False).loss)
        return np.array(losses) / self._task.splits[split].n_steps

    def _each(self, members: Sequence[Member], work: Callable[[int], Any]) -> list[Any]:
        """``work(k)`` for each member on the threads; a result for each, in order."""
        for member in members:
            self._engine.compile(member.network.cell, self._dtype.name, self._task.loss)
        largest_first = sorted(range(len(members)), key=lambda k: -members[k].network.n_parameters)
        with ThreadPoolExecutor(self._threads) as pool:
            futures = {k: pool.submit(work, k) for k in largest_first}
            try:
                return [futures[k].result() for k in range(len(members))]
            except BaseException:
                self._stop[0] = 1
                pool.shutdown(cancel_futures=True)
                self._stop[0] = self._stopped
                raise

    def _run(self, member: Member, split: str, order: np.ndarray, train: bool) -> "_Run":
        if not hasattr(self._local, "arena"):
            self._local.arena = Arena()
        code = self._engine.compile(member.network.cell, self._dtype.name, self._task.loss)
        run = _Run(member, code, self._data[split], self._local.arena, train)
        run(np.ascontiguousarray(order, np.int32), self._stop)
        return run


@dataclass(frozen=True)
class _Sequences:
    """The sequences of a split end to end, each step one row. `inputs` and `targets` have guard rows around them."""

    inputs: np.ndarray
    targets: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    @staticmethod
    def of(split: Split, dtype: np.dtype) -> "_Sequences":
        lengths = np.array([len(x) for x in split.inputs], np.int64)
        inputs, targets = (_guarded(np.concatenate(rows), dtype) for rows in (split.inputs, split.targets))
        return _Sequences(inputs, targets, np.cumsum(lengths) - lengths, lengths)


def _guarded(rows: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A copy of `rows`, with zeros before and after them that kernels may read."""
    # A vector may also reach over the end of the last guard row, where rows are short.
    guard = GUARD + -(-GUARD * 8 // rows.shape[1])
    whole = np.zeros((len(rows) + 2 * guard, rows.shape[1]), dtype)
    whole[guard : guard + len(rows)] = rows
    return whole[guard : guard + len(rows)]


class _Run:
    """One member's pass over sequences: its parameters and all else a kernel needs, laid out in a thread's arena."""

    def __init__(self, member: Member, code: Kernels, data: _Sequences, arena: Arena, train: bool):
        network, dtype = member.network, data.inputs.dtype
        self._network, self._code, self._data, self._dtype = network, code, data, dtype
        layout = Layout(code.plan, code.target, network.n_inputs, network.n_units)
        n_steps, n_outputs = int(data.lengths.max(initial=1)), network.n_outputs
        layer = layout.buffers(n_steps) | layout.output_buffers(n_steps, n_outputs)
        logit_stride = layout.stride(n_outputs)
        shared = {f"bias_{kind}": (1, logit_stride) for kind in ("weights", "velocity", "gradients")}
        shared |= {"logits": (n_steps, logit_stride), "zeros": (1, max(logit_stride, layout.column_stride))}
        shared |= {"noisy": (n_steps + GUARD, network.n_inputs)}

        directions = network.directions
        arena.reset(
            sum(piece_size(*shape, dtype) for shape in shared.values())
            + len(directions) * sum(piece_size(*shape, dtype) for shape in layer.values())
        )
        self._shared = {name: arena.take(*shape, dtype) for name, shape in shared.items()}
        self._layers = [{name: arena.take(*shape, dtype) for name, shape in layer.items()} for _ in directions]
        self._layout = layout
        self._pack("weights", member.weights)
        if train:
            self._pack("velocity", member.velocity)

        records = []
        for arrays in self._layers:
            records.append(Record(layer_fields(code.plan)))
            records[-1].set(**layout.sizes(), **arrays, out_stride=logit_stride)
        self._records = np.concatenate([record.words for record in records])
        self._job = Record(JOB)
        self._job.set(
            **self._shared,
            inputs=data.inputs,
            targets=data.targets,
            starts=data.starts,
            lengths=data.lengths,
            n_inputs=network.n_inputs,
            n_outputs=n_outputs,
            n_directions=len(directions),
            layers=self._records,
            logit_stride=logit_stride,
            logit_width=layout.padded(n_outputs) // code.target.lanes,
            train=int(train),
            rate=float(member.lr * (1.0 - member.momentum)),
            momentum=float(member.momentum),
            noise=float(member.input_noise) if train else 0.0,
            seed=member.seed,
            epoch=member.epoch,
        )

    def __call__(self, order: np.ndarray, stop: np.ndarray) -> None:
        """Runs over the sequences of `order`; raises `Interrupted` when it met the stop flag."""
        self._job.set(n_sequences=len(order), order=order, stop=stop)
        if self._code.function("epoch")(self._job.address):
            raise Interrupted

    @property
    def loss(self) -> float:
        """The loss, summed over all steps."""
        return self._job.double("loss")

    def _parameters(self, kind: str) -> dict[str, np.ndarray]:
        """Views of all parameters in the arena by name; `kind` is weights or velocity."""
        views = {}
        for prefix, arrays in zip(self._network.directions, self._layers, strict=True):
            views |= {prefix + name: view for name, view in self._layout.views(arrays, kind).items()}
        n_units, n_outputs = self._network.n_units, self._network.n_outputs
        for d, arrays in enumerate(self._layers):
            views[f"W_out.{d}"] = arrays[f"out_{kind}"][:n_units, :n_outputs].T
        return views | {"b_out": self._shared[f"bias_{kind}"][0, :n_outputs]}

    def _each_parameter(self, kind: str, vector: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Pairs of a view of the arena and the view of the parameter vector that it corresponds to."""
        views, named = self._parameters(kind), self._network.unpack(vector)
        n_units = self._network.n_units
        w_out = named.pop("W_out")
        for d in range(len(self._layers)):
            named[f"W_out.{d}"] = w_out[:, d * n_units : (d + 1) * n_units]
        return [(views[name], part) for name, part in named.items()]

    def _pack(self, kind: str, vector: np.ndarray) -> None:
        for view, part in self._each_parameter(kind, vector):
            view[...] = part

    def unpack(self, kind: str) -> np.ndarray:
        """The parameter vector, or its velocity, after the run."""
        vector = np.empty(self._network.n_parameters, self._dtype)
        for view, part in self._each_parameter(kind, vector):
            part[...] = view
        return vector


class _Unroll(torch.autograd.Function):
    """A layer over a batch of sequences, and its derivative."""

    @staticmethod
    def forward(ctx, cell, names, x, *values):  # type: ignore[no-untyped-def]
        code = kernels(cell, str(x.dtype).removeprefix("torch."), None)
        layer = _UnrolledLayer(code, dict(zip(names, values, strict=True)), x)
        ctx.layer = layer
        return torch.from_numpy(layer.forward())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dy):  # type: ignore[no-untyped-def]
        dx, gradients = ctx.layer.backward(dy)
        return None, None, torch.from_numpy(dx), *(torch.from_numpy(g) for g in gradients)


class _UnrolledLayer:
    """Memory of an unrolled layer from its forward to its backward pass."""

    def __init__(self, code: Kernels, params: dict[str, torch.Tensor], x: torch.Tensor):
        self._code, self._params = code, params
        n_steps, n_batch, n_inputs = x.shape
        n_units = next(iter(params.values())).shape[0]
        self._x = _guarded(x.detach().numpy().reshape(n_steps * n_batch, n_inputs), x.numpy(force=True).dtype)
        self._shape = (n_steps, n_batch, n_inputs)
        self._layout = layout = Layout(code.plan, code.target, n_inputs, n_units)
        buffers = layout.buffers(n_steps)
        buffers["tape"] = (n_batch * (n_steps + 1), layout.tape_stride)
        buffers["zeros"] = (1, max(layout.column_stride, layout.padded(n_inputs)))
        arena = Arena()
        arena.reset(sum(piece_size(*shape, self._x.dtype) for shape in buffers.values()))
        self._arrays = {name: arena.take(*shape, self._x.dtype) for name, shape in buffers.items()}
        for name, view in layout.views(self._rows(), "weights").items():
            view[...] = params[name].detach().numpy()
        self._layer = Record(layer_fields(code.plan))
        self._layer.set(**layout.sizes(), **self._arrays)
        self._job = Record(UNROLL)
        self._job.set(layer=self._layer.words, n_steps=n_steps, n_batch=n_batch, x=self._x, tape=self._arrays["tape"])
        self._job.set(tape_size=(n_steps + 1) * layout.tape_stride)

    def _rows(self) -> dict[str, np.ndarray]:
        return self._arrays

    def forward(self) -> np.ndarray:
        """y [n_steps, n_batch, n_units]"""
        n_steps, n_batch, _ = self._shape
        self._code.function("unroll_forward")(self._job.address)
        slot = self._code.plan.tape[self._code.plan.state["y"]] * self._layout.unit_stride
        tape = self._arrays["tape"].reshape(n_batch, n_steps + 1, -1)
        return tape[:, 1:, slot : slot + self._layout.n_units].transpose(1, 0, 2).copy()

    def backward(self, dy: torch.Tensor) -> tuple[np.ndarray, list[np.ndarray]]:
        """d loss / d x, and d loss / d parameter for each."""
        n_steps, n_batch, n_inputs = self._shape
        layout, dtype = self._layout, self._x.dtype
        dx_stride = layout.padded(n_inputs)
        outer = np.zeros((n_batch, n_steps + GUARD, layout.unit_stride), dtype)
        outer[:, :n_steps, : layout.n_units] = dy.numpy().transpose(1, 0, 2)
        dx = np.zeros((n_batch * n_steps + GUARD, dx_stride), dtype)
        blocks = [self._arrays[f"weights.{p}"] for p, _ in enumerate(self._code.plan.inputs)]
        widths = [layout.product_columns(product) for product in self._code.plan.inputs]
        transposed = np.zeros((sum(widths), dx_stride), dtype)
        transposed[:, :n_inputs] = np.concatenate([w[:, :n].T for w, n in zip(blocks, widths, strict=True)])
        for name, array in self._arrays.items():
            if name == "vector_gradients" or name.startswith("velocity."):
                array[:] = 0
        self._job.set(dy=outer, dy_size=outer[0].size, dx=dx, dx_stride=dx_stride, transposed=transposed)
        self._code.function("unroll_backward")(self._job.address)
        gradients = layout.views(self._arrays | {"vector_velocity": self._arrays["vector_gradients"]}, "velocity")
        dx = dx[: n_batch * n_steps, :n_inputs].reshape(n_batch, n_steps, n_inputs).transpose(1, 0, 2)
        return dx.copy(), [gradients[name].copy() for name in self._params]


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
