import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from search.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
CONF = ["--config-dir", str(ROOT / "tests" / "conf")]
ECHO = [*CONF, "task=echo", "engine=reference"]


def odyssey(*words: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "search", *words]
    environment = os.environ | environment
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    "words, named, expected",
    [
        (["swep"], "swep", "sweep, worker"),
        (["train", "hiden_size=64"], "hiden_size", "hidden_size"),
        (["train", "hidden_size=0"], "hidden_size=0", "at least 1"),
        (["train", "hidden_size=2.5"], "hidden_size=2.5", "whole number"),
        (["train", "lr=-1"], "lr=-1", "above 0"),
        (["train", "lr=fast"], "lr=fast", "a number"),
        (["train", "lr=nan"], "lr=nan", "a number"),
        (["train", "momentum=1"], "momentum=1", "below 1"),
        (["train", "input_noise=-0.1"], "input_noise=-0.1", "at least 0"),
        (["train", "variant=vanila"], "variant=vanila", "vanilla"),
        (["train", "variant.forget_gate=shut"], "forget_gate=shut", "sigmoid, one, coupled"),
        (["train", "variant.forgetgate=one"], "forgetgate", "forget_gate"),
        (["train", "task=timitt"], "task=timitt", "jsb"),
        (["train", "task.sorce=x"], "task.sorce", "source"),
        (["train", "task.source=boulanger", "task.path=absent.json"], "absent.json", ""),
        (["train", "engine=warp"], "engine=warp", "reference"),
        (["train", "device=tpu"], "device=tpu", "cpu"),
        (["train", "dtype=float16"], "dtype=float16", "float32, float64"),
        (["train", "threads=0"], "threads=0", "at least 1"),
        (["train", "epochs=0"], "epochs=0", "at least 1"),
        (["train", "[lr=1"], "[lr=1", "key=value"),
        (["train", "+speed=9"], "speed", "expected one of"),
        (["train", "task.path=${nowhere}"], "task.path", "nowhere"),
        (["sweep", *ECHO, "variants=[vanila]"], "variants=vanila", "vanilla"),
        (["sweep", *ECHO, "variants=[rnn,rnn]"], "variants=rnn", "once"),
        (["sweep", *ECHO, "variants=[]"], "variants=[]", "names"),
        (["sweep", *ECHO, "trials=0"], "trials=0", "at least 1"),
        (["sweep", *ECHO, "trials=many"], "trials=many", "whole number"),
        (["sweep", *ECHO, "sampler=guess"], "sampler=guess", "random"),
        (["sweep", *ECHO, "experiment=quickest"], "experiment=quickest", "quick"),
        (["sweep", *ECHO, "space=wide"], "space=wide", "odyssey"),
        (["sweep", *ECHO, "space.lr.low=1"], "space.lr.low=1", "at most"),
        (["sweep", *ECHO, "space.lr.lo=1"], "lo", "low"),
        (["sweep", *ECHO, "space.colour={distribution: choice, values: [red]}"], "colour", "settings"),
        (["sweep", *ECHO, "study=../else"], "study=../else", "name"),
        (["sweep", *ECHO, "runs=/dev/null/runs"], "/dev/null/runs", "folder that can be written"),
        (["sweep", *ECHO, "storage=nosuch://host/db"], "nosuch://host/db", "storage"),
        (["status", "study=absent"], "absent", "study"),
        (["report", "study=absent"], "absent", "study"),
        (["report", "study=absent,other"], "study=absent", "study"),
        (["report", "select=luck"], "select=luck", "valid"),
        (["data", "timitt"], "timitt", "jsb"),
    ],
)
def test_bad_input_is_one_line_that_names_the_key(
    words: list[str],
    named: str,
    expected: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("odyssey: ")
    assert named in err and expected in err
    assert not list(tmp_path.iterdir()), "something was written"


def test_train_prints_its_result_as_one_line_of_json() -> None:
    done = odyssey("train", *ECHO, "variant=cifg", "hidden_size=7", "lr=0.01", "epochs=3", "seed=4")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    result = json.loads(done.stdout)
    assert result["variant"] == "cifg" and result["task"] == "echo" and result["hidden_size"] == 7
    assert result["epochs"] == 3 and 1 <= result["best_epoch"] <= 3 and result["train_seconds"] > 0
    assert 0 < result["test_score"] < 5 and 0 < result["valid_score"] < 5
    assert result["n_parameters"] == 3 * 7 * (5 + 7 + 1) + 2 * 7 + 5 * 7 + 5


def test_a_users_cell_and_variant_need_no_edit_of_the_project() -> None:
    for variant in ("mut3", "no_forgetting"):
        done = odyssey("train", *ECHO, f"variant={variant}", "epochs=1", "hidden_size=4")
        assert done.returncode == 0 and json.loads(done.stdout)["variant"] == variant, done.stderr


def test_sweep_status_and_report_from_the_command_line(tmp_path: Path) -> None:
    sweep = ["sweep", *ECHO, f"runs={tmp_path}", "study=s", "variants=[vanilla,np]", "trials=2", "epochs=1"]
    done = odyssey(*sweep, "space.hidden_size.high=25")
    assert done.returncode == 0, done.stderr
    assert "4/4 finished" in done.stderr and "report study=s" in done.stderr
    status = odyssey("status", "study=s", f"runs={tmp_path}")
    assert "4 of 4 planned trials have ended" in status.stdout
    report = odyssey("report", "study=s", f"runs={tmp_path}")
    assert report.returncode == 0, report.stderr
    assert (tmp_path / "s" / "report" / "index.html").stat().st_size > 10_000


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_shows_its_keys(command: str) -> None:
    for option in (["--help"], ["--cfg", "job"]):
        done = odyssey(command, *option)
        assert done.returncode == 0 and done.stderr == ""
        assert {"status": "study", "worker": "study", "report": "select"}.get(command, "task") in done.stdout


def test_no_command_lists_the_commands() -> None:
    assert odyssey().returncode == 2
    done = odyssey("--help")
    assert done.returncode == 0 and all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize(
    "line, expected",
    [
        ("odyssey sw", "sweep"),
        ("odyssey train hidden_s", "hidden_size="),
        ("odyssey train variant=ci", "cifg"),
        ("odyssey sweep experiment=od", "odyssey"),
        ("odyssey sweep sampler=", "qmc"),
        ("odyssey --config-dir tests/conf sweep variants=vanilla,", "vanilla,mut3"),
        ("odyssey status runs=RUNS study=", "mine"),
    ],
)
def test_the_shell_completes_commands_keys_and_values(line: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "study.yaml").touch()
    line = line.replace("RUNS", str(tmp_path))
    bash, program = shutil.which("bash"), shutil.which("odyssey", path=str(Path(sys.executable).parent))
    assert bash and program
    script = f"""
        export PATH="{Path(program).parent}:$PATH"
        eval "$(register-python-argcomplete odyssey)"
        COMP_LINE={line!r} COMP_POINT={len(line)} COMP_TYPE=9
        _python_argcomplete odyssey
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run([bash, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert expected in [word.strip() for word in done.stdout.split("\n")], (done.stdout, done.stderr)
