"""The promise under fault: whatever dies, the study ends with exactly the planned trials and the same numbers.

``python -m tests.faults [PART ...] [--short]``, of the parts `PARTS`, prints what it measures, and fails where
the promise is broken or a figure is not reached; ``make test`` runs the short form.

As ``python -m tests.faults act COMMAND ...`` it is ``odyssey COMMAND ...`` under test: checkpoints at every epoch, a
record of who trains what in $ODYSSEY_TEST_LOG, and, where $ODYSSEY_TEST_STUB gives the seconds of an epoch of a trial,
an engine that only sleeps. $ODYSSEY_TEST_POISON names a trial by its seed, what it does to its process (a signal, EXIT
or HANG), and in which epoch. Local workers, ``python -m tests.faults work JOB``, are under the same test.
"""

import argparse
import contextlib
import ctypes
import dataclasses
import itertools
import json
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import torch

from analysis import load, load_curves
from search import engines
from search.cells import Cell
from search.engines import Epoch, Member
from search.engines.cpu.engine import CpuTrainer
from search.run import cli
from search.run.launchers import job, ray
from search.study import sweep
from search.study.claims import ENDED
from search.study.planning import trial_seed
from search.study.reader import StudyReader
from search.study.study import Study
from tests import fault_corpora, fault_files
from tests.postgres import Postgres

ROOT = Path(__file__).parents[1]
STUB_SECONDS = 0.05  # of a trial in `throughput`
LEASE = 4.0


# The process under test.


class StubEngine:
    """An engine whose epochs take $ODYSSEY_TEST_STUB seconds a trial and no work."""

    name, device = "stub", "none"

    def compile(self, cell: Cell, dtype: str, loss: str, update: object) -> None:
        return None

    def unroll(self, cell: Cell, params: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def trainer(self, task: object, dtype: str, threads: int) -> "StubTrainer":
        return StubTrainer()


class StubTrainer:
    def train_epoch(self, members: Sequence[Member], orders: Sequence[np.ndarray]) -> Epoch:
        seconds = float(os.environ["ODYSSEY_TEST_STUB"])
        time.sleep(seconds * len(members))
        for member in members:
            member.epoch += 1
        return Epoch(np.ones(len(members)), np.full(len(members), seconds))

    def evaluate(self, members: Sequence[Member], split: str) -> np.ndarray:
        return np.array([member.seed % 1000 / 1000 for member in members])

    def stop(self) -> None:
        pass


def act(words: list[str]) -> int:
    put_under_test()
    job.command = lambda job: [sys.executable, "-m", "tests.faults", "work", json.dumps(dataclasses.asdict(job))]
    ray.work_on_ray = on_ray()  # type: ignore[assignment]
    return cli.main(words)


def on_ray() -> Callable[[job.Job], int]:
    """What a task of Ray does, which starts with the environment of its node and not that of the command."""
    mine = {name: value for name, value in os.environ.items() if name.startswith("ODYSSEY_TEST_")}

    def work(task: job.Job) -> int:
        from search.run.launchers.ray import work_on_ray
        from tests import faults

        os.environ.update(mine)
        faults.put_under_test()
        return work_on_ray(task)

    return work


def put_under_test() -> None:
    sweep.CHECKPOINT_INTERVAL = 0.0
    if os.environ.get("ODYSSEY_TEST_STUB"):
        engines.choose = lambda engine="auto", device="auto": StubEngine()  # type: ignore[misc]
        StubTrainer.train_epoch = recorded(poisoned(StubTrainer.train_epoch))  # type: ignore[method-assign]
    CpuTrainer.train_epoch = recorded(poisoned(CpuTrainer.train_epoch))  # type: ignore[method-assign]


def poisoned(train_epoch: Callable[..., Epoch]) -> Callable[..., Epoch]:
    """The same, but for what a certain trial does."""
    if "ODYSSEY_TEST_POISON" not in os.environ:
        return train_epoch
    seed, deed, epoch = os.environ["ODYSSEY_TEST_POISON"].split(" ")

    def wrapper(self: object, members: Sequence[Member], orders: Sequence[np.ndarray]) -> Epoch:
        if any(member.seed == int(seed) and member.epoch >= int(epoch) for member in members):
            if deed == "HANG":  # in machine code, where no handler of a signal runs on this thread
                signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
                ctypes.CDLL(None).sleep(100_000)
            if deed == "EXIT":
                os._exit(3)
            os.kill(os.getpid(), signal.Signals[deed])
        return train_epoch(self, members, orders)

    return wrapper


def recorded(train_epoch: Callable[..., Epoch]) -> Callable[..., Epoch]:
    """The same, with a line before and after: process, time, and the seeds of the members, which name the trials."""
    path = os.environ.get("ODYSSEY_TEST_LOG")
    if path is None:
        return train_epoch
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def wrapper(self: object, members: Sequence[Member], orders: Sequence[np.ndarray]) -> Epoch:
        seeds = ",".join(str(member.seed) for member in members)
        os.write(log, f"begin {os.getpid()} {time.monotonic()} {seeds}\n".encode())
        done = train_epoch(self, members, orders)
        os.write(log, f"end {os.getpid()} {time.monotonic()} {seeds}\n".encode())
        return done

    return wrapper


# The one who tests.


class Scene:
    """A study in a folder of its own, and the processes at work on it."""

    def __init__(self, runs: Path, settings: Sequence[str], stub: float | None = None):
        self.runs, self.log = runs, runs / "log"
        self._settings = [*settings, "paired=false"]  # the log names a trial by its seed
        self._stored = [word for word in settings if word.startswith("storage=")]
        self.storage = self._stored[0].removeprefix("storage=").strip("'") if self._stored else None
        self._environment = os.environ | {"ODYSSEY_TEST_LOG": str(self.log)}
        if stub:
            self._environment["ODYSSEY_TEST_STUB"] = str(stub)
        self.deaths: dict[int, float] = {}
        runs.mkdir(parents=True, exist_ok=True)

    def poison(self, study: Study, variant: str, number: int, deed: str, epoch: int = 0) -> None:
        """From now on a trial of the same plan is one that kills, or hangs, its process."""
        self._environment["ODYSSEY_TEST_POISON"] = f"{trial_seed(study.plan, variant, number)} {deed} {epoch}"

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        with open(self.runs / "said", "ab") as said:
            command = [sys.executable, "-m", "tests.faults", "act", *words]
            return subprocess.Popen(command, cwd=ROOT, env=self._environment, stdout=said, stderr=said)

    def sweep(self, *more: str) -> subprocess.Popen[bytes]:
        conf = ["--config-dir", str(ROOT / "tests" / "conf"), "task=echo", "study=s", f"runs={self.runs}"]
        return self.start("sweep", *conf, *self._settings, f"lease={LEASE}", *more)

    def worker(self) -> subprocess.Popen[bytes]:
        mine = [word for word in self._settings if word.startswith("population=")]
        return self.start("worker", "study=s", f"runs={self.runs}", "threads=1", f"lease={LEASE}", *mine, *self._stored)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        self.deaths[process.pid] = time.monotonic()

    def wait(self, workers: Sequence[subprocess.Popen[bytes]]) -> None:
        """Until they have all ended as they should."""
        assert [worker.wait(timeout=600) for worker in workers] == [0] * len(workers), self.said()

    def study(self) -> Study:
        return StudyReader.open(self.runs / "s", storage=self.storage)

    def said(self) -> str:
        return (self.runs / "said").read_text()

    def ended(self, study: Study) -> int:
        return sum(row[s] for row in study.counts().values() for s in ("finished", "diverged", "failed"))

    def check(self, whole: "Scene", n: int) -> None:
        """Exactly the planned trials, none twice, nothing trained by two at once, and the numbers of `whole`."""
        ours, theirs = load("s", self.runs, self.storage), load("s", whole.runs, whole.storage)
        assert len(ours) == n and set(ours.status) <= {"finished", "diverged"}, ours.status.value_counts()
        volatile = ["study", "train_seconds", "started", "finished"]
        pd.testing.assert_frame_equal(ours.drop(columns=volatile), theirs.drop(columns=volatile), check_exact=True)
        curves = load_curves("s", self.runs, self.storage)
        pd.testing.assert_frame_equal(curves, load_curves("s", whole.runs, whole.storage), check_exact=True)
        study = self.study()
        stored = [trial for trials in study.trials().values() for trial in trials]
        assert len(stored) == n and all(trial.state in ENDED for trial in stored)
        assert study.leases.peers() == []
        assert list((self.runs / "s" / "checkpoints").glob("*/*/*.npz")) == []
        overlaps = simultaneous(self.log, self.deaths)
        assert not overlaps, overlaps[:3]
        assert "Traceback" not in self.said() and "locked" not in self.said(), self.said()


def simultaneous(log: Path, deaths: dict[int, float]) -> list[tuple[str, ...]]:
    """Pairs of epochs of one trial by two processes at a time."""
    spans: dict[str, list[tuple[float, float, int]]] = {}
    begun: dict[int, tuple[float, str]] = {}
    for line in log.read_text().splitlines():
        what, pid, moment, seeds = line.split(" ")
        if what == "begin":
            begun[int(pid)] = float(moment), seeds
        else:
            start, _ = begun.pop(int(pid))
            for seed in seeds.split(","):
                spans.setdefault(seed, []).append((start, float(moment), int(pid)))
    for pid, (start, seeds) in begun.items():  # died in an epoch
        for seed in seeds.split(","):
            spans.setdefault(seed, []).append((start, deaths.get(pid, start), pid))
    found = []
    for seed, each in spans.items():
        each.sort()
        for (_, end, one), (start, _, other) in itertools.pairwise(each):
            if start < end and one != other:
                found.append((seed, str(one), str(other), f"{end - start:.3f} s"))
    return found


def died(log: Path) -> set[str]:
    """The processes that ended in an epoch."""
    under_way: set[str] = set()
    for line in log.read_text().splitlines():
        what, pid, *_ = line.split(" ")
        (under_way.add if what == "begin" else under_way.remove)(pid)
    return under_way


def settings(n: int, *more: str) -> list[str]:
    """A study of n short trials of two variants."""
    return [
        *("variants=[vanilla,no_forgetting]", f"trials={n // 2}", "epochs=60", "patience=60", "population=3"),
        *("task.n_sequences=240", "space.hidden_size.high=60", *more),
    ]


def undisturbed(runs: Path, n: int) -> Scene:
    scene = Scene(runs, settings(n))
    assert scene.sweep().wait() == 0, scene.said()
    return scene


def until(condition: Callable[[], bool], scene: Scene, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it takes too long; said so far: {scene.said()[-2000:]}"
        time.sleep(0.02)


def begin(scene: Scene, *more: str) -> Study:
    """The study, as a sweep that dies at once leaves it."""
    process = scene.sweep(*more)
    until(lambda: (scene.runs / "s" / "study.yaml").exists() and scene.log.exists(), scene)
    scene.kill(process)
    return scene.study()


def kills(whole: Scene, runs: Path, n: int, n_kills: int, n_workers: int = 4, storage: str | None = None) -> str:
    """SIGKILLs at random moments over the length of a study; each dead worker is replaced at once."""
    scene = Scene(runs, settings(n, *([f"storage='{storage}'"] if storage else [])))
    start = time.monotonic()
    study = begin(scene)
    workers = [scene.worker() for _ in range(n_workers)]
    latest = 1 - 15 / n  # thereafter all that is left is under way, and may end before a worker is killed
    for share in sorted(random.uniform(0, latest) for _ in range(n_kills - 1)):
        until(lambda share=share: scene.ended(study) >= share * n, scene)
        time.sleep(random.uniform(0, 0.5))
        k = random.randrange(n_workers)
        scene.kill(workers[k])
        workers[k] = scene.worker()
    assert scene.ended(study) < n, "the study ended before the last kill"
    scene.wait(workers)
    scene.check(whole, n)
    where = storage.partition(":")[0] if storage else "sqlite"
    return (
        f"{n_kills} SIGKILLs over {n} trials with {n_workers} workers on {where}: exactly {n} finished, none twice, "
        f"none by two at once, every curve as undisturbed ({time.monotonic() - start:.0f} s)"
    )


POISONABLE = ["population=16"]


def poison(whole: Scene, runs: Path, deed: str, epoch: int, n_workers: int, launcher: Sequence[str] = ()) -> str:
    """One trial of 18 kills whoever trains it. With one worker, which is the command, it is given again."""
    scene = Scene(runs, settings(18, *POISONABLE))
    scene.poison(whole.study(), "vanilla", 2, deed, epoch)
    codes = []
    while 0 not in codes:
        many = [*launcher, f"launcher.workers={n_workers}"] if n_workers > 1 else []
        codes.append(scene.sweep(*many).wait(timeout=600))
        assert len(codes) <= (1 if n_workers > 1 else 4), f"exit codes {codes}; said: {scene.said()}"
    ours, theirs = load("s", runs), load("s", whole.runs)
    failed = (ours.variant == "vanilla") & (ours.trial == 2)
    assert ours.status.tolist() == ["failed" if each else "finished" for each in failed], ours.status
    volatile = ["study", "train_seconds", "started", "finished", "error"]
    columns = [name for name in theirs.columns if name not in volatile]
    pd.testing.assert_frame_equal(ours.loc[~failed, columns], theirs.loc[~failed, columns], check_exact=True)
    curves = load_curves("s", whole.runs).query("not (variant == 'vanilla' and trial == 2)").reset_index(drop=True)
    pd.testing.assert_frame_equal(load_curves("s", runs), curves, check_exact=True)
    error = ours.loc[failed, "error"].item()
    n_deaths = len(died(scene.log))
    assert n_deaths == 3, f"{n_deaths} processes have died"
    return (
        f"1 of 18 trials does {deed} in epoch {epoch + 1}, {n_workers} workers: it failed (“{error}”), "
        f"the others are as undisturbed"
    )


def plans(runs: Path, rounds: int) -> str:
    """Two commands of one name and different settings, given at once."""
    for k in range(rounds):
        one, other = (Scene(runs / str(k), settings(4, f"epochs={epochs}"), stub=0.01) for epochs in (3, 4))
        processes = [one.sweep(), other.sweep()]
        codes = [process.wait(timeout=600) for process in processes]
        assert sorted(codes) == [0, 2], (codes, one.said())
        epochs = set(load("s", one.runs).epochs)
        assert epochs == {3 if codes[0] == 0 else 4} and "epochs: " in one.said(), one.said()
    return f"two plans of one name at once, {rounds} times: one was trained, the other told the difference"


def server(whole: Scene, runs: Path, n: int, postgres: Postgres, downtimes: Sequence[float]) -> str:
    """The server stopped as by a loss of power, and started again."""
    url = postgres.database(f"server{random.randrange(10**6)}")
    scene = Scene(runs, settings(n, f"storage='{url}'"))
    study = begin(scene)
    workers = [scene.worker() for _ in range(4)]
    for k, seconds in enumerate(downtimes):
        until(lambda k=k: scene.ended(study) >= n * (k + 0.5) / (len(downtimes) + 1), scene)
        postgres.stop()
        time.sleep(seconds)
        postgres.start()
    scene.wait(workers)
    assert "is back" in scene.said()
    scene.check(whole, n)
    times = ", ".join(f"{seconds:.0f} s" for seconds in downtimes)
    return f"the server stopped {len(downtimes)} times ({times}) with a lease of {LEASE:.0f} s: the same"


def throughput(runs: Path, n: int, n_workers: int = 8, storage: str | None = None) -> tuple[float, str]:
    """Share of the ideal rate at which workers end stub trials."""
    base = [*("variants=[vanilla,rnn]", f"trials={n // 2}", "epochs=1", "population=1"), "space.hidden_size.high=20"]
    scene = Scene(runs, [*base, *([f"storage='{storage}'"] if storage else [])], stub=STUB_SECONDS)
    begin(scene)
    workers = [scene.worker() for _ in range(n_workers)]
    scene.wait(workers)
    assert "locked" not in scene.said() and "Traceback" not in scene.said(), scene.said()
    assert len(load("s", runs, scene.storage).query("status == 'finished'")) == n
    # From when all workers are there until the first finds nothing more to do.
    rows = [line.split(" ") for line in scene.log.read_text().splitlines() if line.startswith("end")]
    ends = pd.DataFrame([(int(pid), float(moment)) for _, pid, moment, _ in rows], columns=["pid", "moment"])
    ends = ends[ends.pid.isin([worker.pid for worker in workers])]
    each = ends.groupby("pid").moment
    first, last = each.min().max(), each.max().min()
    ended = int(ends.moment.between(first, last).sum())
    share = ended * STUB_SECONDS / n_workers / (last - first)
    where = storage.partition(":")[0] if storage else "sqlite"
    return (
        share,
        f"{n_workers} workers, {n} trials of {STUB_SECONDS * 1e3:.0f} ms on {where}: {share:.1%} of the ideal rate",
    )


def resume(runs: Path, n: int) -> tuple[float, str]:
    """Seconds from the command to the first new trial, of a study of `n` ended trials in a folder of `throughput`."""
    base = ["variants=[vanilla,rnn]", f"trials={n // 2 + 1}", "epochs=1", "population=1", "space.hidden_size.high=20"]
    scene = Scene(runs, base, stub=STUB_SECONDS)
    before = scene.log.stat().st_size
    start = time.monotonic()
    process = scene.sweep()
    until(lambda: scene.log.stat().st_size > before, scene)
    seconds = time.monotonic() - start
    assert process.wait() == 0 and len(load("s", runs)) == n + 2
    return seconds, f"resuming a study of {n} ended trials: {seconds:.1f} s to the first new one"


@contextlib.contextmanager
def workplace() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="odyssey-faults-") as folder:
        yield Path(folder)


PARTS = ["kills", "poison", "plans", "server", "throughput", "resume", "flips"]


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--short", action="store_true", help="a tenth of it")
    asked = parser.parse_args()
    n, n_kills, n_stub = (40, 10, 540) if asked.short else (200, 100, 5400)
    missed = False
    downtimes = [1, 6, 2] if asked.short else [2, 10, 120]

    def say(text: str) -> None:
        print(text, flush=True)

    with workplace() as folder, Postgres() as postgres:
        if {"kills", "server"} & set(asked.what):
            whole = undisturbed(folder / "whole", n)
        if "kills" in asked.what:
            say(kills(whole, folder / "kills", n, n_kills))
            say(kills(whole, folder / "kills-postgresql", n, n_kills, storage=postgres.database("kills")))
        if "poison" in asked.what:
            calm = Scene(folder / "calm", settings(18, *POISONABLE))
            calm.wait([calm.sweep()])
            deeds = [("SIGSEGV", 0, 1), ("SIGKILL", 20, 2), ("EXIT", 5, 2)]
            for k, (deed, epoch, n_workers) in enumerate(deeds):
                say(poison(calm, folder / f"poison-{k}", deed, epoch, n_workers))
        if "plans" in asked.what:
            say(plans(folder / "plans", 2 if asked.short else 8))
        if "server" in asked.what:
            say(server(whole, folder / "server", n, postgres, downtimes))
        if "throughput" in asked.what:
            for storage, bar in ((postgres.database("throughput"), 0.9), (None, 0.6)):
                share, text = throughput(folder / f"throughput-{bar}", n_stub, storage=storage)
                say(f"{text} (to reach: {bar:.0%})")
                missed |= share < bar
        if "resume" in asked.what:
            if "throughput" not in asked.what:
                throughput(folder / "throughput-0.6", n_stub)
            seconds, text = resume(folder / "throughput-0.6", n_stub)
            say(f"{text} (to reach: under 10 s)")
            missed |= seconds >= 10
        if "flips" in asked.what:
            n_flips = 40 if asked.short else 400
            say(fault_files.checkpoints(folder / "flips", n_flips))
            say(fault_files.checkpoints(folder / "flips-unsealed", n_flips, save=fault_files.unsealed))
            say(fault_files.curves(folder / "flips-curves", n_flips))
            say(fault_corpora.corpora(n_flips))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.argv[1:2] == ["act"]:
        sys.exit(act(sys.argv[2:]))
    if sys.argv[1:2] == ["work"]:
        put_under_test()
        sys.argv[1:2] = []
        runpy.run_module("search.run.launchers", run_name="__main__")
    main()
