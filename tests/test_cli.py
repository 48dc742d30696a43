import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.run.cli import COMMANDS, main
from search.run.composition import Composer

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
        (["train", "input_noise=-0.1"], "input_noise=-0.1", "from 0 to"),
        (["train", "input_noise=1e300"], "input_noise=1e+300", "from 0 to"),
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
        (["sweep", *ECHO, "space.lr=0.003"], "space.lr=0.003", "a distribution"),
        (["sweep", *ECHO, "space.lr=[1,2]"], "space.lr=[1, 2]", "a distribution"),
        (["sweep", *ECHO, "space.lr={distribution: choice, values: [0.1, -1]}"], "space.lr.values=-1", "above 0"),
        (["sweep", *ECHO, "space.peephole_o={distribution: uniform, low: 0, high: 1}"], "peephole_o", "true or false"),
        (["sweep", *ECHO, "space.hidden_size.points=500", "sampler=grid"], "points", "space.hidden_size.points=500"),
        (["sweep", *ECHO, "space=null"], "space=null", "odyssey"),
        (["sweep", *ECHO, "space={}"], "space={}", "odyssey"),
        (["sweep", "task=null"], "task=null", "jsb"),
        (["sweep", "variant=null"], "variant: no such key", "did you mean variants"),
        (["sweep", "task={}"], "task={}", "jsb"),
        (["train", "variant=null"], "variant=null", "vanilla"),
        (["sweep", "experiment=null"], "study", "study=..."),
        (["sweep", *ECHO, "study=a%20b"], "study=a%20b", "a name of letters"),
        (["sweep", *ECHO, "study=q?y"], "study=q?y", "a name of letters"),
        (["sweep", *ECHO, "study=..%2Fescaped"], "study=..%2Fescaped", "a name of letters"),
        (["sweep", *ECHO, "study=null"], "study=null", "a name of letters"),
        (["sweep", *ECHO, "study=[a,b]"], "study=", "a name of letters"),
        (["sweep", *ECHO, "study="], "study=", "a name of letters"),
        (["sweep", *ECHO, f"study={'x' * 300}"], "study=xxx", "a name of letters"),
        (["sweep", *ECHO, "runs="], "runs=", "path"),
        (["sweep", *ECHO, "runs=null"], "runs=null", "path"),
        (["sweep", *ECHO, "extend=maybe"], "extend", "no such key"),
        (["sweep", *ECHO, "paired=maybe"], "paired=maybe", "true or false"),
        (["sweep", *ECHO, "threads=1000000"], "threads=1000000", "at most 1024"),
        (["sweep", *ECHO, "lease=never"], "lease=never", "a number"),
        (["sweep", *ECHO, "population=0.5"], "population=0.5", "a whole number"),
        (["sweep", *ECHO, "launcher.wrokers=2"], "launcher.wrokers", "workers"),
        (["sweep", *ECHO, "launcher.workers=two"], "launcher.workers=two", "a whole number"),
        (["sweep", *ECHO, "launcher=ray", "launcher.num_cpus=-1"], "launcher.num_cpus=-1", "at least 0"),
        (["sweep", *ECHO, "launcher=slurm"], "launcher=slurm", "srun"),
        (["sweep", *ECHO, "launcher=slurm", "launcher.requeues=x"], "launcher.requeues=x", "whole number"),
        (["sweep", *ECHO, "launcher=slurm", "launcher.partition=x"], "launcher.partition", "slurm_"),
        (["sweep", *ECHO, "storage=sqlite://"], "storage=sqlite://", "sqlite:///FILE"),
        (["sweep", *ECHO, "storage=me"], "storage=me", "sqlite:///FILE"),
        (["sweep", *ECHO, "--foo"], "--foo", "no such option"),
        (["sweep", *ECHO, "-m"], "-m", "variants=[a,b]"),
        (["sweep", *ECHO, "--multirun"], "--multirun", "variants=[a,b]"),
        (["sweep", *ECHO, "--info"], "--info", "no such option"),
        (["sweep", "-sc", "install=bash"], "-sc", "no such option"),
        (["sweep", "--config-dir"], "--config-dir", "expected one argument"),
        (["sweep", "--config-dir", "/nowhere"], "--config-dir=/nowhere", "a folder"),
        (["sweep", *ECHO, "word"], "word", "key=value"),
        (["train", "seed=12345678901234567890123456"], "seed=12345678901234567890123456", "2**63"),
        (["train", "seed=true"], "seed=true", "a whole number"),
        (["bench", "variants=[]"], "variants=[]", "a list"),
        (["bench", "engines=[cpu,cpu]"], "engines", "once"),
        (["status", "tracebacks=maybe"], "tracebacks=maybe", "true or false"),
        (["status", "study=[s,nope]"], "study=", "the name of a study"),
        (["status", "study=absent"], "absent", "study"),
        (["report", "study=absent"], "absent", "study"),
        (["report", "study=absent,other"], "study=absent", "study"),
        (["report", "select=luck"], "select=luck", "valid"),
        (["data", "timitt"], "timitt", "jsb"),
        (["sweep", *ECHO, "~variants"], "~variants", "key=value"),
        (["sweep", *ECHO, "~study"], "~study", "key=value"),
        (["sweep", *ECHO, "~launcher"], "~launcher", "launcher.KEY"),
        (["sweep", *ECHO, "hydra.run.dir=x"], "hydra.run.dir", "no such key"),
        (["sweep", *ECHO, "hydra/launcher=x"], "hydra/launcher", "no such key"),
        (["sweep", *ECHO, "variants=rnn,"], "variants=rnn,", "a list of names"),
        (["sweep", *ECHO, "variants=rnn,ünï"], "variants=ünï", "names among"),
        (["sweep", *ECHO, f"space.lr.high={'9' * 400}"], "space.lr.high=999", "a number"),
        (["sweep", *ECHO, "space.momentum.high=2"], "1 - space.momentum.high=-1", "at least 0"),
        (["sweep", *ECHO, "space.lr={distribution: choice, values: [0.1, 0.1]}"], "space.lr.values", "once"),
        (["sweep", *ECHO, "space.lr={distribution: choice, values: [[0.1]]}"], "space.lr.values", "a list of values"),
        (["sweep", *ECHO, "launcher.name=ray"], "launcher.address", "launcher=ray"),
        (["train", "optimizer=adam", "momentum=0.9"], "momentum", "beta1"),
        (["train", "optimizer.rule=newton"], "optimizer.rule=newton", "sgd, rmsprop"),
        (["sweep", *ECHO, "space=odyssey", "optimizer=adam", "space.momentum.low=0"], "momentum", "beta1"),
        (["sweep", *ECHO, "optimizer.lr=0.1", "space.lr.low=1e-3"], "optimizer.lr", "space.lr"),
        (["sweep", *ECHO, "optimizer.lr=0.1", "optimizer.space.lr.low=1e-3"], "optimizer.lr=0.1", "space.lr"),
        (["sweep", *ECHO, "optimizer.space={}"], "optimizer.space={}", "space.NAME"),
        (["train", "optimizer.space.lr.low=1"], "optimizer.space.lr.low=1", "study"),
        (["train", "optimizer.space=null"], "optimizer.space=null", "study"),
        (["sweep", *ECHO, "space.lr.points=0"], "space.lr.points=0", "at least 1"),
        (["sweep", *ECHO, "optimizer.schedule=linear"], "optimizer.schedule=linear", "cosine"),
        (["train", "gradient_clipping=1"], "gradient_clipping=1", "true or false"),
        (["train", "--config-dir="], "--config-dir=", "a folder"),
        (["train", "variant.forget_bias=1e39"], "forget_bias=1e+39", "range of float32"),
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


def test_what_is_said_of_the_optimizer_of_a_study_that_exists_is_heard(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begin = ["variants=rnn", "trials=1", "epochs=1", "patience=1", "space.hidden_size.high=20", "optimizer.clip_norm=5"]
    sweep = ["sweep", *CONF, "task=echo", "study=s"]
    assert main([*sweep, *begin]) == 0
    capfd.readouterr()
    for word, changed in (
        ("optimizer.clip_norm=4", "optimizer.clip_norm: 5 -> 4"),
        ("optimizer.clip_value=1", "optimizer.clip_value: (absent) -> 1"),
        ("optimizer.lr=0.1", "optimizer.lr: (absent) -> 0.1"),
        ("optimizer.space.lr.low=1e-5", "space.lr.low: 0.0001 -> 1e-05"),
        ("optimizer.beta1=0.5", "optimizer.beta1=0.5: expected keys among"),
        ("optimizer.clip_norm=-1", "optimizer.clip_norm=-1: expected a number above 0"),
    ):
        assert main([*sweep, word]) == 2, word
        assert changed in capfd.readouterr().err
    for word in ("optimizer.clip_norm=5", "optimizer.space.lr.low=1e-4", "optimizer.momentum_type=nesterov"):
        assert main([*sweep, word]) == 0, word


def test_cards_are_not_written_where_a_file_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cards").write_text("x")
    assert main(["cell", "gru", "out=cards"]) == 2
    assert capfd.readouterr().err == "odyssey: out=cards: expected a folder, or a name that is free\n"


def test_train_prints_its_result_as_one_line_of_json() -> None:
    done = odyssey("train", *ECHO, "variant=cifg", "hidden_size=7", "lr=0.01", "epochs=3", "seed=4")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    result = json.loads(done.stdout)
    assert result["variant"] == "cifg" and result["task"] == "echo" and result["hidden_size"] == 7
    assert result["epochs"] == 3 and 1 <= result["best_epoch"] <= 3 and result["train_seconds"] > 0
    assert 0 < result["test_score"] < 5 and 0 < result["valid_score"] < 5
    assert result["n_parameters"] == 3 * 7 * (5 + 7 + 1) + 2 * 7 + 5 * 7 + 5


@pytest.mark.slow
def test_a_users_cell_and_variant_need_no_edit_of_the_project() -> None:
    for variant in ("own_mut3", "no_forgetting"):
        done = odyssey("train", *ECHO, f"variant={variant}", "epochs=1", "hidden_size=4")
        assert done.returncode == 0 and json.loads(done.stdout)["variant"] == variant, done.stderr


@pytest.mark.slow
def test_sweep_status_and_report_from_the_command_line(tmp_path: Path) -> None:
    sweep = ["sweep", *ECHO, f"runs={tmp_path}", "study=s", "variants=[vanilla,np]", "trials=2", "epochs=1"]
    done = odyssey(*sweep, "space.hidden_size.high=25")
    assert done.returncode == 0, done.stderr
    assert "4/4 finished | best negative log-likelihood" in done.stderr and "report study=s" in done.stderr
    status = odyssey("status", "study=s", f"runs={tmp_path}")
    assert "4 of 4 planned trials have ended" in status.stdout
    report = odyssey("report", "study=s", f"runs={tmp_path}")
    assert report.returncode == 0, report.stderr
    assert (tmp_path / "s" / "report" / "index.html").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_shows_its_keys(command: str) -> None:
    for option in (["--help"], ["--cfg", "job"]):
        done = odyssey(command, *option)
        assert done.returncode == 0 and done.stderr == ""
        special = {
            "status": "study",
            "worker": "study",
            "replicate": "seeds",
            "publish": "to",
            "restore": "runs",
            "report": "select",
            "dashboard": "port",
        }
        special["cell"] = "hidden_size"
        assert special.get(command, "task") in done.stdout


def test_help_explains_every_key_and_names_the_files_of_every_group(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        assert main([command, "--help", *CONF]) == 0
        text = capsys.readouterr().out
        own = yaml.safe_load((ROOT / "configs" / f"{command}.yaml").read_text()).keys() - {"defaults"}
        for key in own:
            line = next(line for line in text.splitlines() if line.startswith(f"  {key}="))
            assert len(line.split(maxsplit=1)) == 2, f"{command}: {key} is not explained"
        assert ("echo" in text) == ("task=NAME" in text)


def test_options_work_wherever_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--cfg", "job", *CONF, "train", "task=echo"], ["train", "task=echo", *CONF, "--cfg=job"]):
        assert main(words) == 0
        assert "name: echo" in capsys.readouterr().out
    assert main(["data", "echo", *CONF]) == 0
    assert "sha256" in capsys.readouterr().out
    assert main(["--version"]) == 0 and capsys.readouterr().out.startswith("odyssey ")


def own_config(folder: Path, **files: str) -> list[str]:
    """A folder of the user's: {GROUP_NAME: text}, as the option that names it."""
    for place, text in files.items():
        group, _, name = place.partition("_")
        (folder / group).mkdir(parents=True, exist_ok=True)
        (folder / group / f"{name}.yaml").write_text(text)
    return ["--config-dir", str(folder)]


MINE = """
hidden_size: {distribution: uniform_int, low: 3, high: 9}
lr: {distribution: log_uniform, low: 1e-5, high: 1e-3}
momentum: {distribution: uniform, low: 0, high: 0.5}
input_noise: {distribution: uniform, low: 0, high: 0.1}
"""


def composed(*words: str) -> dict[str, Any]:
    folders = [word for last, word in itertools.pairwise(words) if last == "--config-dir"]
    with Composer(folders) as composer:
        return composer.compose("sweep", [word for word in words if "=" in word]).settings


def test_an_experiment_says_only_what_the_user_does_not(tmp_path: Path) -> None:
    patching = "study: p\nvariants: [rnn]\ntrials: 2\nepochs: 1\npatience: 1\nspace: {lr: {low: 5e-3}}\n"
    own = own_config(tmp_path, space_mine=MINE, experiment_patching=patching)
    mine = yaml.safe_load(MINE.replace("1e-5", "0.00001").replace("1e-3", "0.001"))
    assert composed(*own, "space=mine")["space"] == mine  # experiment=quick, the default
    assert composed(*own, "space=mine", "experiment=patching")["space"] == mine
    assert composed(*own, "experiment=patching")["space"]["lr"]["low"] == 5e-3
    assert composed(*own, "experiment=patching")["study"] == "p"  # though the file does not say `@package _global_`
    assert composed(*own, "space=mine", "experiment=patching", "space.lr.low=1e-4")["space"]["lr"]["low"] == 1e-4
    assert set(composed("space=odyssey_timit")["space"]["lr"].values()) == {"log_uniform", 1e-6, 1e-2}
    choice = "space.lr={distribution: choice, values: [0.1, 0.2]}"
    assert composed(choice)["space"]["lr"] == {"distribution": "choice", "values": [0.1, 0.2]}


@pytest.mark.parametrize("place", ["variant_vanilla", "task_jsb", "space_odyssey", "experiment_quick"])
def test_a_file_of_a_built_in_name_is_refused(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *own_config(tmp_path, **{place: "cell: rnn"})]) == 2
    assert "expected another name" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    ["cell: [", "{}", "- a", "7", "", "cell: ${nowhere}", "defaults: [broken]\ncell: lstm", "cell: \0", "a: &a [*a]"],
)
def test_a_broken_file_is_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = own_config(tmp_path, variant_broken=text)
    assert main(["train", *own, "task=echo", *CONF, "variant=broken", "epochs=1"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("odyssey: ") and err.count("\n") == 1, err


@pytest.mark.parametrize(
    "place, content, named, expected",
    [
        ("variant/latin.yaml", "cell: lstm # \xe9".encode("latin-1"), "latin.yaml", "expected YAML ('utf-8'"),
        ("variant/a,b.yaml", b"cell: lstm", "a,b.yaml", "a name of letters"),
        ("space/mine.yaml", b"- a", "space/mine.yaml", "a mapping"),
        ("space/mine.yaml", b"lr: [1, 2]", "space/mine.yaml: lr=[1, 2]", "a distribution"),
        ("experiment/mine.yaml", b"", "experiment/mine.yaml", "a mapping"),
        ("experiment/mine.yaml", b"study: s\nspace: [a]", "experiment/mine", "Cannot merge"),
    ],
)
def test_a_file_that_does_not_fit_is_named(
    place: str, content: bytes, named: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group, _, name = place.removesuffix(".yaml").partition("/")
    (tmp_path / group).mkdir()
    (tmp_path / place).write_bytes(content)
    choice = ["train", f"{group}={name}"] if group == "variant" else ["sweep", f"{group}={name}"]
    assert main([*choice, "--config-dir", str(tmp_path), "task=adding"]) == 2
    err = capsys.readouterr().err
    assert named in err and expected in err and err.count("\n") == 1, err


def test_names_of_any_letters_are_taken_as_they_are_typed(tmp_path: Path) -> None:
    own = own_config(tmp_path / "own", **{"variant_ünï": "cell: rnn", "variant_a = b": "cell: gru"})
    (tmp_path / "own" / "variant" / ".#gone.yaml").symlink_to("nowhere")  # of an editor
    assert composed(*own, "variants=ünï,a = b")["variants"] == ["ünï", "a = b"]
    assert composed("runs=a${seed}", "study=s")["runs"] == "a${seed}"
    for variant in ("ünï", "a = b"):
        with Composer([str(tmp_path / "own")]) as composer:
            assert composer.variant(variant)["cell"] in ("rnn", "gru")


def test_a_study_goes_on_and_grows_by_its_name_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> tuple[int, str]:
        code = main(["sweep", *CONF, f"runs={tmp_path}", "engine=reference", *words])
        return code, capsys.readouterr().err

    begin = ["study=s", "task=echo", "variants=rnn", "trials=1", "epochs=2", "seed=3", "space.hidden_size.high=21"]
    assert run(*begin)[0] == 0
    plan = (tmp_path / "s" / "study.yaml").read_text()
    code, err = run("study=s")
    assert code == 0 and "1/1 finished" in err and (tmp_path / "s" / "study.yaml").read_text() == plan
    assert "3/3 finished" in run("study=s", "trials=3")[1]
    assert "6/6 finished" in run("study=s", "variants=rnn,gru")[1]
    for word in ("epochs=3", "seed=4", "space.hidden_size.high=22", "task.seed=9", "dtype=float64", "paired=false"):
        code, err = run("study=s", word)
        assert code == 2 and word.partition("=")[0] in err and err.count(" -> ") == 1, err


@pytest.mark.slow
def test_an_edited_cell_is_not_the_same_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "from search.cells import Cell\nfrom search.ops import tanh\n\n\nclass Mine(Cell):\n"
        "    def affine(self):\n        return {'a': 'W x + R y + b'}\n\n"
        "    def step(self, past, pre, p):\n        return {'y': tanh(pre('a'))}\n"
    )
    (tmp_path / "my_cell.py").write_text(text)
    own = own_config(tmp_path / "own", variant_mine="cell: my_cell.Mine")
    words = ["sweep", *CONF, *own, *ECHO[2:], f"runs={tmp_path}", "study=s", "variants=mine", "trials=1", "epochs=1"]
    assert odyssey(*words, cwd=tmp_path, PYTHONPATH=str(ROOT)).returncode == 0
    (tmp_path / "my_cell.py").write_text(text.replace("tanh(pre('a'))", "0.5 * tanh(pre('a'))"))
    done = odyssey(*words[:-2], "trials=2", "epochs=1", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 2 and "equations of mine" in done.stderr
    (tmp_path / "my_cell.py").write_text(f"# a comment\n{text}")
    assert odyssey(*words, cwd=tmp_path, PYTHONPATH=str(ROOT)).returncode == 0


@pytest.mark.slow
def test_a_study_of_which_all_trials_fail_ends_in_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad_cell.py").write_text(
        "from search.cells import Cell\nfrom search.ops import tanh\n\n\nclass Bad(Cell):\n"
        "    def affine(self):\n        return {'a': 'W x + R y + b'}\n\n"
        "    def step(self, past, pre, p):\n        return {'y': tanh(pre('a'))}\n\n"
        "    def initial(self, name, normal):\n        return normal if len(normal) < 30 else 1 / 0\n"
    )
    own = own_config(tmp_path / "own", variant_bad="cell: bad_cell.Bad")
    words = ["sweep", *CONF, *own, *ECHO[2:], f"runs={tmp_path}", "study=s", "variants=bad", "trials=2", "epochs=1"]
    words.append("space.hidden_size={distribution: uniform_int, low: 30, high: 40}")
    done = odyssey(*words, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 1 and "all 2 trials failed" in done.stderr and "division by zero" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["sweep", "--help"], ["data", "adding", "task.length=20"]])
def test_an_output_that_cannot_be_written_is_one_line(words: list[str]) -> None:
    command = [sys.executable, "-m", "search", *words]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "No space left" in done.stderr, done.stderr


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
        ("odyssey train mom", "momentum="),
        ("odyssey train optimizer=adam bet", "beta1="),
        ("odyssey sweep task.pa", "task.path="),
        ("odyssey sweep optimizer.schedule=", "cosine"),
        ("odyssey sweep experiment=od", "odyssey"),
        ("odyssey sweep sampler=", "qmc"),
        ("odyssey sweep space.hidden", "space.hidden_size.low="),
        ("odyssey sweep optimizer=adam space.be", "space.beta1.high="),
        ("odyssey --config-dir tests/conf sweep variants=vanilla,", "vanilla,own_mut3"),
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


def test_a_distribution_of_an_optimizers_setting_is_stated_anew() -> None:
    values = {"distribution": "choice", "values": [0.001, 0.003]}
    words = [*ECHO, "optimizer.space.lr={distribution: choice, values: [0.001, 0.003]}"]
    assert composed(*words)["space"]["lr"] == values
