"""What holds for every task: the arrays of those that can be made here, and what own tasks and bad options lead to."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import yaml

from search import tasks
from search.errors import UserError
from search.losses import LOSSES
from search.tasks import Split, Task, _check, _cores, _music21, handwriting, speech
from search.tasks.task import SPLITS
from tests import fault_corpora, test_characters, test_iamondb, test_jsb, test_timit

CONFIGS = Path(__file__).parents[1] / "configs" / "task"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
SYNTHETIC = ("adding", "copy", "temporal_order", "memorization", "arithmetic", "xml")
SEEDED = (*SYNTHETIC, "handwriting", "speech", "mine")
CHORALES = 8


# Every task that can be made here, small


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Task]]:
    """Makes a task by its name, of little data, without a cache unless one is given."""
    folder = tmp_path_factory.mktemp("tasks")
    scores = _music21.scores()[:CHORALES]
    sizes = {
        handwriting: handwriting.Size((8, 4, 4), (2, 1, 1), (8, 12), 2.7, 0.25),
        speech: ({"train": 2, "valid": 1, "test": 1}, 2, (0, 0)),
    }

    def in_turn(function: Callable[[Any], Any], items: Any, label: str, show_progress: bool) -> list[Any]:
        return [function(item) for item in items]  # starting processes takes longer than the work

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_cores, "on_all_cores", in_turn)
        patch.setattr(_music21, "scores", lambda: scores)
        for module, size in sizes.items():
            patch.setitem(module.SIZES, "small", size)
        given: dict[str, dict[str, Any]] = {
            "jsb": {"cache": folder},
            "timit": {"path": test_timit.tree(folder / "timit")},
            "iamondb": {"path": test_iamondb.archives(folder / "iamondb", test_iamondb.miniature())},
            "benchmark": {"name": "jsb", "source": "boulanger", "path": folder / "a.json"},
            "mine": {"module": "tests.my_csv_task", "path": str(folder / "a.csv")},
        }
        for name in SYNTHETIC:
            size = {"digits": 4} if name == "arithmetic" else {"length": 25}
            given[name] = definition(name) | size | {"n_sequences": 12}
        given["characters"] = {"path": test_characters.written(folder / "a.txt", n=600), "length": 25}
        (folder / "a.json").write_text(json.dumps(test_jsb.SMALL))
        (folder / "a.csv").write_text(csv())

        def make(name: str, **options: Any) -> Task:
            if name in ("handwriting", "speech"):
                pytest.importorskip({"handwriting": "HersheyFonts", "speech": "espeakng_loader"}[name])
            return tasks.load({"name": name} | given.get(name, {}) | options)

        yield make


def definition(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())


def csv(**changed: str) -> str:
    """Ten sequences of two features; a row is changed by its number, as in ``_3="0,1.5,2.5,"``."""
    rng = np.random.default_rng(0)
    rows = [f"{k // 3},{rng.normal():.3f},{rng.normal():.3f},{k % 2}" for k in range(30)]
    for name, row in changed.items():
        rows[int(name[1:])] = row
    return "\n".join(["sequence,speed,force,label", *rows]) + "\n"


def arrays(split: Split) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(zip(split.inputs, split.targets, strict=True))


@pytest.mark.parametrize("name", [*NAMES, "benchmark", "mine"])
def test_arrays_are_as_their_loss_takes_them(name: str, small: Callable[..., Task]) -> None:
    task = small(name)
    assert task.loss in LOSSES and task.score and task.n_inputs > 0 and task.n_outputs > 0
    for split in (task.splits[name] for name in SPLITS):
        assert split.n_steps > 0 and split.n_predicted > 0
        for x, t in arrays(split):
            assert x.dtype == np.float32 and x.shape == (len(x), task.n_inputs) and np.isfinite(x).all()
            if task.n_classes is None:
                assert t.dtype == np.float32 and t.shape == (len(x), task.n_outputs)
            else:
                assert t.dtype == np.int32 and t.max() < task.n_classes
                assert len(t) == len(x) if task.loss == "categorical" else 0 < len(t) <= len(x)


@pytest.mark.parametrize("name", [*NAMES, "benchmark", "mine"])
def test_no_sequence_is_in_two_splits(name: str, small: Callable[..., Task]) -> None:
    task = small(name)
    digests = {
        split: {hashlib.sha256(x.tobytes() + t.tobytes()).digest() for x, t in arrays(task.splits[split])}
        for split in SPLITS
    }
    assert sum(map(len, digests.values())) == len(set().union(*digests.values()))


@pytest.mark.parametrize("name", [*NAMES, "benchmark", "mine"])
def test_every_load_gives_the_same_and_says_where_it_is_from(
    name: str, small: Callable[..., Task], tmp_path: Path
) -> None:
    once, again = small(name), small(name)
    assert once.hash == again.hash and once.source == again.source
    assert once.source and json.dumps(once.source)
    assert once.name in (name, "jsb")
    if name in NAMES and "cache" in tasks.options(definition(name)):
        made, read = small(name, cache=tmp_path), small(name, cache=str(tmp_path))
        assert made.hash == read.hash == once.hash


@pytest.mark.parametrize("name", SEEDED)
def test_another_seed_gives_other_data(name: str, small: Callable[..., Task]) -> None:
    assert small(name, seed=1).hash == small(name, seed=1).hash != small(name, seed=2).hash


@pytest.mark.parametrize("archive", fault_corpora.ARCHIVES)
def test_flipped_bit_of_an_archive_is_never_read_as_other_data(archive: str) -> None:
    count = fault_corpora.flips(archive, n=60, seed=1)
    assert count["other data"] == 0 and count["refused"] > 30


# Options


def error(given: Any) -> str:
    with pytest.raises(UserError) as raised:
        tasks.load(given)
    text = str(raised.value)
    assert "\n" not in text and "expected" in text
    return text


@pytest.mark.parametrize("name", NAMES)
def test_files_of_the_config_group_have_every_option_but_those_of_python(name: str) -> None:
    given = definition(name)
    assert given.pop("name") == name
    given.pop("module", None)
    assert [*given, "progress"] == tasks.options(definition(name)) or [*given] == tasks.options(definition(name))


@pytest.mark.parametrize("name", NAMES)
def test_options_of_every_task_have_types(name: str) -> None:
    for key in tasks.options(definition(name)):
        for value in ([1], {"a": 1}, 1.5, b"x"):
            assert error(definition(name) | {key: value}).startswith(f"task.{key}={value!r}: expected ")


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("adding", {"length": "abc"}, "task.length=abc: expected an integer from 2 to 100000"),
        ("adding", {"length": 1}, "task.length=1: expected an integer from 2 to 100000"),
        ("copy", {"length": 20}, "task.length=20: expected an integer from 21 to 100000"),
        ("temporal_order", {"length": 9}, "task.length=9: expected an integer from 10 to 100000"),
        ("memorization", {"length": 10}, "task.length=10: expected an integer from 11 to 100000"),
        ("arithmetic", {"digits": 19}, "task.digits=19: expected an integer from 1 to 18"),
        ("arithmetic", {"distractors": 101}, "task.distractors=101: expected an integer from 0 to 100"),
        ("characters", {}, "task.path=null: expected a text file in UTF-8"),
        ("adding", {"n_sequences": -1}, "task.n_sequences=-1: expected an integer from 4 to 1000000"),
        ("adding", {"seed": True}, "task.seed=True: expected an integer from 0 to 9223372036854775807"),
        ("adding", {"seed": 2**63}, "expected an integer from 0 to 9223372036854775807"),
        ("speech", {"size": "medium"}, "task.size=medium: expected small or paper"),
        ("handwriting", {"size": None}, "task.size=None: expected small or paper"),
        ("handwriting", {"seed": -1}, "task.seed=-1: expected an integer from 0"),
        ("jsb", {"source": "midi"}, "task.source=midi: expected music21 or boulanger"),
        ("jsb", {"progress": "maybe"}, "task.progress=maybe: expected true or false"),
        ("timit", {"path": 5}, "task.path=5: expected text or null"),
        ("timit", {"cache": False}, "task.cache=False: expected text or null"),
        ("jsb", {"width": 3}, "task.width: no such key; expected one of source, path, cache, progress"),
    ],
)
def test_bad_option_is_one_line_that_names_it(name: str, options: dict[str, Any], expected: str) -> None:
    assert expected in error(definition(name) | options)


@pytest.mark.parametrize("given", [None, "jsb", {}, {"name": None}, {"name": 5}, {"name": "jsb", "module": 7}])
def test_definition_that_is_none_is_told(given: Any) -> None:
    assert error(given).startswith("task=")


def test_sizes_are_those_of_their_modules() -> None:
    for module in (speech, handwriting):
        assert module.load.__annotations__["size"] == Literal[tuple(module.SIZES)]


# Own tasks


def refused(folder: Path, content: str | None) -> str:
    """What is said about a CSV file of the example of the README."""
    if content is not None:
        (folder / "steps.csv").write_text(content)
    return error({"name": "mine", "module": "tests.my_csv_task", "path": str(folder / "steps.csv")})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "(FileNotFoundError)"),
        ("", "No columns to parse from file (EmptyDataError)"),
        ("sequence,speed,label\n", "task=mine: train: expected at least one sequence, found none"),
        ("sequence,speed\n0,1\n", "(KeyError)"),
        ("speed,label\n0,1\n", "'sequence' (KeyError)"),
        (
            "sequence,label\n" + "".join(f"{k},0\n" for k in range(9)),
            "expected inputs [T, M] of at least one number, found [1, 0]",
        ),
        ("sequence,speed,label\n0,1,0\n0,2,1\n", "task=mine: valid: expected at least one sequence, found none"),
        (csv(_4=",0.5,0.5,1"), "a row without sequence (AssertionError)"),
        (csv(_4="1,abc,0.5,1"), "could not convert string to float: 'abc' (ValueError)"),
        (csv(_4="1,,0.5,1"), ", step 1: expected finite inputs, found nan in column 0"),
        (csv(_4="1,0.5,inf,1"), ", step 1: expected finite inputs, found inf in column 1"),
        (csv(_4="1,0.5,0.5,-7"), "step 1: expected a class from 0 to 1, or -1 where nothing is predicted, found -7"),
        (csv(_4="1,0.5,0.5,0.5"), "step 1: expected a class from 0 to 1, or -1 where nothing is predicted, found 0.5"),
        (csv(_4="1,0.5,0.5,"), "step 1: expected a class from 0 to 1, or -1 where nothing is predicted, found nan"),
        (csv(_4="1,0.5,0.5,100000"), "n_classes: expected a whole number from 1 to 10000 with loss=categorical"),
        (csv(_4="1,0.5,0.5,x"), "(TypeError)"),
        (csv(**{f"_{k}": f"{k // 3},1,1,-1" for k in range(30)}), "train: expected at least one step with something"),
    ],
)
def test_bad_csv_file_is_one_line_that_says_where(tmp_path: Path, content: str | None, expected: str) -> None:
    assert expected in refused(tmp_path, content)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (None, "expected a module own_task with a function load; No module named 'own_task' (ModuleNotFoundError)"),
        ("", "module 'own_task' has no attribute 'load'"),
        ("load = 5", "expected a module own_task with a function load, found a int"),
        ("import os\ndef load(:", "own_task.py:2: def load(:: invalid syntax (SyntaxError)"),
        (
            "\n\nimport no_such_package",
            "own_task.py:3: import no_such_package: No module named 'no_such_package' (ModuleNotFoundError)",
        ),
        ("import json\n\njson.loads('{')", "own_task.py:3: json.loads('{'): Expecting property name"),
        ("import sys\nsys.exit(3)", "own_task.py:2: sys.exit(3): 3 (SystemExit)"),
        ("def load(): pass", "own_task.load=NoneType: expected to return a search.tasks.Task"),
        ("def load():\n    import sys\n    sys.exit()", "own_task.py:3: sys.exit(): SystemExit"),
        ("def load():\n    return 1 / 0", "own_task.py:2: 1 / 0: division by zero (ZeroDivisionError)"),
        ("def load():\n    return open('a\\nb')", "(FileNotFoundError)"),
        (
            "import json\ndef load():\n    return json.loads('{')",
            "own_task.py:3: json.loads('{'): Expecting property name",
        ),
        ("from tests.echo import load", "task=mine: name of the Task of own_task.load=echo: expected mine"),
        ("def load(path, size=3): pass", "task.path: expected a value, there is none by default"),
        ("def load(path, /): pass", "expected own_task.load to make a task; "),
        ("def load(a: int, b: float, c: 'str | None' = None): pass", "task.a: expected a value"),
    ],
)
def test_own_module_that_fails_is_one_line_that_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str | None, expected: str
) -> None:
    own_module(tmp_path, monkeypatch, code)
    given = {"path": "x"} if code and "/)" in code else {}
    assert expected in error({"name": "mine", "module": "own_task"} | given)


def own_module(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str | None) -> None:
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "own_task", raising=False)
    if code is not None:
        (folder / "own_task.py").write_text(code + "\n")


def test_a_module_of_the_current_folder_comes_before_an_installed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, installed = tmp_path / "here", tmp_path / "installed"
    for folder, answer in ((here, "own"), (installed, "other")):
        folder.mkdir()
        own_module(folder, monkeypatch, f"def load(): raise ValueError('{answer}')")  # the last is found first
    monkeypatch.chdir(here)
    definition = {"name": "mine", "module": "own_task"}
    assert "own_task.py:1: raise ValueError('own'): own (ValueError)" in error(definition)
    monkeypatch.delitem(sys.modules, "own_task")
    sys.path.remove(str(here))  # of a command that only reads
    assert "raise ValueError('other')" in error(definition)


def test_annotations_of_own_tasks_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_module(
        tmp_path,
        monkeypatch,
        "from typing import Literal\nfrom pathlib import Path\nfrom tests.echo import load as echo\n"
        "def load(n: int, x: float = 0.5, on: bool = False, kind: Literal['a', 2] = 'a', file: Path | None = None,\n"
        "         free: list[int] = [], bare=None, **others): return echo()",
    )
    own = {"name": "echo", "module": "own_task", "n": 3}
    task = tasks.load(own | {"x": 2, "on": True, "kind": 2, "file": "a", "free": [1], "bare": "?", "more": 1})
    assert task.name == "echo"
    for key, value, expected in [
        ("n", 1.0, "an integer"),
        ("n", True, "an integer"),
        ("x", "1", "a number"),
        ("x", True, "a number"),
        ("on", 1, "true or false"),
        ("kind", "b", "a or 2"),
        ("kind", 2.0, "a or 2"),
        ("file", 3, "text or null"),
    ]:
        shown = value if isinstance(value, str) else repr(value)
        assert error(own | {key: value}) == f"task.{key}={shown}: expected {expected}"


def test_annotations_that_only_a_type_checker_can_read_say_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_module(tmp_path, monkeypatch, "from tests.echo import load as echo\ndef load(n: 'Unknown'): return echo()")
    assert tasks.load({"name": "echo", "module": "own_task", "n": []}).name == "echo"


# The check of arrays


def made(loss: str, change: Callable[[dict[str, Split]], None] = lambda splits: None, **attributes: Any) -> Task:
    """A task of three sequences of four steps a split, changed before it is made."""
    kinds = {
        "bernoulli": np.zeros((4, 2), np.float32),
        "squared": np.zeros((4, 2), np.float32),
        "categorical": np.array([0, -1, 2, 1], np.int32),
        "ctc": np.array([2, 0], np.int32),
    }
    splits = {
        name: Split([np.ones((4, 3), np.float32) for _ in range(3)], [kinds[loss].copy() for _ in range(3)])
        for name in SPLITS
    }
    change(splits)
    classes = 3 if loss in ("categorical", "ctc") else None
    return Task("t", splits, loss, "nats", **({"n_classes": classes} | attributes))


def put(
    part: str, value: Any, place: Any = None, split: str = "valid", k: int = 1
) -> Callable[[dict[str, Split]], None]:
    """A change: at a place in the inputs or targets of a sequence, or else all of them."""

    def change(splits: dict[str, Split]) -> None:
        arrays: Any = getattr(splits[split], part)
        if place is None:
            arrays[k] = value
        else:
            arrays[k] = arrays[k].astype(np.result_type(arrays[k], np.min_scalar_type(value)))
            arrays[k][place] = value

    return change


def emptied(splits: dict[str, Split]) -> None:
    splits["test"] = Split([], [])


def unlabelled(splits: dict[str, Split]) -> None:
    splits["test"] = Split(splits["test"].inputs, [np.full(4, -1)] * 3)


def unpredicted(splits: dict[str, Split]) -> None:
    splits["test"] = Split(splits["test"].inputs, [np.full((4, 2), np.nan)] * 3)


@pytest.mark.parametrize(
    ("loss", "change", "expected"),
    [
        ("bernoulli", put("inputs", np.nan, (2, 1)), "valid: sequence 1, step 2: expected finite inputs, found nan in"),
        ("ctc", put("inputs", -np.inf, (3, 0)), "sequence 1, step 3: expected finite inputs, found -inf in column 0"),
        ("squared", put("inputs", 1e308, (0, 2)), "sequence 1, step 0: expected finite inputs, found inf in column 2"),
        (
            "bernoulli",
            put("inputs", np.ones((4, 2))),
            "valid: sequence 1: expected inputs [T, 3] of at least one number, found [4, 2]",
        ),
        (
            "bernoulli",
            put("inputs", np.ones((0, 3))),
            "valid: sequence 1: expected inputs [T, 3] of at least one number, found [0, 3]",
        ),
        (
            "bernoulli",
            put("inputs", np.ones(4)),
            "valid: sequence 1: expected inputs [T, 3] of at least one number, found [4]",
        ),
        (
            "bernoulli",
            put("inputs", np.array(1.0)),
            "valid: sequence 1: expected inputs [T, 3] of at least one number, found []",
        ),
        ("bernoulli", put("inputs", [[1.0] * 3] * 4), "inputs that are a NumPy array of numbers, found a list"),
        ("bernoulli", put("inputs", np.full((4, 3), "a")), "a NumPy array of numbers, found dtype <U1"),
        ("bernoulli", put("inputs", np.full((4, 3), 1j)), "a NumPy array of numbers, found dtype complex128"),
        (
            "bernoulli",
            put("inputs", np.ones((5, 3))),
            "sequence 1: expected targets [5, 2], a row a step, found [4, 2]",
        ),
        ("bernoulli", put("targets", 0.5, (2, 1)), "valid: sequence 1, step 2: expected each target to be 0 or 1"),
        ("bernoulli", put("targets", np.nan, (2, 1)), "valid: sequence 1, step 2: expected each target to be 0 or 1"),
        (
            "bernoulli",
            put("targets", np.zeros((4, 1))),
            "sequence 1: expected targets [4, 2], a row a step, found [4, 1]",
        ),
        ("bernoulli", put("targets", np.zeros(4)), "sequence 1: expected targets [4, 2], a row a step, found [4]"),
        (
            "bernoulli",
            put("targets", np.full((4, 2), None)),
            "targets that are a NumPy array of numbers, found dtype obj",
        ),
        (
            "squared",
            put("targets", np.inf, (1, 0)),
            "valid: sequence 1, step 1: expected finite targets, or NaN in all",
        ),
        (
            "squared",
            put("targets", np.nan, (1, 0)),
            "valid: sequence 1, step 1: expected finite targets, or NaN in all",
        ),
        ("squared", put("targets", 1e300, (1, 0)), "valid: sequence 1, step 1: expected finite targets, or NaN in all"),
        ("squared", unpredicted, "test: expected at least one step with something to predict, found none"),
        ("categorical", put("targets", -7, 3), "valid: sequence 1, step 3: expected a class from 0 to 2, or -1"),
        ("categorical", put("targets", 3, 0), "valid: sequence 1, step 0: expected a class from 0 to 2, or -1"),
        ("categorical", put("targets", 0.5, 0), "valid: sequence 1, step 0: expected a class from 0 to 2, or -1"),
        ("categorical", put("targets", np.nan, 0), "valid: sequence 1, step 0: expected a class from 0 to 2, or -1"),
        ("categorical", put("targets", 2**32, 0), "valid: sequence 1, step 0: expected a class from 0 to 2, or -1"),
        ("categorical", put("targets", np.zeros(3, int)), "sequence 1: expected targets [4], one a step, found [3]"),
        (
            "categorical",
            put("targets", np.zeros((4, 1), int)),
            "sequence 1: expected targets [4], one a step, found [4, 1]",
        ),
        ("categorical", unlabelled, "test: expected at least one step with something to predict, found none"),
        ("categorical", emptied, "test: expected at least one sequence, found none"),
        ("categorical", lambda splits: splits["test"].inputs.pop(), "test: expected targets of 2 sequences, found 3"),
        ("categorical", lambda splits: splits.pop("test"), "splits=['train', 'valid']: expected train, valid, test"),
        ("ctc", put("targets", -1, 0), "valid: sequence 1, target 0: expected a class from 0 to 2, found -1"),
        ("ctc", put("targets", 3, 1), "valid: sequence 1, target 1: expected a class from 0 to 2, found 3"),
        ("ctc", put("targets", np.zeros(0, int)), "valid: sequence 1: expected targets [L], L > 0, found [0]"),
        ("ctc", put("targets", np.zeros((2, 2), int)), "valid: sequence 1: expected targets [L], L > 0, found [2, 2]"),
        (
            "ctc",
            put("targets", np.array([1, 1, 1])),
            "valid: sequence 1: expected at least 5 steps for its targets, found 4",
        ),
    ],
)
def test_illegal_array_is_one_line_that_names_split_sequence_and_step(
    loss: str, change: Callable[[dict[str, Split]], None], expected: str
) -> None:
    with pytest.raises(UserError) as raised:
        made(loss, change)
    assert str(raised.value).startswith("task=t: ") and expected in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize("n_classes", [0, -1, 2.5, float("nan"), float("inf"), 10_001, True, "3", 10**400])
def test_illegal_number_of_classes_is_told(loss: str, n_classes: Any) -> None:
    with pytest.raises(UserError, match="t: n_classes: expected"):
        made(loss, n_classes=n_classes)


@pytest.mark.parametrize("score", ["", " ", "a\nb", "\x1b[31mred", None])
def test_illegal_name_of_a_score_is_told(score: Any) -> None:
    with pytest.raises(UserError, match="expected a line of text"):
        Task("t", made("ctc").splits, "ctc", score, n_classes=made("ctc").n_classes)


def test_unknown_loss_is_told() -> None:
    with pytest.raises(UserError, match="loss=hinge: expected one of bernoulli, squared, categorical, ctc"):
        Task("t", made("ctc").splits, "hinge", "nats")


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_arrays_of_any_numbers_are_kept_in_those_of_the_loss(loss: str) -> None:
    expected = made(loss)

    def change(splits: dict[str, Split]) -> None:
        for name, split in splits.items():
            inputs = [x.astype(np.int8) for x in split.inputs]
            splits[name] = Split(inputs, [t.astype(np.float64) for t in split.targets])

    classes = None if expected.n_classes is None else np.float64(expected.n_classes)
    task = made(loss, change, n_classes=classes)
    assert task.hash == expected.hash and repr(task.n_classes) == repr(expected.n_classes)
    for split in task.splits.values():
        assert {x.dtype for x in split.inputs} == {np.dtype(np.float32)}
        assert {t.dtype for t in split.targets} == {t.dtype for t in expected.splits["train"].targets}


def test_first_illegal_step_is_found_in_any_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_check, "_BLOCK", 2)
    for k in range(3):
        with pytest.raises(UserError, match=f"test: sequence {k}, step 3: expected finite"):
            made("bernoulli", put("inputs", np.nan, (3, 0), "test", k))
