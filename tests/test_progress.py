"""What is shown of a sweep under way, on a terminal and elsewhere."""

import dataclasses
import fcntl
import io
import math
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import tests.echo
from search import tasks
from search.base import phases
from search.base.phases import said_if_slow
from search.cells import Cell, get
from search.study import progress
from search.study.claims import Key
from search.study.progress import Progress, Standing
from search.study.study import Study
from search.study.sweep import run
from search.tasks import Task
from search.training.trial import Round, Trial
from tests.on_terminal import SlowEngine, plan

ROOT = Path(__file__).parents[1]
SETTINGS = {"hidden_size": 2, "lr": 0.1, "momentum": 0.5, "input_noise": 0.0}


def counts(**row: int) -> dict[str, dict[str, int]]:
    """Of two variants, of which one has all the trials."""
    none = dict.fromkeys(("waiting", "running", "finished", "diverged", "failed"), 0)
    return {"vanilla": none | row, "rnn": none}


def trial(echo: Task, epoch: int, score: float, variant: str = "vanilla", status: str = "running") -> Trial:
    """As it is after `epoch` epochs with this validation score."""
    new = Trial.new(Key(variant, 0, 0), get("rnn"), SETTINGS, 0, echo, "float32")
    member = dataclasses.replace(new.member, epoch=epoch)
    curve = ((1.0, score),) * epoch
    return dataclasses.replace(new, member=member, curve=curve, best_epoch=min(epoch, 1), status=status)


class Clock:
    """Stands still until it is set."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def shown(epochs: int = 10, waiting: int = 40) -> Progress:
    return Progress(counts(waiting=waiting), epochs, "error [%]", stream=io.StringIO())


def test_what_trains_is_told_apart_from_what_is_ready() -> None:
    display = shown()
    display.show(Standing(counts(waiting=20, running=17, finished=3), held=17, ready=1))
    assert display.summary() == "3/40 finished, 16 training, 1 ready, 20 waiting"
    display.show(Standing(counts(waiting=3, running=34, finished=2, failed=1), n_workers=2, held=17, ready=1))
    assert "2/40 finished, 1 failed, 16 training, 1 ready, 17 with other workers, 3 waiting" in display.summary()


def test_who_only_watches_does_not_claim_to_know_what_trains() -> None:
    display = shown()
    display.show(Standing(counts(waiting=6, running=34), n_workers=2))
    assert display.summary() == "0/40 finished, 34 training or ready, 6 waiting"
    with display:
        pass
    assert display.summary() == "0/40 finished, 34 held by workers, 6 waiting"


def test_nothing_is_said_of_trials_an_hour_in_the_first_minute(clock: Clock) -> None:
    display = shown()
    for seconds, expected in ((0.001, None), (59, None), (120, "600 trials/h")):
        clock.now = 1000.0 + seconds
        display.show(Standing(counts(waiting=20, finished=20), held=0))
        assert ("trials/h" in display.summary()) == bool(expected) and (expected or "") in display.summary()


def test_the_time_left_is_not_guessed_from_the_first_epochs(echo: Task, clock: Clock) -> None:
    """Nor does it count what came before training: data, compilers."""
    display = shown(epochs=10, waiting=4)
    display.show(Standing(counts(waiting=2, running=2), held=2))
    clock.now += 300.0
    for epoch in range(1, 10):
        clock.now += 2.0
        display.update(Round([trial(echo, epoch, 5.0), trial(echo, epoch, 5.0)], [], []))
        expected = f"at most 0:00:{40 - 2 * epoch} left" if epoch > 5 else None
        assert ("left" in display.summary()) == bool(expected) and (expected or "") in display.summary()


def test_trials_that_stop_early_shorten_the_time_left(echo: Task, clock: Clock) -> None:
    display = shown(epochs=1000, waiting=16)
    display.show(Standing(counts(waiting=4, running=4, finished=8), held=4))
    for _ in range(2):
        clock.now += 20.0
        display.update(Round([], [trial(echo, 5, 5.0, status="finished")] * 8, []))
    assert "at most" not in display.summary() and "0:01:40 left" in display.summary()


@pytest.mark.parametrize("held", [4, 2])
def test_other_workers_count_by_what_they_hold(echo: Task, clock: Clock, held: int) -> None:
    """Of two workers one has all four trials, or each has two: every one of them has come as far."""
    display = shown(epochs=10, waiting=4)
    display.show(Standing(counts(running=4), n_workers=2, held=held))
    for epoch in (1, 2):
        clock.now += 20.0
        display.update(Round([trial(echo, epoch, 5.0)] * held, [], []))
    assert "at most 0:02:40 left" in display.summary()


def test_compiling_is_no_part_of_the_pace(echo: Task, clock: Clock) -> None:
    display = shown(epochs=10, waiting=2)
    display.show(Standing(counts(running=2), held=2))
    display.update(Round([trial(echo, 1, 5.0)] * 2, [], []))
    with display.phase("compiling rnn"):
        clock.now += 1000.0
    clock.now += 20.0
    display.update(Round([trial(echo, 2, 5.0)] * 2, [], []))
    assert "at most 0:02:40 left" in display.summary()


def test_the_best_score_is_of_what_has_finished_and_what_trains(echo: Task) -> None:
    display = shown()
    display.show(Standing(counts(waiting=40), best={"rnn": 7.0}))
    assert "best error [%]: 7 (rnn)" in display.summary()
    display.update(
        Round([trial(echo, 3, 5.25), trial(echo, 0, math.nan)], [trial(echo, 3, 1.0, status="diverged")], [])
    )
    assert display.best() == {"rnn": 7.0, "vanilla": 5.25}
    display.update(Round([trial(echo, 1, 6.0)], [trial(echo, 4, 5.0, status="finished")], []))
    display.update(Round([trial(echo, 2, 6.0)], [], []))
    assert "best error [%]: 5 (vanilla)" in display.summary()


def test_what_the_terminal_would_obey_is_shown_instead(echo: Task) -> None:
    stream = io.StringIO()
    evil = "\x1b]0;owned\x07\u202eeman"
    none = counts()["rnn"]
    with Progress({evil: none | {"waiting": 1}}, 1, stream=stream) as display:
        display.note(f"worker {evil} is dead")
        display.show(Standing({evil: none | {"waiting": 1}}, best={evil: 1.0}))
    assert all(line.isprintable() for line in stream.getvalue().splitlines())
    assert stream.getvalue().count(r"\x1b]0;owned\x07\u202eeman") == 2


def test_a_phase_is_a_line_only_if_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with said_if_slow("quick", said.append):
        pass
    monkeypatch.setattr(phases, "SLOW", 0.01)
    with said_if_slow("slow", said.append):
        until(lambda: bool(said))
    assert said == ["slow"]


def test_preparing_the_data_of_a_task_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tests.echo.load()

    def patiently() -> Task:
        until(lambda: "task echo: preparing its data" in capsys.readouterr().err)
        return made

    monkeypatch.setattr(phases, "SLOW", 0.01)
    monkeypatch.setattr(tests.echo, "load", patiently)
    assert tasks.load({"name": "echo", "module": "tests.echo"}) is made


def test_a_cell_is_named_while_it_is_compiled(echo: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "SLOW", 0.01)
    stream = io.StringIO()

    class Slow(SlowEngine):
        def compile(self, cell: Cell, dtype: str, loss: str, update: object) -> None:
            name = {"LSTM": "vanilla", "RNN": "rnn"}[type(cell).__name__]
            until(lambda: f"compiling {name} for engine=slow" in stream.getvalue())

    study = Study.create(tmp_path / "s", dataclasses.replace(plan(echo), epochs=1))
    with Progress(study.counts(), 1, stream=stream) as display:
        assert run(study, echo, Slow(), population=4, threads=1, progress=display, lease=60.0, trial_timeout=600.0)  # type: ignore[arg-type]
    assert stream.getvalue().count("compiling") == 2 and "10/10 finished | best score" in stream.getvalue()


def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Terminal:
    """A process on a terminal of its own, and all that it has written there."""

    def __init__(self, *words: str, columns: int = 60, rows: int = 24):
        ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")} | {"TERM": "xterm"}
        command = [sys.executable, "-m", *words]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self._ours, self.text = ours, ""

    def read(self) -> str:
        """All that was written by now."""
        while select.select([self._ours], [], [], 0)[0]:
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            self.text += data.decode(errors="replace")
        return self.text

    def last(self) -> str:
        """What stands on the screen since the frame before the last was erased, without escapes."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", re.split(r"\x1b\[2K(?!\x1b|\r)", self.read())[-1])

    def wait(self) -> int:
        until(lambda: bool(self.read()) and self.process.poll() is not None)
        self.read()
        return self.process.wait()


@contextmanager
def on_terminal(*words: str, **size: int) -> Iterator[Terminal]:
    terminal = Terminal(*words, **size)
    try:
        yield terminal
    finally:
        terminal.process.kill()
        terminal.process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 200])
def test_the_last_frame_of_an_interrupted_sweep_is_true(tmp_path: Path, columns: int) -> None:
    with on_terminal("tests.on_terminal", str(tmp_path / "s"), columns=columns) as terminal:
        until(lambda: "4 training, 1 ready" in terminal.last() and "epoch 1/20" in terminal.last())
        assert "best 7" in terminal.last() and "[nats per step]: 7 (vanilla)" in " ".join(terminal.last().split())
        assert all(len(line) <= columns for line in terminal.last().splitlines())
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() == 0
        assert "0/10 finished, 10 waiting" in terminal.last() and "training" not in terminal.last()
        assert terminal.last().endswith("\n") and "\x1b[?25h" in terminal.text  # the cursor is back


@pytest.mark.slow
def test_a_second_interrupt_leaves_a_true_frame_and_the_command_that_goes_on(tmp_path: Path) -> None:
    with on_terminal("tests.on_terminal", str(tmp_path / "s"), "deaf") as terminal:
        until(lambda: "4 training, 1 ready" in terminal.last() and "epoch 1/20" in terminal.last())
        terminal.process.send_signal(signal.SIGINT)
        until(lambda: "Ctrl-C again leaves at once" in terminal.last())
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() == 130
        assert "0/10 finished, 5 interrupted, 5 waiting" in terminal.last() and "training" not in terminal.last()
        assert terminal.last().endswith("the same command goes on:\r\n  odyssey sweep study=s\r\n")
        assert "\x1b[?25h" in terminal.text


def test_without_a_terminal_there_are_plain_lines(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.on_terminal", str(tmp_path / "s"), "deaf"]
    with open(tmp_path / "said", "w") as said:
        process = subprocess.Popen(command, cwd=ROOT, stderr=said, start_new_session=True)
    try:
        until(lambda: "best" in (tmp_path / "said").read_text())
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)
        assert process.returncode == 130
    finally:
        process.kill()
    text = (tmp_path / "said").read_text()
    assert "\x1b" not in text and text.endswith("goes on:\n  odyssey sweep study=s\n")
    assert "5 interrupted, 5 waiting" in text.splitlines()[-3]
