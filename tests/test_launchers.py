"""Launchers, each on the real thing: processes, submitit's local executor, a Ray cluster of two nodes.

What every launcher keeps (`search.run.launchers.Workers`) is a contract that runs for each of `LAUNCHERS`; what is a
launcher's own comes after it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from analysis import load
from search import engines
from search.errors import UserError
from search.run.launchers import LAUNCHERS, Job, Start, Workers, ready
from search.run.launchers.local import n_workers
from search.study.claims import Peer
from search.study.reader import StudyReader
from search.study.study import Study
from search.tasks import Task
from tests import echo, faults
from tests.faults import Scene, until
from tests.test_study import plan, same
from tests.test_workers import run

ROOT = Path(__file__).parents[1]
STUDY = ["variants=[vanilla,no_forgetting]", "trials=6", "epochs=80", "patience=80", "task.n_sequences=240"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    scene = Scene(tmp_path_factory.mktemp("whole"), STUDY)
    assert scene.sweep().wait(600) == 0, scene.said()
    return scene


def launched(scene: Scene, *more: str) -> subprocess.Popen[bytes]:
    """A sweep that launches workers, outside the harness that records epochs."""
    conf = ["--config-dir", str(ROOT / "tests" / "conf"), "task=echo", "study=s", f"runs={scene.runs}", "paired=false"]
    with open(scene.runs / "said", "ab") as said:
        command = [sys.executable, "-m", "search", "sweep", *conf, *STUDY, "population=2", "lease=4", *more]
        return subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said)


def peers(scene: Scene, n: int) -> list[Peer]:
    """The workers, once there are `n` that train."""
    found: list[Peer] = []

    def there() -> bool:
        if not (scene.runs / "s" / "study.yaml").exists():
            return False
        try:
            found[:] = [peer for peer in scene.study().leases.peers() if peer.held]
        except UserError:  # it is being made
            return False
        return len(found) >= n

    until(there, scene)
    return found


def complete(scene: Scene, process: subprocess.Popen[bytes], whole: Scene) -> None:
    assert process.wait(600) == 0, scene.said()
    same(load("s", scene.runs), load("s", whole.runs), exact=True)
    assert "Traceback" not in scene.said(), scene.said()


ECHO = {"task": {"name": "echo", "module": "tests.echo"}}


@pytest.fixture(params=LAUNCHERS)
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Two workers of each launcher in turn, with the settings of its file."""
    settings = yaml.safe_load((ROOT / "configs" / "launcher" / f"{request.param}.yaml").read_text()) | {"workers": 2}
    if request.param == "slurm":
        pytest.importorskip("submitit")
        settings |= {"cluster": "local", "mem_gb": 1}
    if request.param == "ray":
        settings |= {"address": request.getfixturevalue("cluster").address, "num_cpus": 0.5}
    yield ready(settings)
    if request.param == "ray":
        import ray

        ray.shutdown()


@pytest.fixture(scope="module")
def task() -> Task:
    return echo.load()


def job(folder: Path) -> Job:
    return Job(str(folder), str(ROOT), "cpu", "cpu", 2, 1, 4.0, 600.0, None)


def alone(folder: Path, task: Task, /, **changes: Any) -> pd.DataFrame:
    """The trials of a study that no launcher had to do with."""
    run(folder, task, engine=engines.choose("cpu", "cpu"), **changes)
    return load(folder)


def ended(workers: Workers) -> list[str]:
    """What the workers said until the last of them had ended; those that are the launcher's to start again were."""
    said: list[str] = []
    for _ in range(6000):
        left = workers.alive()
        said += workers.last_words()
        if not left and not workers.revive():
            return said
        time.sleep(0.1)
    raise AssertionError(f"workers without end: {said}")


@pytest.mark.slow
def test_workers_do_the_job_and_leave_without_a_word(start: Start, task: Task, tmp_path: Path) -> None:
    Study.create(tmp_path / "s", plan(task, **ECHO)).close()
    workers = start(job(tmp_path / "s"))
    assert workers.described and "\n" not in workers.described + workers.stopped
    assert ended(workers) == [] and workers.alive() == 0
    same(load(tmp_path / "s"), alone(tmp_path / "alone" / "s", task, **ECHO), exact=True)


@pytest.mark.slow
def test_a_worker_that_has_its_reasons_says_them_once_and_is_not_started_again(
    start: Start, task: Task, tmp_path: Path
) -> None:
    Study.create(tmp_path / "s", plan(task, **ECHO, data_hash="0" * 64)).close()
    workers = start(job(tmp_path / "s"))
    said = ended(workers)
    assert len(said) == 2 and all(task.hash in line and "\n" not in line for line in said), said
    assert workers.last_words() == [] and workers.revive() == {}
    assert StudyReader.open(tmp_path / "s").counts()["rnn"]["waiting"] == 3


@pytest.mark.slow
def test_workers_that_are_told_to_stop_save_and_leave_where_that_is_the_launchers_to_do(
    start: Start, task: Task, tmp_path: Path
) -> None:
    long = {**ECHO, "epochs": 400, "patience": 400}
    Study.create(tmp_path / "s", plan(task, **long)).close()
    workers = start(job(tmp_path / "s"))
    study = StudyReader.open(tmp_path / "s")
    for _ in range(600):
        if len([peer for peer in study.leases.peers() if peer.held]) == 2:
            break
        time.sleep(0.1)
    workers.stop()
    said = ended(workers)
    finished = study.counts()
    done = sum(of["finished"] for of in finished.values())
    assert done == 6 if not workers.stopping else done < 6, said
    assert study.leases.peers() == [] and sum(of["running"] for of in finished.values()) == 0
    if done < 6:
        assert ended(start(job(tmp_path / "s"))) == []
    same(load(tmp_path / "s"), alone(tmp_path / "alone" / "s", task, **long), exact=True)


@pytest.mark.slow
def test_local_workers_and_the_death_of_one(whole: Scene, tmp_path: Path) -> None:
    scene = Scene(tmp_path, STUDY)
    process = launched(scene, "launcher.workers=2")
    os.kill(peers(scene, 2)[0].pid, signal.SIGKILL)
    complete(scene, process, whole)
    assert "ended with code -9" in scene.said()


@pytest.mark.slow
def test_interrupting_a_sweep_interrupts_its_local_workers(whole: Scene, tmp_path: Path) -> None:
    scene = Scene(tmp_path, STUDY)
    process = launched(scene, "launcher.workers=2")
    pids = [peer.pid for peer in peers(scene, 2)]
    until(lambda: list((tmp_path / "s" / "curves").glob("*/*/*.parquet")) != [], scene)  # they have trained
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130 and "the same command goes on" in scene.said()
    assert scene.study().leases.peers() == [] and not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert list((tmp_path / "s" / "checkpoints").glob("*/*/*.npz"))
    complete(scene, launched(scene, "launcher.workers=2"), whole)


@pytest.mark.slow
def test_slurm_workers_come_back_when_they_are_pre_empted(whole: Scene, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    scene = Scene(tmp_path, STUDY)
    process = launched(scene, "launcher=slurm", "launcher.cluster=local", "launcher.workers=2", "launcher.mem_gb=1")
    first = peers(scene, 2)
    os.kill(first[0].pid, signal.SIGUSR2)  # submitit's notice of the end
    until(lambda: {p.worker for p in scene.study().leases.peers()} - {p.worker for p in first} != set(), scene)
    complete(scene, process, whole)
    logs = "".join(path.read_text() for path in (tmp_path / "s" / "slurm").rglob("*.err"))
    assert "requeue" in logs.lower()


def test_what_slurm_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As submitit writes it, for a scheduler that only takes note."""
    pytest.importorskip("submitit")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, says in (("sbatch", "Submitted batch job 17"), ("srun", ""), ("sacct", ""), ("scontrol", "")):
        (programs / name).write_text(f"#!/bin/sh\necho {says}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    settings = yaml.safe_load((ROOT / "configs" / "launcher" / "slurm.yaml").read_text())
    settings |= {"workers": 8, "gpus_per_node": 1, "slurm_partition": "gpu", "slurm_account": "mine"}
    workers = ready(settings)(Job(str(tmp_path / "s"), str(tmp_path), "cuda", "cuda", 1, 1, 60.0, 600.0, None))
    assert "8 workers, job 17" in workers.described and "scancel 17" in workers.stopped
    asked = (tmp_path / "s" / "slurm" / "17_submission.sh").read_text()
    for line in ("--array=0-7", "--partition=gpu", "--account=mine", "--cpus-per-task=4", "--time=240"):
        assert f"#SBATCH {line}" in asked
    assert "#SBATCH --signal=USR2@90" in asked


@pytest.fixture
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield running
    running.shutdown()


@pytest.mark.slow
def test_ray_workers_on_two_nodes_and_the_death_of_one(whole: Scene, tmp_path: Path, cluster: Any) -> None:
    second = cluster.add_node(num_cpus=1)
    scene = Scene(tmp_path, STUDY)
    process = launched(scene, "launcher=ray", f"launcher.address={cluster.address}")
    peers(scene, 2)
    cluster.remove_node(second, allow_graceful=False)
    complete(scene, process, whole)
    assert "2 workers on Ray" in scene.said() and "is dead" in scene.said()


@pytest.mark.slow
def test_a_trial_that_kills_its_process_fails_on_ray_too(tmp_path: Path, cluster: Any) -> None:
    calm = Scene(tmp_path / "calm", faults.settings(18, *faults.POISONABLE))
    calm.wait([calm.sweep()])
    launcher = ["launcher=ray", f"launcher.address={cluster.address}", "launcher.num_cpus=0.5"]
    said = faults.poison(calm, tmp_path / "poisoned", "SIGSEGV", 5, n_workers=2, launcher=launcher)
    assert "died 3 times in a row, the last time with this trial alone (segmentation fault)" in said


SLEEPER = """
import os, sys, time
from search.run.launchers import Job, ray, ready

ray.RESTARTS = 1
ray.work_on_ray = lambda job: time.sleep(1000)
settings = {"name": "ray", "address": sys.argv[1], "num_cpus": 1, "num_gpus": 0, "workers": 1}
workers = ready(settings)(Job("s", os.getcwd(), "cpu", "cpu", 1, 1, 60.0, 600.0, None))
while workers.alive():
    time.sleep(0.1)
print(*workers.last_words())
"""


@pytest.mark.slow
def test_ray_does_not_start_a_worker_without_end_for_which_there_is_no_memory() -> None:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    scarce = {"memory_usage_threshold": 0.001, "memory_monitor_refresh_ms": 100}
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": scarce}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    clean = {name: value for name, value in os.environ.items() if name != "RAY_task_oom_retries"}
    try:
        command = [sys.executable, "-c", SLEEPER, cluster.address]
        done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=120)
    finally:
        cluster.shutdown()
    assert done.returncode == 0, done.stderr
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("worker 0: ")]
    assert "low on memory" in said


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"name": "pbs"}, "launcher=pbs: expected one of local, ray, slurm"),
        ({"name": "local", "workers": 0}, "launcher.workers=0: expected a whole number of at least 1"),
        ({"name": "slurm", "cluster": "pbs", "workers": 1}, "launcher.cluster=pbs: expected one of slurm, local"),
        ({"name": "slurm", "cluster": "local", "workers": "x"}, "launcher.workers=x: expected a whole number"),
        ({"name": "slurm", "cluster": "local", "workers": 1, "requeues": 1, "colour": 1}, "launcher=slurm: .*colour"),
        ({"name": "slurm", "cluster": "slurm", "workers": 1, "requeues": 1}, "launcher=slurm: .*"),
    ],
)
def test_bad_settings_of_a_launcher_are_named(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        ready(settings)
    assert "\n" not in str(caught.value)


def test_there_is_one_local_worker_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,5")
    assert n_workers({"workers": None}, "cuda") == 3
    assert n_workers({"workers": None}, "cpu") == 1
    assert n_workers({"workers": 2}, "cuda") == 2
