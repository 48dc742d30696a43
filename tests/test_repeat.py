"""The command that repeats a trial of a study, given to the command line."""

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from analysis import load, load_plans
from search import engines, tasks
from search.run.cli import main
from search.study import repeat
from search.study.progress import Progress
from search.study.study import Study
from search.study.sweep import run
from search.tasks import Task
from tests.test_study import SPACE, plan

ECHO = {"name": "echo", "module": "tests.echo", "n_sequences": 12, "width": 4, "seed": 3}


def train(study: Study, task: Task) -> None:
    """All that a study lacks."""
    with Progress(study.counts(), study.plan.epochs) as progress:
        settings = {"population": 4, "threads": 1, "lease": 60.0, "trial_timeout": 3600.0}
        run(study, task, engines.choose("cpu"), progress=progress, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_trial_of_a_study_repeated_has_the_same_scores(
    tmp_path: Path, dtype: str, capfd: pytest.CaptureFixture[str]
) -> None:
    space = SPACE | {
        "forget_bias": {"distribution": "uniform", "low": 0.0, "high": 2.0},
        "peephole_o": {"distribution": "choice", "values": [True, False]},
        "momentum_type": {"distribution": "choice", "values": ["standard", "nesterov"]},
        "gradient_clipping": {"distribution": "choice", "values": [True, False]},
        "n_layers": {"distribution": "uniform_int", "low": 1, "high": 3},
        "skip": {"distribution": "choice", "values": [True, False]},
    }
    variants = {"cifg": {"cell": "lstm", "forget_gate": "coupled"}, "mine": {"cell": "lstm", "output_gate": "one"}}
    settings: dict[str, Any] = {
        "task": ECHO,
        "variants": variants,
        "space": space,
        "seed": 5,
        "epochs": 3,
        "dtype": dtype,
    }
    task = tasks.load(ECHO)
    study = Study.create(tmp_path / "s", dataclasses.replace(plan(task, trials=2), **settings))
    train(study, task)
    frame = load(tmp_path / "s")
    for row in frame.to_dict("records")[::3]:  # one of each variant
        made = repeat.train(load_plans(tmp_path / "s")["s"], row["variant"], row)
        capfd.readouterr()
        assert main(shlex.split(made)[1:]) == 0
        again = json.loads(capfd.readouterr().out)
        for name in ("valid_score", "test_score", "last_valid_score", "best_epoch", "epochs", "n_parameters", "seed"):
            assert again[name] == row[name], (name, made)


def test_a_study_is_found_complete_by_the_command_that_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    task = tasks.load(ECHO)
    variants = {"cifg": {"cell": "lstm", "forget_gate": "coupled"}, "rnn": {"cell": "rnn"}}
    made = dataclasses.replace(plan(task, trials=1, study="a b"), task=ECHO, variants=variants, seed=3, paired=True)
    study = Study.create(tmp_path / "runs" / "a b", made)
    train(study, task)
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(repeat.sweep(made))[1:]) == 0, capfd.readouterr().err
    assert "2/2 finished" in capfd.readouterr().err
    other = dataclasses.replace(made, variants={"cifg": {"cell": "rnn"}})
    assert shlex.split(repeat.sweep(other))[:4] == ["odyssey", "sweep", "--config-dir", "FOLDER"]


def test_what_comes_with_odyssey_is_named_and_the_rest_defined() -> None:
    of = {"hidden_size": 8, "lr": 1e-5, "momentum": 0.5, "input_noise": 0.0, "seed": 7, "engine": "cpu"}
    task = {"name": "jsb", "source": "boulanger", "path": "/my data/$HOME's.json"}
    jsb = dataclasses.replace(plan(tasks.load(ECHO)), task=task)
    words = shlex.split(repeat.train(jsb, "vanilla", of))
    assert words[:5] == ["odyssey", "train", "variant=vanilla", "task=jsb", "task.source=boulanger"]
    assert words[5] == "task.path='/my data/$HOME\\'s.json'"
    assert words[6:10] == ["hidden_size=8", "lr=1e-05", "momentum=0.5", "input_noise=0.0"]
    assert words[10:] == ["seed=7", "order_seed=0", "epochs=2", "patience=2", "engine=cpu", "dtype=float64"]
    other = dataclasses.replace(jsb, task=ECHO, variants={"np": {"cell": "my_cells.MGU"}})
    words = shlex.split(repeat.train(other, "np", of))
    assert words[2:5] == ["~variant", "variant.cell='my_cells.MGU'", "~task"] and "task.width=4" in words
    with pytest.raises(KeyError):
        repeat.train(jsb, "vanilla", {})


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, 0, -3, 2**62, 1e-05, 1.2345678901234567e-300, 0.1, "x", "a b", "true", "Null", "1", ""),
        *("it's", "a\\", "a\\'b", "${oc.env:HOME}", "a,b", "[1]", "~/x", "ü", [1, "a b", None], {"k": [True, "x y"]}),
    ],
)
def test_a_value_comes_through_the_command_line_unchanged(value: Any) -> None:
    parsed = OverridesParser.create().parse_override(f"task.x={repeat._value(value)}")
    config = OmegaConf.create({"x": parsed.value()})
    assert OmegaConf.to_container(config, resolve=True) == {"x": value}
    assert type(OmegaConf.to_container(config, resolve=True)["x"]) is type(value)  # type: ignore[call-overload]
