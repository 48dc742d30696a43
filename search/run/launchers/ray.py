"""``launcher=ray``: workers as tasks of a Ray cluster, which starts those of a dead node again on another."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from search.errors import UserError, expect, expect_whole
from search.run.launchers import RESTARTS, Start
from search.run.launchers.job import Job, work

if TYPE_CHECKING:
    import ray


class RayWorkers:
    """Tasks of Ray; see `search.run.launchers.Workers`."""

    stopped, stopping = "the workers save and leave", True

    def __init__(self, tasks: list[ray.ObjectRef[int]]):
        self._tasks = tasks
        self._told: set[int] = set()
        self.described = f"{len(tasks)} workers on Ray"

    def alive(self) -> int:
        import ray

        return len(ray.wait(self._tasks, num_returns=len(self._tasks), timeout=0)[1])

    def last_words(self) -> list[str]:
        import ray

        words = []
        ready, _ = ray.wait(self._tasks, num_returns=len(self._tasks), timeout=0)
        for k, task in enumerate(self._tasks):
            if task in ready and k not in self._told:
                self._told.add(k)
                try:
                    ray.get(task)
                except ray.exceptions.RayTaskError as error:  # the worker's
                    words.append(f"worker {k}: {str(error).strip().splitlines()[-1]}")
                except Exception as error:  # Ray's own, which ends in advice
                    words.append(f"worker {k}: {str(error).strip().splitlines()[0]}")
        return words

    def revive(self) -> dict[int, str]:
        return {}  # Ray has done so

    def stop(self) -> None:
        import ray

        for task in self._tasks:
            ray.cancel(task, force=False)  # reaches the worker as SIGINT


def work_on_ray(job: Job) -> int:
    """What a task of Ray does: the work of `search.run.launchers.job.work`, which see."""
    faulthandler.disable()  # Ray's tells its own log of a fatal signal; `search.base.locks` is to tell other workers
    return work(job)


def ready(settings: Mapping[str, Any]) -> Start:
    # Those that Ray itself ends for want of memory it would start again without end. It reads this when it is loaded.
    os.environ.setdefault("RAY_task_oom_retries", str(RESTARTS))
    try:
        import ray
    except ImportError:
        raise UserError("launcher=ray: expected the package ray; pip install 'odyssey[ray]'") from None
    if not ray.is_initialized():
        try:
            ray.init(address=settings["address"], log_to_driver=False, include_dashboard=False)
        except ConnectionError as error:
            raise UserError(f"launcher.address={settings['address']}: expected a Ray cluster ({error})") from error
    cpus, gpus = settings["num_cpus"], settings["num_gpus"]
    for key in ("num_cpus", "num_gpus"):
        number = isinstance(settings[key], int | float) and not isinstance(settings[key], bool) and settings[key] >= 0
        expect(number, f"launcher.{key}", settings[key], "a number of at least 0")
    there = ray.cluster_resources()
    room = [int(there.get(kind, 0) // each) for kind, each in (("CPU", cpus), ("GPU", gpus)) if each]
    workers = settings["workers"]
    if workers is None:
        expect(bool(room) and min(room) >= 1, "launcher.workers", workers, f"room for one on the cluster, {there}")
        workers = min(room)
    expect_whole("launcher.workers", workers, 1, ", or null")

    def start(job: Job) -> RayWorkers:
        share = replace(job, threads=job.threads or max(1, int(cpus)))
        # A worker that dies, or its node, is started again; one that raises has its reasons.
        path = os.pathsep.join(filter(None, [job.directory, os.environ.get("PYTHONPATH")]))
        environment = {"env_vars": {"PYTHONPATH": path}}
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RESTARTS, runtime_env=environment)(work_on_ray)
        return RayWorkers([task.remote(share) for _ in range(workers)])

    return start
