"""What a user could pick instead of a compiled engine, to be measured beside it: vanilla-like LSTM trials on a task.

Each peer trains by the same protocol (one Nesterov update a sequence, input noise, float32), as its users would
write it.
"""

import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from search import losses, unroll
from search.cells import get
from search.network import Network
from search.tasks.task import Task

LR, MOMENTUM, NOISE = 1e-4, 0.9, 0.1
Measure = Callable[[Task, int, int, str, float], list[float]]
Tree = dict[str, Any]  # of JAX arrays


def _torch_epoch(
    task: Task,
    params: Sequence[torch.Tensor],
    forward: Callable[[torch.Tensor], torch.Tensor],
    device: str,
    seconds: float,
) -> float:
    """Trains one trial for at least `seconds`; returns seconds per predicted step."""
    optimizer = torch.optim.SGD(params, lr=LR * (1 - MOMENTUM), momentum=MOMENTUM, nesterov=True)
    split, loss = task.splits["train"], losses.find(task.loss).total
    data = [
        (torch.tensor(x, device=device), torch.tensor(t, device=device))
        for x, t in zip(split.inputs, split.targets, strict=True)
    ]
    steps, start = 0, time.perf_counter()
    for x, targets in data:
        optimizer.zero_grad()
        y = forward((x + NOISE * torch.randn_like(x))[:, None])
        loss(y.transpose(0, 1), targets).sum().backward()
        optimizer.step()
        steps += len(x)
        if time.perf_counter() - start > seconds:
            break
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps


def loop(task: Task, hidden_size: int, repeats: int, device: str, seconds: float) -> list[float]:
    """A cell written as a loop over time in torch, one trial at a time: seconds per epoch, for each repeat."""
    cell = get("vanilla")
    network = Network(cell, task.n_inputs, hidden_size, task.n_outputs)
    vector = network.unpack(network.initial(0, "float32"))
    params = {name: torch.tensor(value, device=device, requires_grad=True) for name, value in vector.items()}
    own = {name: params[name] for name in cell.parameters(1, 1)}

    def forward(x: torch.Tensor) -> torch.Tensor:
        return unroll(cell, own, x) @ params["W_out"].T + params["b_out"]

    return _repeated(task, repeats, lambda: _torch_epoch(task, list(params.values()), forward, device, seconds))


def nn_lstm(task: Task, hidden_size: int, repeats: int, device: str, seconds: float) -> list[float]:
    """``torch.nn.LSTM`` (no peepholes; cuDNN on a GPU), one trial at a time: seconds per epoch, for each repeat."""
    lstm = torch.nn.LSTM(task.n_inputs, hidden_size, device=device)
    output = torch.nn.Linear(hidden_size, task.n_outputs, device=device)
    params = [*lstm.parameters(), *output.parameters()]
    return _repeated(task, repeats, lambda: _torch_epoch(task, params, lambda x: output(lstm(x)[0]), device, seconds))


def jax(task: Task, hidden_size: int, repeats: int, device: str, seconds: float) -> list[float]:
    """JAX: trials stacked with vmap, `lax.scan` over time, one program for an epoch: seconds per epoch of one trial.

    Sequences are cut to the mean length, so that XLA compiles once; the best of some populations and unrollings counts.
    """
    import jax
    import jax.numpy as jnp

    inputs, targets = (np.asarray(part) for part in zip(*_equal_lengths(task), strict=True))
    steps = inputs.shape[0] * inputs.shape[1]

    def loss(p: Tree, x: Any, t: Any, unrolled: int) -> Any:
        def step(state: tuple[Any, Any], a: Any) -> tuple[tuple[Any, Any], Any]:
            y, c = state
            z, i, f, o = jnp.split(a + y @ p["R"], 4)
            c = jnp.tanh(z) * jax.nn.sigmoid(i + p["p"][0] * c) + jax.nn.sigmoid(f + p["p"][1] * c) * c
            y = jnp.tanh(c) * jax.nn.sigmoid(o + p["p"][2] * c)
            return (y, c), y

        zero = jnp.zeros(hidden_size)
        _, y = jax.lax.scan(step, (zero, zero), x @ p["W"] + p["b"], unroll=unrolled)
        logits = y @ p["W_out"] + p["b_out"]
        return (jax.nn.softplus(logits) - logits * t).sum()

    def update(p: Tree, v: Tree, x: Any, t: Any, key: Any, unrolled: int) -> tuple[Tree, Tree]:
        noisy = x + NOISE * jax.random.normal(key, x.shape)
        e_g = jax.tree.map(lambda g: LR * (1 - MOMENTUM) * g, jax.grad(loss)(p, noisy, t, unrolled))
        v = jax.tree.map(lambda v, e_g: MOMENTUM * v - e_g, v, e_g)
        return jax.tree.map(lambda p, v, e_g: p + MOMENTUM * v - e_g, p, v, e_g), v

    def epoch(p: Tree, v: Tree, key: Any, unrolled: int) -> tuple[Tree, Tree]:
        def body(carry: tuple[Tree, Tree], item: tuple[Any, Any, Any]) -> tuple[tuple[Tree, Tree], None]:
            x, t, key = item
            keys = jax.random.split(key, len(carry[0]["b"]))
            return jax.vmap(update, in_axes=(0, 0, None, None, 0, None))(*carry, x, t, keys, unrolled), None

        keys = jax.random.split(key, len(inputs))
        return jax.lax.scan(body, (p, v), (jnp.asarray(inputs), jnp.asarray(targets), keys))[0]

    compiled = jax.jit(epoch, static_argnums=3)
    best: list[float] = []
    for trials, unrolled in ((64, 1), (64, 4), (16, 1)):
        m, n, out = task.n_inputs, hidden_size, task.n_outputs
        shapes = {"W": (m, 4 * n), "R": (n, 4 * n), "b": (4 * n,), "p": (3, n), "W_out": (n, out), "b_out": (out,)}
        rng = np.random.default_rng(0)
        p = {
            name: jnp.asarray(0.1 * rng.standard_normal((trials, *shape)), jnp.float32)
            for name, shape in shapes.items()
        }
        v = jax.tree.map(jnp.zeros_like, p)

        def once(p: Tree = p, v: Tree = v, n: int = trials, u: int = unrolled) -> float:
            start = time.perf_counter()
            jax.block_until_ready(compiled(p, v, jax.random.key(1), u))
            return (time.perf_counter() - start) / (steps * n)

        once()
        times = [once() * task.splits["train"].n_steps for _ in range(repeats)]
        best = times if not best or min(times) < min(best) else best
    return best


def _equal_lengths(task: Task) -> list[tuple[np.ndarray, np.ndarray]]:
    """Up to 24 training sequences cut to the mean length."""
    split = task.splits["train"]
    mean = split.n_steps // len(split.inputs)
    pairs = zip(split.inputs, split.targets, strict=True)
    return [(x[:mean], t[:mean]) for x, t in pairs if len(x) >= mean][:24]


def _repeated(task: Task, repeats: int, measure: Callable[[], float]) -> list[float]:
    """Seconds per training epoch of one trial, from seconds per step: on one thread or on all, whichever is faster."""
    all_threads = torch.get_num_threads()
    times = []
    for threads in dict.fromkeys((1, all_threads)):  # operations this small often lose by being divided
        torch.set_num_threads(threads)
        times.append([measure() * task.splits["train"].n_steps for _ in range(repeats)])
    torch.set_num_threads(all_threads)
    return min(times, key=min)


def available() -> dict[str, Measure]:
    """The peers that can be measured here, by name."""
    peers: dict[str, Measure] = {"loop": loop, "nn.LSTM": nn_lstm}
    return peers | ({"jax": jax} if find_spec("jax") else {})
