"""What a plan comes to: its cells, the search spaces of its variants, and the seeds of its trials."""

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any

from search import cells, rules
from search.base.randomness import derive_seed
from search.errors import expect
from search.study.plan import Plan
from search.study.space import LAYERS, REQUIRED, Space, n_grid_points, parse


def with_fingerprints(plan: Plan) -> Plan:
    """The plan with the fingerprints of its cells as they are now; see `check` for what it raises."""
    check(plan)
    found = {name: _fingerprint(plan, name) for name in plan.variants}
    if rules.is_own(plan.optimizer):  # ours do not change
        equations = plan.rule.program.signature
        found[f"rule:{plan.optimizer['rule']}"] = hashlib.sha256(equations.encode()).hexdigest()
    return dataclasses.replace(plan, cells=found)


def _fingerprint(plan: Plan, variant: str) -> str:
    """SHA-256 of the equations of a variant's cell, with every combination of what the space samples of it."""
    sampled = {d.name: d.values for d in space_of(plan, variant) if d.name not in _trained_by(plan) and d.values}
    combinations = [dict(zip(sampled, values, strict=True)) for values in itertools.product(*sampled.values())]
    text = [cells.define(plan.variants[variant] | own).fingerprint for own in combinations]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()


def check(plan: Plan) -> None:
    """Raises UserError unless every cell and every distribution of the plan can be made.

    It loads the modules of users' cells: reading a study never does.
    """
    for name, definition in plan.variants.items():
        cells.define(definition)
        if plan.sampler == "grid":
            points = n_grid_points(space_of(plan, name))
            expect(plan.trials <= points, "trials", plan.trials, f"at most {points}, the points of the grid")
        for dimension in space_of(plan, name):
            if dimension.name not in _trained_by(plan):
                for value in dimension.values or (dimension.value(dimension.low), dimension.value(dimension.high)):
                    cells.define(definition | {dimension.name: value})


def space_of(plan: Plan, variant: str) -> Space:
    """The search space, checked against the toggles of a variant's cell and the settings of the update rule."""
    legal = (*_trained_by(plan), *cells.toggles(cells.define(plan.variants[variant])))
    required = (*REQUIRED, *rules.needed(plan.optimizer))
    return parse(plan.space, legal, required, partial(rules.check_value, plan.rule))


def toggles(plan: Plan, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings of a trial that are toggles of its cell."""
    trained_by = _trained_by(plan)
    return {name: value for name, value in settings.items() if name not in trained_by}


def _trained_by(plan: Plan) -> tuple[str, ...]:
    """Names of the settings that are not the cell's."""
    return (*REQUIRED, *LAYERS, *rules.legal(plan.rule))


def draw_seed(plan: Plan, variant: str) -> int:
    """The seed of the sampler of one variant; the same for all where draws are paired.

    A setting's draws depend on this, on its own name and on the number of the trial, so that studies of one seed
    and task are paired with each other too, in all settings that they have in common (not with ``sampler=qmc``,
    whose points depend on the number of dimensions).
    """
    own = () if plan.paired and not plan.learns else (variant,)
    return derive_seed(plan.seed, plan.task["name"], *own)


def trial_seed(plan: Plan, variant: str, number: int) -> int:
    """The seed of a trial's weights and noise."""
    own = () if plan.paired else (variant,)
    return derive_seed(plan.seed, plan.task["name"], *own, number)
