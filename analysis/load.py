"""Study folders to tidy frames. Nothing is computed here and nothing is written, the storage included."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy

from search.errors import UserError, expect, one_line
from search.study.claims import ENDED, VERSION, Record
from search.study.plan import PLAN_FILE, Plan, find, read_plan
from search.study.reader import StudyReader
from search.study.space import NUMERIC
from search.study.storage import STATUS
from search.study.tables import TrialState

KEYS = ("study", "task", "variant", "trial", "status")
OUTCOMES = (
    "seed",
    "n_parameters",
    "valid_score",
    "test_score",
    "best_epoch",
    "epochs",
    "last_valid_score",
    "train_seconds",
)
PROVENANCE = ("engine", "device", "dtype", "data_hash", "git_revision")
ENDING = ("started", "finished", "error")

INTEGERS = ("trial", "hidden_size", "seed", "n_parameters", "best_epoch", "epochs")
FLOATS = ("valid_score", "test_score", "last_valid_score", "train_seconds")
TIMES = ("started", "finished")
CURVE = ("study", "task", "variant", "trial", "epoch", "train_loss", "valid_score")
Studies = str | Path | Sequence[str | Path]


def load(study: Studies, runs: str | Path = "runs", storage: str | None = None) -> pd.DataFrame:
    """One row a planned trial, whether it has ended or not, ordered by study, task, variant and trial.

    Args:
        study: a name under `runs`, or the path of a study's folder; several as a sequence or, of names, as ``"a,b"``.
        runs: the folder of studies.
        storage: where the studies are kept, if that is not their own folders: see `search.study.plan.storage_url`.

    Returns:
        A frame with the columns

        ============== =====================================================================================
        study          name of the study
        task, variant  ordered categories, in planned order
        trial          number within its task and variant, from 0
        status         waiting, running, finished, diverged (loss became NaN or infinite) or failed (an error)
        hidden_size    units in the hidden layer (per direction)
        ...            every other setting that is sampled: those of the optimizer (lr, momentum), input_noise (the
                       standard deviation of the noise on the inputs), toggles of cells (forget_bias)
        seed           of the trial's weights and noise
        n_parameters   trained weights
        valid_score    best validation score; lower is better; unit of the task
        test_score     test score of the weights with that validation score
        best_epoch     epoch of that validation score
        epochs         epochs run
        last_valid_score
                       validation score of the last epoch
        train_seconds  seconds of training due to this trial
        engine, device, dtype, data_hash, git_revision
                       what it ran with, and on which data
        ..._version    version of each library: python_version, torch_version, ...
        started        time, UTC
        finished       time, UTC
        error          of a failed trial
        ============== =====================================================================================

        Settings and results are missing (NA, NaN) until a trial ends. A diverged trial has its last finite scores.

    Raises:
        UserError: no such study, or one given twice, or its plan or storage cannot be read.
    """
    return tidy([(plan, _read_trials(folder, storage)) for folder, plan in find_all(study, runs)])


def tidy(studies: Sequence[tuple[Plan, Mapping[tuple[str, str], Iterable[Record]]]]) -> pd.DataFrame:
    """The frame of `load`, of studies given by their plans and their trials by task and variant."""
    tasks: dict[str, None] = {}
    variants: dict[str, None] = {}
    listed: list[dict[str, Any]] = []
    distributions: dict[str, Any] = {}
    for plan, trials in studies:
        distributions |= {name: spec.get("distribution") for name, spec in plan.space.items()}
        own_tasks = dict.fromkeys([plan.task["name"], *(task for task, _ in trials)])
        own_variants = dict.fromkeys([*plan.variants, *(variant for _, variant in trials)])
        tasks, variants = tasks | own_tasks, variants | own_variants
        for task in own_tasks:
            for variant in own_variants:
                planned = range(plan.trials) if variant in plan.variants else range(0)
                listed += rows(plan.study, task, variant, planned, trials.get((task, variant), ()))

    further = dict.fromkeys(name for row in listed for name in row)
    versions = [name for name in further if name.endswith(VERSION)]
    known = (*KEYS, *OUTCOMES, *PROVENANCE, *ENDING, *versions)
    settings = [*distributions, *(name for name in further if name not in known and name not in distributions)]
    columns = [*KEYS, *settings, *OUTCOMES, *PROVENANCE, *versions, *ENDING]
    frame = pd.DataFrame(listed, columns=columns)
    for name in INTEGERS:  # not by way of the frame, where a gap makes floats of them: seeds have 63 bits
        frame[name] = pd.array([row.get(name) for row in listed], dtype="Int64")
    for name in (*FLOATS, *(name for name, kind in distributions.items() if kind in NUMERIC and "_int" not in kind)):
        frame[name] = pd.to_numeric(frame[name]).astype("float64")
    for name in TIMES:
        frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
    for name in ("study", "status", *PROVENANCE, *versions, "error"):
        frame[name] = frame[name].astype("str")
    for name in settings:
        if frame[name].dtype == object:  # toggles with gaps
            frame[name] = frame[name].convert_dtypes()
    return _categories(frame, list(tasks), list(variants))


def sampled(frame: pd.DataFrame) -> list[str]:
    """Columns of the sampled settings of a frame of `load`."""
    known = (*KEYS, *OUTCOMES, *PROVENANCE, *ENDING)
    return [name for name in frame.columns.astype(str) if name not in known and not name.endswith(VERSION)]


def load_curves(
    study: Studies, runs: str | Path = "runs", storage: str | None = None, trials: pd.DataFrame | None = None
) -> pd.DataFrame:
    """One row an epoch of every trial that is finished or has diverged: study, task, variant, trial, epoch, train_loss,
    valid_score.

    Trials whose curve has no file are left out, and the log names them.

    Args:
        study, runs, storage: as of `load`.
        trials: rows of `load`, to return the curves of these trials alone.

    Raises:
        UserError: as `load`, or a curve is not what its trial has recorded.
    """
    chosen = None if trials is None else set(zip(*(trials[name] for name in KEYS[:4]), strict=True))
    parts = []
    tasks: dict[str, None] = {}
    variants: dict[str, None] = {}
    for place, (folder, plan) in enumerate(find_all(study, runs)):
        tasks |= {plan.task["name"]: None}
        variants |= dict.fromkeys(plan.variants)
        for task, variant, number, table in _read_curves(folder, plan.study, storage, chosen):
            curve = table.to_pandas(use_threads=False)
            key: tuple[Any, ...] = (place, plan.study, task, variant, number)
            for position, (name, value) in enumerate(zip(("place", *CURVE[:4]), key, strict=True)):
                curve.insert(position, name, value)
            parts.append(curve)
    curves = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["place", *CURVE])
    types = {"trial": "int64", "epoch": "int64", "train_loss": "float64", "valid_score": "float64", "study": "str"}
    curves = curves.astype(types)
    curves = _categories(
        curves, list(tasks | dict.fromkeys(curves["task"])), list(variants | dict.fromkeys(curves["variant"]))
    )
    return curves.sort_values(["place", *CURVE[1:5]], ignore_index=True)[list(CURVE)]


def load_plans(study: Studies, runs: str | Path = "runs") -> dict[str, Plan]:
    """The plans of one or more studies, by the name in the column ``study`` of `load`, which raises the same."""
    return {plan.study: plan for _, plan in find_all(study, runs)}


def find_all(study: Studies, runs: str | Path = "runs") -> list[tuple[Path, Plan]]:
    """The folders and plans of one or more studies, given as `load` takes them.

    Raises:
        UserError: there is no such study, none is given, two have one name, or a plan cannot be read.
    """
    found = [(folder, read_plan(folder)) for folder in folders_of(study, runs)]
    expect_different([plan.study for _, plan in found])
    return found


def folders_of(study: Studies, runs: str | Path) -> list[Path]:
    """The folders of one or more studies, given as `load` takes them; raises UserError where there is none."""
    if isinstance(study, str | Path):
        whole = any((folder / PLAN_FILE).is_file() for folder in (Path(runs) / study, Path(study)))
        names = [study] if whole else [name.strip() for name in str(study).split(",")]
    else:
        names = list(study)
    expect(len(names) > 0, "study", study, "at least one study")
    return [find(name, runs) for name in names]


def expect_different(names: Sequence[str]) -> None:
    """Raises UserError if two studies have one name."""
    for place, name in enumerate(names):
        expect(name not in names[:place], "study", name, "studies of different names")


def rows(study: str, task: str, variant: str, planned: range, trials: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """The rows of `load` of one task and variant, of trials that are `planned` or in the storage, by number; what is
    missing of one is not in its row."""
    found = {trial.number: trial for trial in trials}
    for number in sorted({*planned, *found}):
        trial = found.get(number)
        state = TrialState.WAITING if trial is None else trial.state
        result: dict[str, Any] = {}
        if trial is not None and trial.started is not None:
            result["started"] = trial.started.isoformat()
        if trial is not None and state in ENDED:
            result |= trial.flat
        yield result | dict(zip(KEYS, (study, task, variant, number, STATUS[state]), strict=True))


def _read_trials(folder: Path, storage: str | None) -> dict[tuple[str, str], list[Record]]:
    with _opened(folder, storage) as study:
        return study.trials()


def _read_curves(
    folder: Path, name: str, storage: str | None, chosen: Container[tuple[str, str, str, int]] | None
) -> list[tuple[str, str, int, Any]]:
    """The curves of a study's trials, or of those that are chosen."""
    with _opened(folder, storage) as study:
        trials = {
            key: [trial for trial in each if chosen is None or (name, *key, trial.number) in chosen]
            for key, each in study.trials().items()
        }
        return list(study.curves(trials))


@contextmanager
def _opened(folder: Path, storage: str | None) -> Iterator[StudyReader]:
    study = StudyReader.open(folder, storage=storage)
    try:
        yield study
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise UserError(f"storage of {folder}: expected a readable Optuna storage ({one_line(error)})") from None
    finally:
        study.close()


def _categories(frame: pd.DataFrame, tasks: list[str], variants: list[str]) -> pd.DataFrame:
    ordered: Mapping[str, Any] = {
        "task": pd.CategoricalDtype(tasks, ordered=True),
        "variant": pd.CategoricalDtype(variants, ordered=True),
    }
    return frame.astype(ordered)
