"""``launcher=slurm``: workers as a job array, by submitit, which puts a job that is pre-empted back into the queue."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.errors import UserError, expect, expect_whole
from search.run.launchers import Start
from search.run.launchers.job import Job, work

if TYPE_CHECKING:
    import submitit

CLUSTERS = ("slurm", "local")


class Requeued:
    """A worker as a job. When SLURM gives notice the worker saves and leaves, and submitit requeues what this says."""

    def __init__(self, job: Job):
        self.job = job

    def __call__(self) -> int:
        return work(self.job)

    def __submitit_checkpoint__(self) -> "submitit.helpers.DelayedSubmission":
        import submitit

        return submitit.helpers.DelayedSubmission(self)


class SlurmWorkers:
    """Jobs of submitit; see `search.run.launchers.Workers`."""

    stopping = False

    def __init__(self, jobs: "list[submitit.Job[int]]", folder: Path):
        self._jobs = jobs
        self._told: set[str] = set()
        array = jobs[0].job_id.partition("_")[0]
        self.described = f"{len(jobs)} workers, job {array}, which write to {folder}"
        self.stopped = f"the jobs go on without this command; scancel {array} ends them"

    def alive(self) -> int:
        return sum(not job.done() for job in self._jobs)

    def last_words(self) -> list[str]:
        words = []
        for job in self._jobs:
            if job.job_id not in self._told and job.done():
                self._told.add(job.job_id)
                error = job.exception()
                if error is not None:
                    words.append(f"job {job.job_id}: {_said(str(error))} (see {job.paths.stderr})")
        return words

    def revive(self) -> dict[int, str]:
        return {}

    def stop(self) -> None:
        pass  # that the terminal has gone is no reason to give up nodes that were waited for


def ready(settings: Mapping[str, Any]) -> Start:
    options = dict(settings)
    cluster, workers = options.pop("cluster"), options.pop("workers")
    expect(cluster in CLUSTERS, "launcher.cluster", cluster, f"one of {', '.join(CLUSTERS)}")
    expect_whole("launcher.workers", workers, 1)
    requeues = options.pop("requeues")
    asked = partial(_executor, cluster, requeues, {key: value for key, value in options.items() if value is not None})
    asked(Path())

    def start(job: Job) -> SlurmWorkers:
        folder = Path(job.folder) / "slurm"
        executor = asked(folder)
        try:
            with executor.batch():
                jobs = [executor.submit(Requeued(job)) for _ in range(workers)]
        except RuntimeError as error:
            raise _refused(error) from error
        return SlurmWorkers(jobs, folder)

    return start


def _executor(cluster: str, requeues: int, options: Mapping[str, Any], folder: Path) -> "submitit.AutoExecutor":
    """What submits jobs, and writes to a folder when it does."""
    try:
        import submitit
    except ImportError:
        raise UserError("launcher=slurm: expected the package submitit; pip install 'odyssey[slurm]'") from None
    try:
        # An array of workers may wait in the queue for days, each job with its time limit; the study goes on from
        # its checkpoints, so that a job may be requeued as often as need be.
        executor = submitit.AutoExecutor(folder, cluster=cluster, slurm_max_num_timeout=requeues)
        executor.update_parameters(name="odyssey", **options)
    except (NameError, TypeError, ValueError, RuntimeError) as error:
        raise _refused(error) from error
    return executor


def _said(text: str) -> str:
    """The line that matters of what submitit says of a job: the last of the traceback, which stands between rules."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    rules = [k for k, line in enumerate(lines) if not line.strip("-")]
    return lines[rules[-1] - 1] if len(rules) > 1 else lines[0]


def _refused(error: Exception) -> UserError:
    return UserError(f"launcher=slurm: {' '.join(str(error).split())}")
