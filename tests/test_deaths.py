"""A trial that kills whoever trains it, or hangs: it fails in the end, and the others are trained as if without it."""

import os
import signal
import sys
from pathlib import Path

import pytest

from analysis import load
from search.base.locks import LastWords, Lock, is_free, last_words
from search.errors import UserError
from search.study.leases import Leases
from search.study.study import Study
from search.study.sweep import HUNG
from search.tasks import Task
from tests import faults
from tests.faults import Scene
from tests.test_study import plan

WORK = "import os, sys; from search.base.locks import Lock; from pathlib import Path; "


class Simulated:
    """A worker of nothing but the queue: it has up to `population` trials, and ends one at a time or dies of poison."""

    def __init__(self, study: Study, name: str, poison: int, population: int):
        self.study, self.leases, self.name, self.poison, self.population = study, study.leases, name, poison, population
        self.leases.join(name, "host", "boot", 1, "device")
        self.outcomes: list[int] = []
        self.widths: list[int] = []

    def step(self) -> bool:
        """Whether it lives."""
        outcomes = [self.study.failure(self.study.key(claim), UserError("ended")) for claim in self.outcomes]
        claims, _ = self.leases.exchange(self.name, outcomes, self.population + 1 if not self.widths else 2)
        self.outcomes = [claim for claim in claims if claim.failed]
        begun = [claim for claim in claims if not claim.failed][: self.population]
        if any(claim.alone for claim in begun):
            assert len(begun) == 1, "it is not alone"
        self.widths.append(len(begun))
        if self.poison in [claim.trial_id for claim in begun]:
            (peer,) = [peer for peer in self.leases.peers() if peer.worker == self.name]
            on_hands = frozenset(claim.trial_id for claim in begun)
            assert self.leases.dismiss(self.name, peer.beat, LastWords(on_hands, "bus error"))
            return False
        self.outcomes += begun[:1]
        return True


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2])
@pytest.mark.parametrize("place", [0, 9, 16, 17])
def test_one_poison_among_eighteen_costs_three_workers_and_nobody_else(
    echo: Task, tmp_path: Path, n_workers: int, place: int
) -> None:
    study = Study.create(tmp_path / "s", plan(echo, trials=9))
    poison = place + 1  # trial ids follow the places
    workers = [Simulated(study, f"w{k}", poison, 16) for k in range(n_workers)]
    deaths = 0
    for _ in range(200):
        for k, each in enumerate(workers):
            if not each.step():
                deaths += 1
                workers[k] = Simulated(study, f"w{k}-{deaths}", poison, 16)
    assert deaths == 3
    assert sum(row["failed"] for row in study.counts().values()) == 18, "all have ended, and are recorded"
    assert study.leases.exchange(workers[0].name)[1] == 0


def claims_after(deaths: int, leases: Leases, died: LastWords, want: int) -> list[int]:
    for k in range(deaths):
        leases.join(f"v{k}", "host", "boot", 1, "device")
        leases.exchange(f"v{k}", want=6)
        assert leases.dismiss(f"v{k}", 1, died)
    leases.join("w", "host", "boot", 1, "device")
    return [claim.trial_id for claim in leases.exchange("w", want=want)[0]]


def test_what_was_not_on_the_hands_of_the_dead_is_not_under_suspicion(
    echo: Task, tmp_path: Path, url: str | None
) -> None:
    leases = Study.create(tmp_path / "s", plan(echo, storage=url)).leases
    assert claims_after(2, leases, LastWords(frozenset([1, 2])), want=6) == [3, 4, 5, 6]
    leases.join("w2", "host", "boot", 1, "device")
    for _ in range(2):
        (alone,) = leases.exchange("w2", want=6)[0]
        assert alone.trial_id == 1 and alone.alone and not alone.failed


def test_where_it_is_not_known_all_that_a_dead_worker_held_are_under_suspicion(
    echo: Task, tmp_path: Path, url: str | None
) -> None:
    leases = Study.create(tmp_path / "s", plan(echo, storage=url)).leases
    assert claims_after(2, leases, LastWords(), want=6) == [1]


def test_a_trial_that_gets_further_from_death_to_death_is_not_under_suspicion(
    echo: Task, tmp_path: Path, url: str | None
) -> None:
    """As one does whose workers are killed from outside."""
    leases = Study.create(tmp_path / "s", plan(echo, storage=url)).leases
    for epoch in range(1, 6):
        leases.join("w", "host", "boot", 1, "device")
        claims, _ = leases.exchange("w", want=6)
        assert [claim.deaths for claim in claims] == [min(epoch - 1, 1)] * 6
        leases.exchange("w", saved=dict.fromkeys(range(1, 7), epoch))
        (peer,) = leases.peers()
        assert leases.dismiss("w", peer.beat, LastWords())


def test_a_checkpoint_that_is_no_further_than_the_last_clears_nobody(echo: Task, tmp_path: Path) -> None:
    leases = Study.create(tmp_path / "s", plan(echo)).leases
    for deaths in range(2):
        leases.join("w", "host", "boot", 1, "device")
        (first, *_), _ = leases.exchange("w", want=1)
        assert first.deaths == deaths
        leases.exchange("w", saved={first.trial_id: 5 if deaths == 0 else 4})
        (peer,) = leases.peers()
        assert leases.dismiss("w", peer.beat, LastWords())
    for name in ("w", "v"):
        leases.join(name, "host", "boot", 1, "device")
        claims, _ = leases.exchange(name, want=6)
    assert [claim.trial_id for claim in claims] == [1] and claims[0].alone


def test_leaving_counts_as_no_death_unless_it_is_said(echo: Task, tmp_path: Path, url: str | None) -> None:
    leases = Study.create(tmp_path / "s", plan(echo, storage=url)).leases
    for died, expected in ((None, 0), (LastWords(frozenset([1]), "no progress"), 0), (None, 1)):
        leases.join("w", "host", "boot", 1, "device")
        (first, second), _ = leases.exchange("w", want=2)
        assert (first.deaths, second.deaths) == (expected, 0)
        leases.leave("w", died)


def test_the_cause_of_a_death_may_be_told_before_and_after_it_was_counted(
    echo: Task, tmp_path: Path, url: str | None
) -> None:
    leases = Study.create(tmp_path / "s", plan(echo, storage=url)).leases
    leases.join("host-7-abc", "host", "boot", 7, "device")
    leases.exchange("host-7-abc", want=1)
    assert not leases.explain("host", 7, "SIGKILL"), "it is not counted yet"
    leases.dismiss("host-7-abc", 1, LastWords())
    assert leases.explain("host", 7, "SIGKILL") and leases.explain("host", 8, "SIGSEGV")
    leases.join("w", "host", "boot", 1, "device")
    assert leases.exchange("w", want=1)[0][0].cause == "SIGKILL"


# Lock files.


def test_a_lock_file_tells_what_its_worker_died_of_and_with_what(tmp_path: Path) -> None:
    path = tmp_path / "w.lock"
    work = f"lock = Lock(Path({str(path)!r})); lock.hold([12, 3, 4]); lock.hold([12, 3])"
    for deed, cause in ((f"os.kill(os.getpid(), {signal.SIGSEGV})", "segmentation fault"), ("os._exit(3)", None)):
        os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", f"{WORK}{work}; {deed}"])
        assert is_free(path) and last_words(path) == LastWords(frozenset([3, 12]), cause)


def test_a_lock_file_without_a_word_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.lock").touch()
    (tmp_path / "torn.lock").write_text("12 3")
    for name in ("empty.lock", "torn.lock", "absent.lock"):
        assert last_words(tmp_path / name) == LastWords()
    assert not is_free(tmp_path / "absent.lock"), "nothing is known"


def test_a_living_worker_is_seen_to_live(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "w.lock")
    assert not is_free(lock.path)
    lock.release()
    assert not lock.path.exists()


def test_a_lock_is_let_go_in_a_folder_that_has_become_read_only(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        try:
            os.chdir(tmp_path)
            if os.geteuid() == 0:  # who may write everywhere
                os.chown(tmp_path, 54321, 54321)
                os.setuid(54321)
            lock = Lock(Path("w.lock"))
            os.chmod(".", 0o500)
            lock.release()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert is_free(tmp_path / "w.lock")


# Processes.


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    scene = Scene(tmp_path_factory.mktemp("calm"), faults.settings(18, *faults.POISONABLE))
    scene.wait([scene.sweep()])
    return scene


@pytest.mark.slow
@pytest.mark.parametrize(
    "deed, epoch, n_workers, cause",
    [("SIGSEGV", 0, 1, "segmentation fault"), ("SIGKILL", 20, 2, "SIGKILL"), ("EXIT", 5, 2, "exit code 3")],
)
def test_a_trial_that_kills_its_process_fails_and_the_others_are_as_without_it(
    calm: Scene, tmp_path: Path, deed: str, epoch: int, n_workers: int, cause: str
) -> None:
    said = faults.poison(calm, tmp_path, deed, epoch, n_workers)
    assert f"died 3 times in a row, the last time with this trial alone ({cause}" in said


STUB = ["variants=[vanilla]", "trials=4", "epochs=3", "population=2", "paired=false"]


def hanging(runs: Path, *more: str) -> Scene:
    whole = Scene(runs / "whole", STUB, stub=0.01)
    whole.wait([whole.sweep()])
    scene = Scene(runs / "hanging", [*STUB, *more], stub=0.01)
    scene.poison(whole.study(), "vanilla", 1, "HANG")
    return scene


@pytest.mark.slow
def test_a_trial_that_hangs_has_a_limit(tmp_path: Path) -> None:
    scene = hanging(tmp_path, "trial_timeout=3")
    codes = [scene.sweep().wait(timeout=120) for _ in range(4)]
    assert codes == [HUNG, HUNG, HUNG, 0], scene.said()
    frame = load("s", scene.runs)
    assert frame.status.tolist() == ["finished", "failed", "finished", "finished"]
    assert "alone (no progress for 3 s)" in frame.error[1] and "vanilla 0, vanilla 1: put back" in scene.said()


@pytest.mark.slow
def test_a_process_that_hangs_ends_at_a_signal_and_gives_its_trials_back(tmp_path: Path) -> None:
    scene = hanging(tmp_path, "trial_timeout=3600")
    process = scene.sweep()
    faults.until(lambda: scene.log.exists() and "begin" in scene.log.read_text(), scene)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 130, scene.said()
    study = scene.study()
    assert study.leases.peers() == [] and study.counts()["vanilla"]["waiting"] == 4
    assert "SIGTERM found it hanging" in scene.said()


@pytest.mark.slow
def test_two_plans_of_one_name_at_once(tmp_path: Path) -> None:
    faults.plans(tmp_path, 1)
