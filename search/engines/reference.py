"""The reference engine: the equations evaluated as written, by torch and autograd, on any device.

Slow and simple. The other engines are tested against it.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
import torch

from search import losses
from search.base.randomness import input_noise
from search.cells import Cell, Preactivations
from search.cells.cell import Names
from search.cells.trace import BELOW, TIME
from search.engines.engine import Epoch, Interrupted, Member
from search.network import Network
from search.rules import Update
from search.tasks.task import Task


def layer(
    cell: Cell,
    params: dict[str, torch.Tensor],
    constants: dict[str, torch.Tensor],
    x: torch.Tensor,
    below: Mapping[str, torch.Tensor] | None = None,
) -> dict[str, torch.Tensor]:
    """Runs a cell over time, for K sets of parameters at once.

    Args:
        cell: the equations.
        params: each parameter with a leading axis K: [K, N, M], [K, N, N] or [K, N].
        constants: the same for the constants of the cell: [K, N].
        x: [K, T, B, M]
        below: what the layer below gave, if there is one.

    Returns:
        y [K, T, B, N], and by name whatever else the layer above reads.
    """
    n_units = next(iter(params.values())).shape[1]
    n_sets, n_steps, n_batch = x.shape[:3]
    fed = {name: cell.traced.fed[name] for name in cell.preactivations}

    def stacked(operand: str, names: list[str]) -> torch.Tensor:
        """The matrices that `operand` is multiplied by, transposed and side by side. [K, operand size, names * N]"""
        terms = [t for n in names for t in cell.preactivations[n].terms if t.operand == operand]
        return torch.cat([params[t.matrix] for t in terms], dim=1).transpose(1, 2)

    def users(operand: str) -> list[str]:
        return [
            n for n, pre in cell.preactivations.items() if operand in {t.operand for t in pre.terms} - fed[n].keys()
        ]

    # The products with the input do not wait for the recurrence: one for the whole sequence.
    heard = users("x")
    flat = (x.flatten(1, 2) @ stacked("x", heard)).unflatten(1, (n_steps, n_batch))  # [K, T, B, heard * N]
    from_input = dict(zip(heard, flat.split(n_units, dim=-1), strict=True))
    recurrent = [(s, users(s), stacked(s, users(s))) for s in cell.traced.state if users(s)]
    units = {name: params[name][:, None, :] for name in cell.units}
    units |= {name: value[:, None, :] for name, value in constants.items()}

    zeros = x.new_zeros(n_sets, n_batch, n_units)
    past = dict.fromkeys(cell.traced.state, zeros)
    given: dict[str, list[torch.Tensor]] = {name: [] for name in ("y", *cell.traced.below)}

    def preactivations(sums: dict[str, torch.Tensor]) -> Preactivations:
        def pre(name: str, /, **operands: torch.Tensor) -> torch.Tensor:
            total = sums.get(name, zeros)
            for operand, value in operands.items():
                total = total + value @ stacked(operand, [name])
            bias = cell.preactivations[name].bias
            return total + params[bias][:, None, :] if bias else total

        return pre

    for t in range(n_steps):
        sums: dict[str, torch.Tensor] = {name: value[:, t] for name, value in from_input.items()}
        for operand, names, matrix in recurrent:
            for name, part in zip(names, (past[operand] @ matrix).split(n_units, dim=-1), strict=True):
                sums[name] = sums[name] + part if name in sums else part
        lower = {name: zeros if below is None else below[name][:, t] for name in cell.traced.below}
        read = units | {TIME: x.new_tensor(float(t)), BELOW: Names(lower)}
        values = cell.step(Names(past), preactivations(sums), Names(read))
        past = {name: torch.as_tensor(values[name], dtype=x.dtype, device=x.device).expand_as(zeros) for name in past}
        for name, steps in given.items():
            steps.append(past[name])
    return {name: torch.stack(steps, dim=1) for name, steps in given.items()}


class ReferenceEngine:
    """Evaluates cells by torch; see `search.engines.engine.Engine`."""

    name = "reference"

    def __init__(self, device: str = "cpu"):
        self.device = device

    def unroll(self, cell: Cell, params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        n_units = len(next(iter(params.values())))
        constants = {name: x.new_tensor(value)[None] for name, value in cell.constant_values(n_units).items()}
        return layer(cell, {name: p[None] for name, p in params.items()}, constants, x[None])["y"][0]

    def compile(self, cell: Cell, dtype: str, loss: str, update: Update) -> None:
        return None

    def trainer(self, task: Task, dtype: str = "float32", threads: int = 1) -> "ReferenceTrainer":
        return ReferenceTrainer(task, dtype, self.device, threads)


class ReferenceTrainer:
    """Trains members whose cell and epoch are the same in lockstep, padded with zeros to the largest of them."""

    def __init__(self, task: Task, dtype: str, device: str, threads: int):
        self._task, self._loss = task, losses.find(task.loss)
        self._dtype, self._device = getattr(torch, dtype), device
        torch.set_num_threads(threads)
        self._data = {
            name: [
                (torch.tensor(x).to(device, self._dtype), _sent(t, device, self._dtype))
                for x, t in zip(split.inputs, split.targets, strict=True)
            ]
            for name, split in task.splits.items()
        }
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def train_epoch(self, members: Sequence[Member], orders: Sequence[np.ndarray]) -> Epoch:
        losses, seconds = np.zeros(len(members)), np.zeros(len(members))
        trained = []
        for group in _groups(members):
            start = time.perf_counter()
            stack = _Stack([members[k] for k in group], self._dtype, self._device)
            losses[group] = self._train(stack, orders[group[0]])
            trained.append((stack, group))
            # A lockstep epoch has no time of its own for a trial: its arithmetic's share of the whole.
            share = np.array([members[k].network.n_parameters for k in group], float)
            seconds[group] = (time.perf_counter() - start) * share / share.sum()
        for stack, _ in trained:
            stack.store()
        return Epoch(losses / self._task.splits["train"].n_predicted, seconds)

    def _train(self, stack: "_Stack", order: np.ndarray) -> np.ndarray:
        """Trains a stack of members for an epoch; returns their summed losses [K]."""
        total = torch.zeros(len(stack.members), dtype=torch.float64, device=self._device)
        noisy = any(member.input_noise for member in stack.members)
        stack.start_epoch(len(order))
        for index in order:
            self._check_stop()
            x, targets = self._data["train"][index]
            x = x.expand(len(stack.members), *x.shape)
            if noisy:
                noise = input_noise(stack.seeds, stack.members[0].epoch, int(index), x.shape[1:])
                x = x + stack.each([m.input_noise for m in stack.members], 3) * torch.as_tensor(noise).to(x)
            loss = self._loss.total(stack.logits(x), targets)
            stack.step(torch.autograd.grad(loss.sum(), list(stack.params.values()), materialize_grads=True))
            total += loss.detach().double()
        return total.cpu().numpy()

    @torch.no_grad()
    def evaluate(self, members: Sequence[Member], split: str) -> np.ndarray:
        data, loss = self._task.splits[split], self._loss
        scores = np.zeros(len(members))
        for group in _groups(members):
            stack = _Stack([members[k] for k in group], self._dtype, self._device)
            best, totals = [], np.zeros(len(group))
            for x, targets in self._data[split]:
                self._check_stop()
                logits = stack.logits(x.expand(len(group), *x.shape))
                if loss.counts_errors:
                    best.append(logits.argmax(dim=-1).int().cpu().numpy())
                else:
                    totals += loss.total(logits, targets).double().cpu().numpy()
            labels = np.concatenate(best, axis=1) if best else np.zeros((len(group), 0), np.int32)
            n_outputs = self._task.n_outputs
            scores[group] = [loss.score(t, row, data, n_outputs) for t, row in zip(totals, labels, strict=True)]
        return scores

    def _check_stop(self) -> None:
        if self._stopped:
            raise Interrupted


def _sent(targets: np.ndarray, device: str, dtype: torch.dtype) -> torch.Tensor:
    """Targets on the device: numbers in the type that is computed with, classes as they are."""
    tensor = torch.tensor(targets).to(device)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def _groups(members: Sequence[Member]) -> Iterator[list[int]]:
    """Indices of members that can train in lockstep: same equations, same layers, same epoch."""

    def key(k: int) -> tuple[object, ...]:
        network = members[k].network
        heard = tuple(layer.heard is not None for layer in network.layers)
        means = any(node.op == "mean" for node in network.cell.traced.graph.nodes)  # in which no padded unit counts
        return *members[k].signature, heard, members[k].epoch, network.n_units if means else 0

    for _, group in groupby(sorted(range(len(members)), key=key), key):
        yield list(group)


class _Stack:
    """Parameters and slots of several members, padded to the largest hidden size, with a leading axis K."""

    def __init__(self, members: list[Member], dtype: torch.dtype, device: str):
        self.members = members
        self.seeds = np.array([member.seed for member in members], np.uint64)
        first = members[0].network
        n_units = max(member.network.n_units for member in members)
        self.network = replace(first, n_units=n_units)
        self._slots = {
            name: self._stacked([member.slots[name] for member in members], dtype, device) for name in members[0].slots
        }
        # 1 where a parameter is a member's own.
        self._mask = self._stacked([np.ones_like(member.weights) for member in members], dtype, device)
        constants = [member.network.cell.constant_values(member.network.n_units) for member in members]
        self._constants = {
            # A padded unit has the constants of its network's last one, with which nothing that is 0 becomes NaN.
            name: torch.as_tensor(
                np.stack([np.pad(c[name], (0, n_units - len(c[name])), "edge") for c in constants])
            ).to(device, dtype)
            for name in first.cell.constant_names
        }
        weights = self._stacked([member.weights for member in members], dtype, device)
        self.params = {name: tensor.requires_grad_() for name, tensor in weights.items()}

    def _stacked(self, vectors: list[np.ndarray], dtype: torch.dtype, device: str) -> dict[str, torch.Tensor]:
        """Parameter vectors of the members, one each, by name."""
        stacked = {}
        for name, shape in self.network.shapes.items():
            whole = np.zeros((len(vectors), *shape))
            for k, (member, vector) in enumerate(zip(self.members, vectors, strict=True)):
                whole[k][self._padded(name, member.network)] = member.network.unpack(vector)[name]
            stacked[name] = torch.as_tensor(whole).to(device, dtype)
        return stacked

    def _padded(self, name: str, network: Network) -> tuple[np.ndarray, ...]:
        """Where the parameter of a smaller network lies in the padded one."""

        def places(size: int, padded: int) -> np.ndarray:
            if size == padded:
                return np.arange(size)
            blocks = np.arange(size // network.n_units)[:, None] * self.network.n_units  # each of one layer's units
            return (blocks + np.arange(network.n_units)).ravel()

        return np.ix_(*map(places, network.shapes[name], self.network.shapes[name]))

    def each(self, values: list[float], n_axes: int) -> torch.Tensor:
        """One number for each member, as a tensor of `n_axes` axes that broadcasts along the first."""
        some = next(iter(self.params.values()))
        return torch.tensor(values, dtype=some.dtype, device=some.device).reshape(-1, *[1] * (n_axes - 1))

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs before the loss's nonlinearity, for x [K, T, M]: [K, T, O]."""
        network = self.network
        heard = {-1: x}  # what each level gives to the one above
        given: dict[int, dict[str, torch.Tensor]] = {}  # of each direction, by the layer below
        outputs = []
        for level, layers in groupby(network.layers, key=lambda each: each.level):
            ys = []
            for each in layers:
                params = {name: self.params[each.prefix + name] for name in network.cell.parameters(1, 1)}
                below = heard[level - 1]
                below = (below.flip(1) if each.direction else below)[:, :, None]
                own = layer(network.cell, params, self._constants, below, given.get(each.direction))
                given[each.direction] = own
                y = own["y"][:, :, 0]
                ys.append(y.flip(1) if each.direction else y)
                outputs += ys[-1:] if each.heard is not None else []
            heard[level] = torch.cat(ys, dim=-1)
        return torch.cat(outputs, dim=-1) @ self.params["W_out"].transpose(1, 2) + self.params["b_out"][:, None]

    def start_epoch(self, n_updates: int) -> None:
        """Gets ready the hyperparameters of the updates of an epoch."""
        scheduled = [member.update.scheduled(member.epoch, n_updates) for member in self.members]
        self._time, self._times = 0, scheduled[0][0]
        self._hyper = {
            name: np.stack([np.broadcast_to(hyper[name], n_updates) for _, hyper in scheduled])
            for name in scheduled[0][1]
        }

    @torch.no_grad()
    def step(self, gradients: Sequence[torch.Tensor]) -> None:
        """The update of each member with its own hyperparameters, in float64 whatever the numbers are."""
        updates = [member.update for member in self.members]
        # A padded unit's output need not be zero for every cell; the mask keeps its weights at zero.
        named = zip(self.params, gradients, strict=True)
        masked = {name: g.double() * self._mask[name].double() for name, g in named}
        norms = torch.stack([g.square().flatten(1).sum(dim=1) for g in masked.values()]).sum(dim=0).sqrt()
        bounds = torch.tensor([update.clip_norm for update in updates], dtype=norms.dtype, device=norms.device)
        scales = (bounds / norms).clamp(max=1.0) if bounds.isfinite().any() else torch.ones_like(norms)
        time, self._time = float(self._times[self._time]), self._time + 1
        for name, w in self.params.items():

            def each(values: Sequence[float] | np.ndarray | torch.Tensor, like: torch.Tensor = w) -> torch.Tensor:
                """One number for each member, which broadcasts along the first axis."""
                numbers = torch.as_tensor(values, dtype=torch.float64, device=like.device)
                return numbers.reshape(-1, *[1] * (like.dim() - 1))

            bound = each([update.clip_value for update in updates])
            g = (each(scales) * masked[name]).clamp(-bound, bound)
            hyper = {key: each(values[:, self._time - 1]) for key, values in self._hyper.items()}
            slots = {key: vector[name].double() for key, vector in self._slots.items()}
            weights, new = updates[0].rule.evaluated(g, w.double(), slots, each([time] * len(updates)), hyper)
            w.copy_(weights)
            for key, value in new.items():
                self._slots[key][name].copy_(value)

    def store(self) -> None:
        """Writes weights and slots back into the members, which have then trained one epoch more."""
        for k, member in enumerate(self.members):
            for source, vector in zip((self.params, *self._slots.values()), member.vectors, strict=True):
                for name, view in member.network.unpack(vector).items():
                    view[...] = source[name].detach()[k].cpu().numpy()[self._padded(name, member.network)]
            member.epoch += 1
