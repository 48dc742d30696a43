"""The README as a new user would follow it: every block runs as it is printed."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis import load
from search.errors import UserError
from search.run.composition import Composer

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SMALL = ["trials=1", "epochs=1", "space.hidden_size.high=21", "task=adding", "task.length=20", "task.n_sequences=8"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """The words of every line of the README that is a command of odyssey's."""
    lines = re.findall(r"^    odyssey (.*?)(?: +#.*)?$", README, flags=re.MULTILINE)
    lines += [
        line for line in re.findall(r"`odyssey ([a-z]+ [^`]*)`", README.replace("\n", " ")) if "COMMAND" not in line
    ]
    return [line.split() for line in lines]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in `folder`, of a user who has no checkout there."""
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from search.run.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", script, *words], cwd=folder, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all that the README says to write has been written."""
    folder = tmp_path_factory.mktemp("place")
    own = [block for block in blocks("python") if block.startswith(("from", "import numpy"))]
    for name, text in zip(("my_cells", "my_tasks", "my_rules"), own, strict=True):
        (folder / f"{name}.py").write_text(text)
    gated, space, experiment = blocks("yaml")
    files = dict(re.findall(r"`FOLDER/(\w+/\w+\.yaml)`:\s`(\{.*?\})`", README))
    files |= {"space/narrow.yaml": space, "experiment/small.yaml": experiment}
    files |= {"variant/gated.yaml": gated}
    assert len(files) == 7
    for name, text in files.items():
        (folder / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "own" / name).write_text(text)
    rng, rows = np.random.default_rng(0), 10 * 6
    steps = pd.DataFrame({"sequence": np.repeat(range(10), 6), "a": rng.normal(size=rows), "b": rng.normal(size=rows)})
    steps.assign(label=rng.integers(3, size=rows)).to_csv(folder / "steps.csv", index=False)
    return folder


@pytest.mark.slow
def test_an_own_cell_task_space_and_experiment_work_as_printed(place: Path) -> None:
    done = run(place, "sweep", "experiment=small", "--config-dir", "own")
    assert done.returncode == 0, done.stderr
    frame = load(place / "runs" / "small")
    assert list(frame["variant"].unique()) == ["vanilla", "my_mgu", "leaky"] and set(frame["status"]) == {"finished"}
    assert frame["task"].eq("mine").all() and frame["hidden_size"].between(8, 40).all()


@pytest.mark.slow
def test_an_own_cell_as_text_is_the_one_in_python(place: Path) -> None:
    found = []
    for name in ("gated", "mgu"):
        done = run(place, "cell", name, "--config-dir", "own", "hidden_size=5", "n_inputs=3")
        assert done.returncode == 0, done.stderr
        found.append(re.search(r"^  f = (.|\n)*?\n\n", done.stdout, flags=re.MULTILINE))
    assert found[0] and found[1] and found[0][0] == found[1][0]


@pytest.mark.slow
def test_an_own_update_rule_works_as_printed(place: Path) -> None:
    done = run(place, "sweep", "optimizer=rms", "study=rms", "variants=rnn", *SMALL, "--config-dir", "own")
    assert done.returncode == 0, done.stderr
    frame = load(place / "runs" / "rms")
    assert set(frame["status"]) == {"finished"} and "lr" in frame and "rho" not in frame and "momentum" not in frame
    module = place / "my_rules.py"
    before = module.read_text()
    module.write_text(before.replace("1e-6", "1e-5"))
    done = run(place, "sweep", "study=rms", "trials=2", "--config-dir", "own")
    module.write_text(before)
    assert done.returncode == 2 and "the equations of rule:my_rules.RMS have been edited" in done.stderr, done.stderr


@pytest.mark.slow
def test_the_study_and_the_python_block_work_as_printed(place: Path) -> None:
    words = next(words for words in commands() if words[:2] == ["sweep", "study=mine"] and len(words) > 2)
    assert run(place, *words, *SMALL).returncode == 0
    for line in (["sweep", "study=mine"], ["status", "study=mine"], ["worker", "study=mine"]):
        assert line in commands()
        done = run(place, *line)
        assert done.returncode == 0, done.stderr
    script = next(block for block in blocks("python") if block.startswith("import torch"))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{script}assert len(frame) == 3 and y.shape == (60, 1, 20)",
        ],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_every_command_of_the_readme_has_legal_keys(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    found = commands()
    assert len(found) > 10
    with Composer([str(place / "own")]) as composer:
        for command, *words in found:
            short = {"data": "task", "cell": "variants"}
            words = [f"{short[command]}={w}" if command in short and "=" not in w else w for w in words]
            if "TASK" not in " ".join(words):
                composer.compose(command, words)
        with pytest.raises(UserError):
            composer.compose("sweep", ["nonsense=1"])


def test_what_is_printed_as_yaml_is_yaml() -> None:
    for block in blocks("yaml"):
        assert yaml.safe_load(block)


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]
