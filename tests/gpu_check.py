"""Checks and times the CUDA engine on a machine with a GPU: ``python -m tests.gpu_check --quick``, then ``--full``.

First correctness, on fresh random numbers at real sizes, against the compiled CPU engine and the reference; with
``--full`` then the rates that the device reaches at most, and seconds per epoch and trial. Results are written as they
come, to ``runs/bench`` under the device's name; a table comes last. It needs torch, numpy, llvmlite, pyyaml and
cuda-bindings with NVRTC, no test runner. ``--tiny`` runs all of it in the emulator.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from search import rules
from search.base.randomness import epoch_order
from search.cells import get, variants
from search.engines import Engine, Member
from search.engines.cpu.engine import CpuEngine
from search.engines.cuda.engine import CudaEngine
from search.engines.reference import ReferenceEngine
from search.network import Network
from search.tasks.task import Split, Task

# JSB Chorales: notes; training, validation and test sequences; predicted steps in training.
NOTES, SEQUENCES, STEPS = 88, (229, 76, 77), 13_578
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}


def task_like(
    sizes: Sequence[int],
    width: int,
    mean_steps: float,
    rng: np.random.Generator,
    loss: str = "bernoulli",
    bidirectional: bool = False,
) -> Task:
    """A task of random chords, with lengths spread about as widely as those of JSB Chorales."""

    def targets(x: np.ndarray) -> np.ndarray:
        match loss:
            case "categorical":
                return rng.integers(-1, width, len(x), np.int32)
            case "ctc":  # each class once, so that there is room for them
                return rng.permutation(width - 1)[: max(1, len(x) // 2)].astype(np.int32)
        return np.roll(x, -1, axis=0)

    def split(n: int) -> Split:
        lengths = np.maximum(1, mean_steps * np.exp(rng.normal(-0.06, 0.35, n))).astype(int)
        inputs = [(rng.random((length, width)) < 0.05).astype(np.float32) for length in lengths]
        return Split(inputs, [targets(x) for x in inputs])

    splits = dict(zip(("train", "valid", "test"), map(split, sizes), strict=True))
    classes = {"categorical": width, "ctc": width - 1}.get(loss)
    return Task("random", splits, loss, "nats", bidirectional=bidirectional, n_classes=classes)


def member(task: Task, variant: str, hidden_size: int, seed: int, dtype: str, n_layers: int = 1) -> Member:
    network = Network(
        get(variant), task.n_inputs, hidden_size, task.n_outputs, task.bidirectional, n_layers, skip=n_layers > 1
    )
    return Member.new(network, rules.update(rules.DEFAULT, {"lr": 1e-3, "momentum": 0.9}), 0.3, seed, dtype)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """|a - b| / |b|; NaN counts as infinite."""
    value = float(np.linalg.norm(a.astype(np.float64) - b) / max(np.linalg.norm(b), 1e-30))
    return value if np.isfinite(value) else float("inf")


def check_training(
    ours: Engine, theirs: Engine, task: Task, sizes: Sequence[int], names: Sequence[str], n_layers: int = 1
) -> list[dict]:
    """An epoch and an evaluation of mixed members, twice, compared with another engine and with itself."""
    n = len(task.splits["train"].inputs)
    rows = []
    for dtype in TOLERANCE:

        def trained(engine: Engine, dtype: str = dtype) -> list[list[np.ndarray]]:
            members = [
                member(task, name, size, 7 + k, dtype, n_layers) for k, name in enumerate(names) for size in sizes
            ]
            trainer = engine.trainer(task, dtype, 8)
            losses = trainer.train_epoch(members, [epoch_order(0, 0, n)] * len(members)).losses
            scores = trainer.evaluate(members, "valid")
            return [[m.weights, m.slots["velocity"], losses[k], scores[k]] for k, m in enumerate(members)]

        first, again, expected = trained(ours), trained(ours), trained(theirs)
        for k, (name, size) in enumerate((name, size) for name in names for size in sizes):
            errors = [distance(np.atleast_1d(a), np.atleast_1d(b)) for a, b in zip(first[k], expected[k], strict=True)]
            moved = any(not np.array_equal(a, b) for a, b in zip(first[k], again[k], strict=True))
            good = max(errors) < TOLERANCE[dtype] and not moved
            rows.append(
                {
                    "what": f"train, {task.loss}, {n_layers} layers",
                    "variant": name,
                    "hidden_size": size,
                    "dtype": dtype,
                    "error": max(errors),
                    "moved": moved,
                    "good": good,
                }
            )
    return rows


def check_unroll(
    ours: Engine, on: torch.device, sizes: Sequence[int], names: Sequence[str], n_steps: int
) -> list[dict]:
    """Outputs and gradients of a layer, compared with the reference in float64."""
    rows = []
    for name in names:
        for size in sizes:
            for dtype in TOLERANCE:
                cell = get(name)
                shapes = {"x": (n_steps, 3, 5), **cell.parameters(5, size)}
                exact = {key: (0.3 * torch.randn(*shape)).double().requires_grad_() for key, shape in shapes.items()}
                near = {k: v.detach().to(on, getattr(torch, dtype)).requires_grad_() for k, v in exact.items()}
                results = []
                for engine, inputs in ((ours, near), (ReferenceEngine("cpu"), exact)):
                    y = engine.unroll(cell, {k: v for k, v in inputs.items() if k != "x"}, inputs["x"])
                    weight = torch.cos(torch.arange(y.numel(), device=y.device, dtype=y.dtype)).reshape(y.shape)
                    results.append([y, *torch.autograd.grad((y * weight).sum(), list(inputs.values()))])
                pairs = [(a.detach().cpu().numpy(), b.detach().numpy()) for a, b in zip(*results, strict=True)]
                error = max(distance(a, b) for a, b in pairs)
                row = {"what": "unroll", "variant": name, "hidden_size": size, "dtype": dtype, "error": error}
                rows.append(row | {"good": error < TOLERANCE[dtype]})
    return rows


def on_device(work: Callable[[], Any], repeats: int = 15) -> float:
    """Median seconds of device work, by events, after three turns to warm up."""
    times = []
    for turn in range(repeats + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        if turn >= 3:
            times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def ceilings() -> dict[str, float]:
    """What the device reaches: a large copy, bytes read plus bytes written, and a large float32 matrix product."""
    torch.backends.cuda.matmul.allow_tf32 = False
    source = torch.randn(2**29, device="cuda")
    target = torch.empty_like(source)
    copied = on_device(lambda: target.copy_(source))
    a, b = (torch.randn(8192, 8192, device="cuda") for _ in range(2))
    multiplied = on_device(lambda: torch.mm(a, b))
    return {"copy_bytes_per_second": 2 * source.nbytes / copied, "sgemm_flop_per_second": 2 * 8192**3 / multiplied}


def training_flop(m: Member) -> int:
    """Arithmetic of the matrix products in one time step of training: W forward and gradient, the others thrice."""
    shapes = [shape for shape in m.network.shapes.values() if len(shape) == 2]
    n_inputs = m.network.n_inputs
    into = sum(a * b for a, b in shapes[:-1] if b == n_inputs)
    return 4 * into + 6 * (sum(a * b for a, b in shapes) - into)


def time_population(engine: Engine, task: Task, names: Sequence[str], sizes: Sequence[int], repeats: int) -> dict:
    """Seconds per epoch and trial, training and validation, of members that run at once."""
    members = [member(task, names[k % len(names)], size, k, "float32") for k, size in enumerate(sizes)]
    trainer = engine.trainer(task, "float32", 1)
    split = task.splits["train"]
    orders = [epoch_order(0, 0, len(split.inputs))] * len(members)
    trained, evaluated = [], []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        trainer.train_epoch(members, orders)
        middle = time.perf_counter()
        trainer.evaluate(members, "valid")
        trained.append(middle - start)
        evaluated.append(time.perf_counter() - middle)
    train, evaluate = statistics.median(trained[1:]), statistics.median(evaluated[1:])
    return {
        "trials": len(members),
        "train_seconds": train / len(members),
        "evaluate_seconds": evaluate / len(members),
        "spread": (max(trained[1:]) - min(trained[1:])) / train,
        "flop_per_second": sum(map(training_flop, members)) * split.n_steps / train,
    }


def times(engine: Engine, task: Task, hidden: Sequence[int], populations: Sequence[int], repeats: int) -> list[dict]:
    rows = []
    for k in populations:
        for size in hidden:
            row = {"hidden_size": str(size), "variant": "vanilla"}
            rows.append(row | time_population(engine, task, ["vanilla"], [size] * k, repeats))
        mixed = np.exp(np.random.default_rng(k).uniform(np.log(min(hidden)), np.log(max(hidden) + 1), k)).astype(int)
        row = {"hidden_size": "mixed", "variant": "vanilla"}
        rows.append(row | time_population(engine, task, ["vanilla"], mixed.tolist(), repeats))
    names = sorted(variants()) if len(hidden) > 1 else ["vanilla", "gru"]
    for name in names:
        row = {"hidden_size": "mixed", "variant": name}
        rows.append(row | time_population(engine, task, [name], mixed.tolist(), repeats))
    return rows


def checks(engine: Engine, on: torch.device, kind: str, rng: np.random.Generator) -> Iterator[list[dict]]:
    """All checks of correctness, one after the other."""
    cells, cpu = ["vanilla", "fgr", "gru", "tests.mut3.MUT3"], CpuEngine()
    if kind == "tiny":
        small = task_like((2, 1, 1), 3, 3, rng)
        yield check_training(engine, cpu, small, [2], ["vanilla", "gru"])
        yield check_unroll(engine, on, [2], ["vanilla"], 3)
        return
    sizes = [1, 20, 63, 127, 200] if kind == "full" else [1, 63, 200]
    yield check_training(engine, cpu, task_like((6, 4, 1), NOTES, STEPS / SEQUENCES[0], rng), sizes, cells)
    yield check_unroll(engine, on, [1, 63, 200, 600], cells, 40)
    for loss in ("bernoulli", "categorical", "ctc"):
        task = task_like((4, 3, 1), 40, 30, rng, loss, bidirectional=True)
        yield check_training(engine, cpu, task, [5, 70], ["gru"])
    yield check_training(engine, cpu, task_like((4, 3, 1), 40, 50, rng, bidirectional=True), [5, 70], ["vanilla"], 2)
    yield check_training(engine, cpu, task_like((4, 3, 1), 40, 50, rng), [9], ["tests.clockwork.Clockwork"], 2)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = {"quick": "correctness", "full": "correctness at more sizes, and times", "tiny": "sizes for the emulator"}
    choice = parser.add_mutually_exclusive_group(required=True)
    for kind, meaning in kinds.items():
        choice.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind, help=meaning)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    args = parser.parse_args(argv)
    rng = np.random.default_rng(time.time_ns())
    engine = CudaEngine(_emulator() if args.kind == "tiny" else None)
    out = args.out or Path("runs/bench") / f"{engine.device.replace(' ', '-')}-{args.kind}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"device": engine.device, "torch": torch.__version__, "python": sys.version.split()[0]}
    result |= {"compile": [], "checks": []}

    def write() -> None:
        out.write_text(json.dumps(result, indent=1))

    update = rules.update(rules.DEFAULT, {"lr": 0.01, "momentum": 0.9})
    for name in [*sorted(variants()), "tests.mut3.MUT3"] if args.kind == "full" else ["vanilla", "gru"]:
        code = engine.compile(get(name), "float32", "bernoulli", update)
        result["compile"].append({"variant": name, "cached": code.cached, "seconds": code.seconds})
        print(f"{name}: {'cached' if code.cached else 'compiled'}, {code.seconds:.1f} s", flush=True)
    on = torch.device("cpu") if args.kind == "tiny" else torch.device("cuda", torch.cuda.current_device())
    for rows in checks(engine, on, args.kind, rng):
        result["checks"] += rows
        print(f"{sum(row['good'] for row in rows)} of {len(rows)} hold: {rows[0]['what']}", flush=True)
        write()
    if args.kind == "full":
        result["ceilings"] = ceilings()
        whole = task_like(SEQUENCES, NOTES, STEPS / SEQUENCES[0], rng)
        result["train_steps"] = whole.splits["train"].n_steps
        result["times"] = times(engine, whole, [20, 63, 200], [1, 132, 264, 528], 3)
    elif args.kind == "tiny":
        result["times"] = times(engine, task_like((2, 1, 1), 3, 3, rng), [2], [1, 3], 1)
    write()
    show(result)


def _emulator() -> Any:
    from tests.cuda_emulator import Emulator  # which a machine with a GPU has no need of

    return Emulator()


def show(result: dict[str, Any]) -> None:
    """Prints what was found."""
    print(f"\n{result['device']}, torch {result['torch']}")
    for row in result["checks"]:
        if not row["good"]:
            print("WRONG", row)
    worst = {dtype: max(row["error"] for row in result["checks"] if row["dtype"] == dtype) for dtype in TOLERANCE}
    good = sum(row["good"] for row in result["checks"])
    print(f"{good} of {len(result['checks'])} checks hold; largest errors {worst}")
    for name, value in result.get("ceilings", {}).items():
        print(f"{name}: {value:.3g}")
    ceiling = result.get("ceilings", {}).get("sgemm_flop_per_second", float("nan"))
    if "times" in result:
        print("variant  hidden trials  train ms  valid ms  spread  GFLOP/s  of SGEMM   (ms per epoch and trial)")
    for row in result.get("times", []):
        print(
            f"{row['variant']:8} {row['hidden_size']:>6} {row['trials']:6} {row['train_seconds'] * 1e3:9.3f}"
            f" {row['evaluate_seconds'] * 1e3:9.3f} {row['spread']:7.1%} {row['flop_per_second'] / 1e9:8.0f}"
            f" {row['flop_per_second'] / ceiling:9.1%}"
        )


if __name__ == "__main__":
    main()
