"""``launcher=local``: workers on this machine, one a GPU or each with a share of the cores."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from search import engines
from search.errors import expect_whole
from search.launchers import job as jobs
from search.launchers.job import Job


def n_workers(settings: Mapping[str, Any], engine: str) -> int:
    """How many workers there will be: as asked for, or one a GPU, or one with all cores."""
    asked = settings.get("workers")
    if asked is None:
        return max(1, len(_gpus())) if engine == "cuda" else 1
    expect_whole("launcher.workers", asked, 1, ", or null")
    return int(asked)


class LocalWorkers:
    """Processes; see `search.launchers.Workers`."""

    stopped, stopping = "the workers save and leave", True

    def __init__(self, processes: list[subprocess.Popen[bytes]], logs: list[Path]):
        self._processes, self._logs = processes, logs
        self._told: set[int] = set()
        self.described = f"{len(processes)} workers on this machine, which write to {logs[0].parent}/local-*.log"

    def alive(self) -> int:
        return sum(process.poll() is None for process in self._processes)

    def last_words(self) -> list[str]:
        codes = {k: process.poll() for k, process in enumerate(self._processes)}
        new = {k: code for k, code in codes.items() if code and k not in self._told}
        self._told |= set(new)
        return [f"worker {k} ended with code {code}: {_last_line(self._logs[k])}" for k, code in new.items()]

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()


def start(job: Job, settings: Mapping[str, Any]) -> LocalWorkers:
    engine = engines.choose(job.engine, job.device).name
    n = n_workers(settings, engine)
    gpus = _gpus() if engine == "cuda" else []
    share = replace(job, threads=job.threads or max(1, engines.n_cores() // n))
    folder = Path(job.folder) / "workers"
    folder.mkdir(parents=True, exist_ok=True)
    logs = [folder / f"local-{k}.log" for k in range(n)]
    processes = []
    for k, log in enumerate(logs):
        environment = os.environ | ({"CUDA_VISIBLE_DEVICES": gpus[k % len(gpus)]} if gpus else {})
        with open(log, "a") as file:
            processes.append(subprocess.Popen(jobs.command(share), stdout=file, stderr=file, env=environment))
    return LocalWorkers(processes, logs)


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return visible or [str(k) for k in range(torch.cuda.device_count())]


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
