"""Measuring the engines: seconds per epoch of a trial, beside the machine's rate and what a user could pick instead."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search import engines, rules
from search.base.provenance import git_revision, versions
from search.base.randomness import epoch_order
from search.cells import Cell, get
from search.engines import Engine, Member
from search.engines.use import counted
from search.network import Network
from search.tasks import Split, Task


@dataclass(frozen=True)
class Column:
    """The shape of one of the paper's tasks."""

    n_inputs: int
    n_outputs: int
    loss: str
    n_sequences: int
    length: int
    bidirectional: bool

    @property
    def n_steps(self) -> int:
        return self.n_sequences * self.length


PAPER_VARIANTS = ("vanilla", "nig", "nfg", "nog", "niaf", "noaf", "np", "cifg", "fgr")
PAPER_TRIALS, PAPER_EPOCHS = 200, 150  # per variant and task; the most that a trial trains
# The paper's columns (docs/protocol.md, 2): size of the layer's input and output, loss, training sequences, and their
# mean length, that of IAM-OnDB assumed; the classes of a sequence with CTC are those of a line of text.
COLUMNS = {
    "jsb": Column(88, 88, "bernoulli", 229, 60, False),
    "timit": Column(39, 61, "categorical", 3696, 304, True),
    "iamondb": Column(4, 82, "ctc", 5355, 300, True),
}
SHAPED_SEQUENCES = 60  # of data that has only the shape of a column's
PEER_SECONDS = 2.0  # of each repeat of a peer that trains one trial at a time
Say = Callable[[str], None]


def flops_per_step(network: Network) -> float:
    """Floating-point operations of the matrix products of one training step: forward, adjoints, weight gradients.

    A matrix costs 2 operations an element in each of the three; the adjoint of the input is not needed. Of cells whose
    units do not use all of it, what counts by `search.engines.use` is counted.
    """
    own = network.cell.preactivations.values()
    from_input = {term.matrix for pre in own for term in pre.terms if term.operand == "x"}
    total = 2 * 3 * float(network.n_outputs * network.n_heard)
    for layer in network.layers:
        for name, elements in counted(network.cell, layer.n_inputs, network.n_units).items():
            total += 2 * elements * (2 if name in from_input else 3)
    return total


def shaped(name: str) -> Task:
    """Random data in the shape of one of the paper's tasks, for those who do not have its corpus; a part of it."""
    column, rng = COLUMNS[name], np.random.default_rng(0)

    def split(n: int) -> Split:
        lengths = np.maximum(20, rng.normal(column.length, column.length / 4, n)).astype(int)
        inputs = [rng.standard_normal((t, column.n_inputs), np.float32) for t in lengths]
        if column.loss == "categorical":
            return Split(inputs, [rng.integers(0, column.n_outputs, t, np.int32) for t in lengths])
        return Split(inputs, [rng.integers(0, column.n_outputs - 1, t // 10, np.int32) for t in lengths])

    splits = {"train": split(SHAPED_SEQUENCES), "valid": split(SHAPED_SEQUENCES // 8), "test": split(1)}
    classes = column.n_outputs - (column.loss == "ctc")
    return Task(name, splits, column.loss, "error [%]", {"source": "random"}, column.bidirectional, classes)


def sgemm_rate(repeats: int, device: str = "cpu", size: int = 2048) -> list[float]:
    """Measured rate of a large float32 matrix product on all cores, in operations a second, for each repeat."""
    import torch

    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    torch.mm(a, b)
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(a, b)
        if device == "cuda":
            torch.cuda.synchronize()
        rates.append(2 * size**3 / (time.perf_counter() - start))
    return rates


def epoch_seconds(
    engine: Engine,
    task: Task,
    cell: Cell,
    hidden_sizes: Sequence[int],
    threads: int,
    repeats: int,
    valid: bool = False,
) -> list[float]:
    """Wall seconds of an epoch of a population, divided by its trials, for each repeat after one that is not counted.

    Args:
        engine: to be measured.
        task: whose training set makes the epoch.
        cell: of all trials.
        hidden_sizes: of each trial.
        threads: for the engine.
        repeats: to be timed.
        valid: whether the validation after the epoch is timed too.
    """
    trainer = engine.trainer(task, "float32", threads)
    update = rules.update(rules.DEFAULT, {"lr": 1e-4, "momentum": 0.9})
    members = []
    for k, n in enumerate(hidden_sizes):
        network = Network(cell, task.n_inputs, n, task.n_outputs, task.bidirectional)
        members.append(Member.new(network, update, 0.1, k, "float32"))
    seconds = []
    for _ in range(repeats + 1):
        orders = [epoch_order(0, m.epoch, len(task.splits["train"].inputs)) for m in members]
        start = time.perf_counter()
        trainer.train_epoch(members, orders)
        if valid:
            trainer.evaluate(members, "valid")
        seconds.append((time.perf_counter() - start) / len(members))
    return seconds[1:]


def paper_sizes(n: int) -> list[int]:
    """Hidden sizes at the n mid-quantiles of the paper's log-uniform [20, 200]."""
    return [round(20 * 10 ** ((k + 0.5) / n)) for k in range(n)]


@dataclass(frozen=True)
class Settings:
    """What ``odyssey bench`` is to measure; see ``configs/bench.yaml``."""

    engines: Sequence[str]
    variants: Sequence[str]
    hidden_sizes: Sequence[int]
    population: int
    repeats: int
    threads: int


def measure(task: Task, settings: Settings, say: Say) -> dict[str, Any]:
    """All of ``odyssey bench`` as one record, every figure a list over repeats; `say` is told of each as it comes."""
    import torch

    from search.run import rivals

    chosen = [engines.choose(name) for name in settings.engines]
    device = "cuda" if "cuda" in settings.engines else "cpu"
    repeats, threads, population = settings.repeats, settings.threads, settings.population
    torch.set_num_threads(threads)
    rates = sgemm_rate(max(repeats, 5), device)
    record: dict[str, Any] = {
        "task": task.name,
        "steps_per_epoch": task.splits["train"].n_steps,
        "device": {engine.name: engine.device for engine in chosen},
        "machine": platform.machine(),
        "threads": threads,
        "population": population,
        "versions": versions(),
        "git_revision": git_revision(),
        "sgemm_flops": rates,
        "peers": [],
        "engines": [],
        "projection": [],
    }
    say(f"matrix product: {spread([r / 1e9 for r in rates])} GFLOP/s float32 on {threads} threads of {device}")
    say("seconds per training epoch of one trial: median (lowest to highest)")
    of_peers: dict[tuple[str, int], list[float]] = {}
    against = rivals.available() if task.loss == "bernoulli" else {}
    if not against:
        say(f"  (peers are measured on tasks with loss=bernoulli; this one has {task.loss})")
    for n in settings.hidden_sizes:
        for name, peer in against.items():
            of_peers[name, n] = peer(task, n, repeats, device, PEER_SECONDS)
            record["peers"].append({"peer": name, "hidden_size": n, "seconds": of_peers[name, n]})
            say(f"  {name:10} vanilla  {n:4}  {spread(of_peers[name, n])}")
    for engine in chosen:
        for variant in settings.variants:
            for n in settings.hidden_sizes:
                seconds = epoch_seconds(engine, task, get(variant), [n] * population, threads, repeats)
                network = Network(get(variant), task.n_inputs, n, task.n_outputs, task.bidirectional)
                flops = flops_per_step(network) * task.splits["train"].n_steps
                share = [flops / s / statistics.median(rates) for s in seconds]
                faster = {name: ratios(of_peers[name, n], seconds) for name in against if variant == "vanilla"}
                of_engine = {"engine": engine.name, "variant": variant, "hidden_size": n, "seconds": seconds}
                record["engines"].append(
                    of_engine | {"flops": flops, "sgemm_share": share, "times_faster_than": faster}
                )
                versus = "".join(f"  {spread(times)} x {name}" for name, times in faster.items())
                percent = spread([100 * part for part in share])
                say(f"  {engine.name:10} {variant:8} {n:4}  {spread(seconds)}  {percent} % of the matrix rate{versus}")
        record["projection"].append(projection(engine, task, population, threads, repeats, say))
    return record


def projection(engine: Engine, task: Task, population: int, threads: int, repeats: int, say: Say) -> dict[str, Any]:
    """What the paper's search would take: each variant measured on a population spread over its hidden sizes.

    The column of `task` has 1,800 trials of at most 150 epochs with validation. The other two are scaled by arithmetic.
    """
    steps = task.splits["train"].n_steps
    # Of data in a column's shape there is a part; an epoch is as long as it has steps.
    whole_steps = COLUMNS[task.name].n_steps if task.source.get("source") == "random" else steps
    seconds_here, flops_here = np.zeros(repeats), 0.0
    others = {name: column for name, column in COLUMNS.items() if name != task.name}
    flops_other = dict.fromkeys(others, 0.0)
    sizes = paper_sizes(population)
    for variant in PAPER_VARIANTS:
        seconds = epoch_seconds(engine, task, get(variant), sizes, threads, repeats, valid=True)
        seconds_here += PAPER_TRIALS * PAPER_EPOCHS * np.array(seconds) * whole_steps / steps
        for n in sizes:
            network = Network(get(variant), task.n_inputs, n, task.n_outputs, task.bidirectional)
            flops_here += flops_per_step(network) * whole_steps
            for name, other in others.items():
                network = Network(get(variant), other.n_inputs, n, other.n_outputs, other.bidirectional)
                flops_other[name] += flops_per_step(network) * other.n_steps
    column = seconds_here
    per_hour = PAPER_TRIALS * len(PAPER_VARIANTS) * 3600 / column
    whole = column * (1 + sum(flops_other.values()) / flops_here)
    say(f"{engine.name}: the paper's search space, all nine variants, 150 epochs each:")
    say(f"  {spread(list(per_hour))} trials an hour")
    say(f"  {spread(list(column / 3600))} hours for the 1,800 trials of {task.name}; early stopping makes it less")
    say(f"  {spread(list(whole / 3600))} hours for all 5,400, the other two columns scaled by their arithmetic")
    return {
        "engine": engine.name,
        "trials_per_hour": list(per_hour),
        "column_seconds": list(column),
        "all_seconds": list(whole),
        "hidden_sizes": sizes,
        "epochs": PAPER_EPOCHS,
    }


def ratios(slower: Sequence[float], faster: Sequence[float]) -> list[float]:
    """Ratio of the medians, and the least and the most that the spreads of the two allow."""
    middle = statistics.median(slower) / statistics.median(faster)
    return [min(slower) / max(faster), middle, max(slower) / min(faster)]


def spread(values: Sequence[float]) -> str:
    """Median (lowest to highest)."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"
