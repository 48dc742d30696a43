"""``launcher=local``: workers on this machine, one a GPU or each with a share of the cores."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from search import engines
from search.errors import FAILED, INTERRUPTED, USER_ERROR, expect_whole
from search.run.launchers import RESTARTS, Start
from search.run.launchers import job as jobs
from search.run.launchers.job import Job

# Exit codes of a worker that had its reasons: no work left, an error, bad input, having been told to end.
_REASONED = (0, FAILED, USER_ERROR, INTERRUPTED)


def n_workers(settings: Mapping[str, Any], engine: str) -> int:
    """How many workers there will be: as asked for, or one a GPU, or one with all cores."""
    asked = settings.get("workers")
    if asked is None:
        return max(1, len(_gpus())) if engine == "cuda" else 1
    expect_whole("launcher.workers", asked, 1, ", or null")
    return int(asked)


class LocalWorkers:
    """Processes; see `search.run.launchers.Workers`."""

    stopped, stopping = "the workers save and leave", True

    def __init__(self, starts: list[Callable[[], subprocess.Popen[bytes]]], logs: list[Path]):
        self._starts, self._logs = starts, logs
        self._processes = [begin() for begin in starts]
        self._codes: dict[int, int] = {}
        self._restarts = [0] * len(starts)
        self.described = f"{len(starts)} workers on this machine, which write to {logs[0].parent}/local-*.log"

    def alive(self) -> int:
        codes = {k: process.poll() for k, process in enumerate(self._processes)}
        self._ended = {k: code for k, code in codes.items() if code is not None}
        return len(self._processes) - len(self._ended)

    def last_words(self) -> list[str]:
        new = {k: code for k, code in self._ended.items() if code and self._codes.get(k) != code}
        self._codes |= new
        return [f"worker {k} ended with code {code}: {_last_line(self._logs[k])}" for k, code in new.items()]

    def revive(self) -> dict[int, str]:
        causes = {}
        for k, code in self._ended.items():
            if code not in _REASONED and self._restarts[k] < RESTARTS:
                causes[self._processes[k].pid] = _cause(code)
                self._processes[k] = self._starts[k]()
                self._restarts[k] += 1
                self._codes.pop(k, None)
        return causes

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()


def ready(settings: Mapping[str, Any]) -> Start:
    n_workers(settings, "cpu")  # is as it should be, whatever the engine
    return partial(_start, settings)


def _start(settings: Mapping[str, Any], job: Job) -> LocalWorkers:
    engine = engines.choose(job.engine, job.device).name
    n = n_workers(settings, engine)
    gpus = _gpus() if engine == "cuda" else []
    share = replace(job, threads=job.threads or max(1, engines.n_cores() // n))
    folder = Path(job.folder) / "workers"
    folder.mkdir(parents=True, exist_ok=True)
    logs = [folder / f"local-{k}.log" for k in range(n)]

    def begin(k: int) -> subprocess.Popen[bytes]:
        environment = os.environ | ({"CUDA_VISIBLE_DEVICES": gpus[k % len(gpus)]} if gpus else {})
        with open(logs[k], "a") as file:
            return subprocess.Popen(jobs.command(share), stdout=file, stderr=file, env=environment)

    return LocalWorkers([partial(begin, k) for k in range(n)], logs)


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name}, which the kernel sends where memory runs out" if code == -signal.SIGKILL else name


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return visible or [str(k) for k in range(torch.cuda.device_count())]


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
