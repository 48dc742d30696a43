"""What must be there for a command to start, and what it must not wait for."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAVY = "{'torch', 'pyarrow', 'pandas', 'scipy', 'sklearn', 'matplotlib', 'music21', 'llvmlite', 'cuda', 'ray'}"


def loaded_by(code: str) -> str:
    """Which heavy packages a program has loaded at its end."""
    code = f"import sys\n{code}\nprint(*sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_modules_load_no_heavy_package_before_it_is_needed() -> None:
    assert (
        loaded_by(
            "import search.run.status, search.study.sweep, search.run.launchers.watch, search.run.bench, search.tasks"
        )
        == ""
    )


def test_the_status_of_a_study_needs_neither_a_display_nor_what_works_on_studies() -> None:
    without = "{'rich', 'optuna', 'sqlalchemy.orm', 'numpy', 'search.study.progress', 'search.rules', 'search.cells'}"
    code = "import sys, search.run.composition, search.run.status; "
    code += f"assert not {without} & set(sys.modules), {without} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_little_is_loaded_before_a_password_is_hidden() -> None:
    """Until then the command line stands in the list of processes."""
    code = "import sys, search.run.cli; assert not {'numpy', 'hydra', 'optuna', 'sqlalchemy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_cpu_engine_trains_without_torch() -> None:
    code = """
from search.cells import get
from search.engines import choose
from search.tasks import Task
from search.training.trial import Trial, listed, train
from tests.echo import load

task = load()
settings = {"hidden_size": 3, "lr": 0.01, "momentum": 0.9, "input_noise": 0.1}
trial = Trial.new(0, get("rnn"), settings, 1, task, "float32")
trainer = choose("cpu").trainer(task, "float32", 1)
rounds = list(train(listed([trial]), trainer, len(task.splits["train"].inputs), epochs=2, patience=2, population=1,
    seed=0))
assert rounds[-1].ended[0].status == "finished"
"""
    assert loaded_by(code) == "llvmlite"


def test_every_package_that_may_be_needed_has_the_version_that_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
    ]
    names = {re.split(r"[\[<>=]", each)[0].lower() for each in needed} - {project["name"]}
    pinned = {
        line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    assert names - pinned == set()
