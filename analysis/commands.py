"""Trials with the commands that repeat them."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.frames import records
from search.errors import masked
from search.study import repeat
from search.study.plan import Plan


def with_commands(frame: pd.DataFrame, plans: Mapping[str, Plan]) -> pd.DataFrame:
    """All trials, without passwords, with a column ``command`` that repeats each; missing where a trial has no
    settings."""
    errors = frame["error"].map(masked, na_action="ignore")
    commands = pd.Series([command(row, plans[row["study"]]) for row in records(frame)], frame.index, dtype="str")
    return frame.assign(error=errors, command=commands)


def command(row: Mapping[Any, Any], plan: Plan) -> str | None:
    """The command that repeats one trial, given as a row of `analysis.load`; None where it has no settings."""
    own = {key: value for key, value in row.items() if value is not pd.NA and value == value}
    known = row["variant"] in plan.variants and row["task"] == plan.task["name"]
    if not known or not {*plan.space, "seed", "engine"} <= own.keys():
        return None
    try:
        return masked(repeat.train(plan, row["variant"], own))
    except KeyError:  # code of the user's own would tell, which a report does not run
        return None
