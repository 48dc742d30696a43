"""A study folder to tidy frames. Nothing is computed here and nothing is written, the storage included."""

from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from optuna.trial import TrialState

from search.errors import UserError
from search.storage import STATUS, connect, default_url, masked, one_line
from search.study import Plan, find, read_plan

KEYS = ("study", "task", "variant", "trial", "status")
SETTINGS = ("hidden_size", "lr", "momentum", "input_noise")
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
FLOATS = ("lr", "momentum", "input_noise", "valid_score", "test_score", "last_valid_score", "train_seconds")
TIMES = ("started", "finished")


def load(study: str | Path, runs: str | Path = "runs") -> pd.DataFrame:
    """One row a planned trial, whether it has ended or not, ordered by task, variant and trial.

    Args:
        study: a name under `runs`, or the path of a study's folder.
        runs: the folder of studies.

    Returns:
        A frame with the columns

        ============== =====================================================================================
        study          name of the study
        task, variant  ordered categories, in planned order
        trial          number within its task and variant, from 0
        status         waiting, running, finished, diverged (loss became NaN or infinite) or failed (an error)
        hidden_size    units in the hidden layer (per direction)
        lr             learning rate
        momentum       Nesterov momentum
        input_noise    standard deviation of the noise added to the inputs
        ...            any further sampled setting: a toggle, forget_bias
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
        UserError: no such study, or its plan or storage cannot be read.
    """
    folder = find(study, runs)
    plan = read_plan(folder)
    trials = _read_trials(folder, plan)
    task_name = plan.task["name"]

    tasks = list(dict.fromkeys([task_name, *(task for task, _ in trials)]))
    variants = list(dict.fromkeys([*plan.variants, *(variant for _, variant in trials)]))
    rows: list[dict[str, Any]] = []
    further: dict[str, None] = {}
    versions: dict[str, None] = {}
    for task in tasks:
        for variant in variants:
            found = {trial.number: trial for trial in trials.get((task, variant), [])}
            planned = range(plan.trials) if variant in plan.variants else ()
            for number in sorted({*planned, *found}):
                trial = found.get(number)
                state = TrialState.WAITING if trial is None else trial.state
                result: dict[str, Any] = {}
                if trial is not None and trial.datetime_start is not None:
                    result["started"] = trial.datetime_start.astimezone(UTC).isoformat()  # Optuna's is local time
                if trial is not None and state.is_finished():
                    result |= trial.user_attrs.get("result") or {}
                used = {f"{name}_version": value for name, value in (result.pop("versions", None) or {}).items()}
                key = dict(zip(KEYS, (plan.study, task, variant, number, STATUS[state]), strict=True))
                rows.append(result | used | key)
                versions |= dict.fromkeys(used)
                further |= dict.fromkeys(result)

    known = (*KEYS, *SETTINGS, *OUTCOMES, *PROVENANCE, *ENDING)
    others = [name for name in further if name not in known]
    columns = [*KEYS, *SETTINGS, *others, *OUTCOMES, *PROVENANCE, *versions, *ENDING]
    frame = pd.DataFrame(rows, columns=columns)
    for name in INTEGERS:
        frame[name] = frame[name].astype("Int64")
    for name in FLOATS:
        frame[name] = pd.to_numeric(frame[name]).astype("float64")
    for name in TIMES:
        frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
    for name in ("study", "status", *PROVENANCE, *versions, "error"):
        frame[name] = frame[name].astype("str")
    for name in others:
        if frame[name].dtype == object:  # toggles with gaps
            frame[name] = frame[name].convert_dtypes()
    return _categories(frame, tasks, variants)


def load_curves(study: str | Path, runs: str | Path = "runs") -> pd.DataFrame:
    """One row an epoch of every trial that has a curve: task, variant, trial, epoch, train_loss, valid_score.

    Raises:
        UserError: no such study, or a curve that cannot be read.
    """
    folder = find(study, runs)
    plan = read_plan(folder)
    parts = []
    for path in sorted((folder / "curves").glob("*/*/*.parquet")):
        if not path.stem.isdigit():
            continue
        try:
            curve = pq.read_table(path, columns=["epoch", "train_loss", "valid_score"], partitioning=None).to_pandas()
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path}: expected a trial's curve ({one_line(error)})") from None
        curve.insert(0, "task", path.parts[-3])
        curve.insert(1, "variant", path.parts[-2])
        curve.insert(2, "trial", int(path.stem))
        parts.append(curve)
    columns = ["task", "variant", "trial", "epoch", "train_loss", "valid_score"]
    curves = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    curves = curves.astype({"trial": "int64", "epoch": "int64", "train_loss": "float64", "valid_score": "float64"})
    tasks = dict.fromkeys([plan.task["name"], *curves["task"]])
    variants = dict.fromkeys([*plan.variants, *curves["variant"]])
    curves = _categories(curves, list(tasks), list(variants))
    return curves.sort_values(["task", "variant", "trial", "epoch"], ignore_index=True)


def _read_trials(folder: Path, plan: Plan) -> dict[tuple[str, str], list[optuna.trial.FrozenTrial]]:
    """{(task, variant): trials} of the storage's studies ``STUDY/TASK/VARIANT``."""
    url = plan.storage or default_url(folder)
    storage = connect(url, read_only=True)
    trials = {}
    try:
        for frozen in storage.get_all_studies():
            *study, task, variant = frozen.study_name.rsplit("/", 2)
            if study == [plan.study]:
                trials[task, variant] = storage.get_all_trials(frozen._study_id, deepcopy=False)
    except Exception as error:  # drivers have exceptions of their own
        raise UserError(f"{masked(url)}: expected a readable Optuna storage ({one_line(error)})") from None
    finally:
        storage.engine.dispose()
    return trials


def _categories(frame: pd.DataFrame, tasks: list[str], variants: list[str]) -> pd.DataFrame:
    ordered: Mapping[str, Any] = {
        "task": pd.CategoricalDtype(tasks, ordered=True),
        "variant": pd.CategoricalDtype(variants, ordered=True),
    }
    return frame.astype(ordered)
