"""A study's folder that comes from someone else, and a current folder with files of others: read without trust."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.run import cli
from search.study.study import Study
from search.tasks import Task
from tests.test_storage import older
from tests.test_study import plan

ROOT = Path(__file__).parents[1]
# What libraries look for and do without, and what is loaded late; in the current folder they are not Odyssey's to run.
PLANTED = ["colorama", "redis", "IPython", "sitecustomize", "tornado", "lxml", "numexpr", "bottleneck", "ujson", "rich"]
PLANTED += ["pandas", "scipy", "sklearn", "matplotlib", "pyarrow", "psycopg", "torch", "evil"]
ODYSSEY = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from search.run.cli import main
sys.exit(main())
"""


@pytest.mark.slow
def test_reading_a_study_runs_nothing_that_its_plan_names_or_the_current_folder_holds(tmp_path: Path) -> None:
    here, program = tmp_path / "here", tmp_path / "bin" / "odyssey"
    folder = older("61504cf", here / "runs" / "s")  # in whose storage no plan contradicts the one in the folder
    path = folder / "study.yaml"
    path.write_text(path.read_text().replace("cell: rnn", "cell: evil.C") + "optimizer: {rule: evil.C}\n")
    assert "cell: evil.C" in path.read_text()
    for name in PLANTED:
        text = f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')\nfrom search.cells.rnn import RNN as C\n"
        (here / f"{name}.py").write_text(text)
    elsewhere = os.environ | {"PYTHONPATH": str(ROOT)}
    program.parent.mkdir()
    program.write_text(ODYSSEY)
    module = [sys.executable, "-m", "search"]
    for words in (
        [sys.executable, str(program), "status", "study=s"],
        [sys.executable, str(program), "report", "study=s"],
        [*module, "status", "study=s"],
    ):
        done = subprocess.run(words, cwd=here, env=elsewhere, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "ran").exists(), (words, (tmp_path / "ran").read_text())
    subprocess.run([sys.executable, str(program), "worker", "study=s"], cwd=here, capture_output=True)
    assert "evil" in (tmp_path / "ran").read_text(), "to train it is to run it"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


WRONG: list[Any] = [
    {"task": "jsb"},
    {"task": {"name": "../x"}},
    {"storage": 5},
    {"variants": ["rnn"]},
    {"variants": {"rnn": "rnn"}},
    {"variants": {"../../x": {"cell": "rnn"}}},
    {"variants": {}},
    {"study": "../../../s"},
    {"study": 5},
    {"space": [1]},
    {"space": {"lr": 5}},
    {"trials": 10**40},
    {"epochs": float("inf")},
    {"layout": "x"},
    {"layout": None},
    {"layout": -1},
    {"layout": 2.5},
    {"cells": [1]},
    {"score": None},
    {"sampler": "evil.Sampler"},
    {"colour": 1},
    "[1, 2]",
    "5",
    "",
    "\x00",
    "[" * 5000,
    "&a [*a]",
    "? [1, 2]\n: 3",
    "!!python/object/apply:os.system ['touch pwned']",
]


@pytest.mark.slow
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: str(wrong)[:40])
def test_a_plan_that_is_none_is_one_line_that_names_the_file(
    echo: Task, tmp_path: Path, wrong: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Study.create(tmp_path / "runs" / "s", plan(echo)).close()
    path = tmp_path / "runs" / "s" / "study.yaml"
    whole = yaml.safe_load(path.read_text())
    path.write_text(wrong if isinstance(wrong, str) else yaml.safe_dump(whole | wrong))
    before = contents(tmp_path)
    for command in ("status", "dashboard", "worker"):
        assert cli.main([command, "study=s"]) == 2
        out, err = capfd.readouterr()
        assert out == "" and err.count("\n") == 1 and "runs/s/study.yaml: expected the plan of a study (" in err
        assert "not supported between" not in err and "attribute" not in err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("url", ["sqlite:///../theirs.db", "postgresql://me:hunter2@127.0.0.1:1/db"])
def test_a_plan_opens_no_storage_that_the_user_did_not_name(
    echo: Task, tmp_path: Path, url: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Study.create(tmp_path / "runs" / "s", plan(echo)).close()
    path = tmp_path / "runs" / "s" / "study.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"storage": url}))
    before = contents(tmp_path)
    for command in ("status", "report", "dashboard", "worker"):
        assert cli.main([command, "study=s"]) == 2
        said = capfd.readouterr().err.splitlines()[-1]
        assert "its plan says that it is kept in" in said and "hunter2" not in said
    assert contents(tmp_path) == before and not (tmp_path.parent / "theirs.db").exists()


def test_the_names_in_plans_lead_no_report_elsewhere(
    echo: Task, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Study.create(tmp_path / "runs" / name, plan(echo, study=name)).close()
    path = tmp_path / "runs" / "a" / "study.yaml"
    path.write_text(path.read_text().replace("study: a", "study: ../../../escaped"))
    before = contents(tmp_path)
    assert cli.main(["report", "study=[a,b]"]) == 2
    assert "study=../../../escaped: expected a name" in capfd.readouterr().err
    assert contents(tmp_path) == before


@pytest.mark.slow
def test_a_storage_is_found_again_whatever_its_url_looks_like(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    conf = ["--config-dir", str(ROOT / "tests" / "conf"), "task=echo", "engine=reference"]
    tiny = ["variants=[rnn]", "trials=1", "epochs=1", "patience=1", "space.hidden_size.high=21"]
    urls = [f"sqlite:////{tmp_path}/x.db", f"sqlite:///{tmp_path}//y.db", "sqlite:///z.db", "sqlite:///./q.db"]
    for k, url in enumerate(urls):
        assert cli.main(["sweep", *conf, *tiny, f"study=s{k}", f"storage={url}"]) == 0
        assert cli.main(["status", f"study=s{k}", f"storage={url}"]) == 0
    assert capfd.readouterr().out.count("1 of 1 planned trials have ended") == len(urls)
