"""Published findings, judged on the data of a study.

A finding is a statement and, for each task it speaks of, one or more named tests, all of which must hold. The verdict
on a task is one of

``reproduced``
    the data show what the statement says;
``contradicted``
    they show the opposite;
``inconclusive``
    they show neither, with an estimate of how many more trials would;
``not testable here``
    the study lacks the task, a variant or a setting that the statement is about;
``for reference``
    a number to look at, which nothing is tested against.

That a difference is not significant does not show that there is none, and a significant one may be too small to
matter. So differences are judged against a margin: one below it counts as none. "Worse" is to be worse by at least the
margin, "no difference" to differ by less than it, either way. A statement is reproduced, or contradicted, only if that,
or its opposite, is shown by one-sided tests at 5 % on the standard errors of `compare`; a difference must be
significant there too. All variants named must pass, which needs no adjustment; any of them can contradict, so that m
variants contradict at 5 % / m. Each verdict is then wrong in at most one study of twenty, whatever the truth is.

Shares and marginals are those of vanilla (docs/protocol.md, 5), of E[score | settings] and with their errors over the
trials (`Fanova.debiased`, `rise`, `rises`, `curve`), each bound or direction at 1 % one-sided: a statement of up to
five such tests is then contradicted by mistake in at most 5 % of studies. A search that was led by scores has no such
errors.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from analysis.importance import SCORES
from analysis.statements import (
    INCONCLUSIVE,
    NOT_TESTABLE,
    Evidence,
    Outcome,
    all_of,
    basin,
    diminishing,
    no_difference,
    none_better,
    rank,
    reference,
    share,
    trend,
    worse,
)
from search.errors import UserError, expect, one_line

COLUMNS = ("finding", "statement", "task", "verdict", "evidence", "more_trials")
PUBLISHED = Path(str(resources.files("configs"))) / "finding" / "odyssey.yaml"


@dataclass(frozen=True)
class NamedTest:
    """One named test with its parameters, on the tasks it is for."""

    name: str
    tasks: tuple[str, ...]
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """A statement and the tests that it amounts to."""

    id: str
    statement: str
    tests: tuple[NamedTest, ...]


def judge(findings: Sequence[Finding], evidence: Mapping[str, Evidence]) -> pd.DataFrame:
    """The verdict on every finding and task.

    Args:
        findings: as of `read`.
        evidence: by task.

    Returns:
        One row a finding and task it speaks of: finding (its id), statement, task, verdict, evidence (the numbers, in
        words), more_trials (of each variant, that would settle an inconclusive one; NaN elsewhere or if unknown).
    """
    rows = []
    for finding in findings:
        for task in dict.fromkeys(task for test in finding.tests for task in test.tasks):
            if task in evidence:
                tests = [test for test in finding.tests if task in test.tasks]
                outcomes = [_TESTS[test.name].judge(evidence[task], **test.parameters) for test in tests]
                outcome = all_of(outcomes)
            else:
                outcome = Outcome(NOT_TESTABLE, f"The study has no task {task}.")
            more = outcome.more if outcome.verdict == INCONCLUSIVE else math.nan
            rows.append((finding.id, finding.statement, task, outcome.verdict, outcome.evidence, more))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def read(path: str | Path = PUBLISHED) -> list[Finding]:
    """The findings in a YAML file: a list of ``id``, ``statement`` and ``tests``, each with ``test``, ``tasks`` and its
    parameters (see ``configs/finding/odyssey.yaml``).

    Raises:
        UserError: the file cannot be read; the line names the key that is wrong.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"findings={path}: expected a readable YAML file ({one_line(error)})") from None
    _expect(isinstance(content, list) and bool(content), path, "(top)", type(content).__name__, "a list of findings")
    found: dict[str, Finding] = {}
    for place, entry in enumerate(content):
        key = f"[{place}]"
        _expect_keys(path, key, entry, ("id", "statement", "tests"), ("id", "statement", "tests"))
        name = entry["id"]
        _expect(isinstance(name, str) and bool(name), path, f"{key}.id", name, "a name")
        _expect(name not in found, path, f"{key}.id", name, "each id once")
        _expect(isinstance(entry["statement"], str), path, f"{name}.statement", entry["statement"], "a text")
        tests = entry["tests"]
        _expect(isinstance(tests, list) and bool(tests), path, f"{name}.tests", tests, "a list of tests")
        parsed = tuple(_parse_test(path, f"{name}.tests[{i}]", test) for i, test in enumerate(tests))
        found[name] = Finding(name, entry["statement"], parsed)
    return list(found.values())


Check = tuple[Callable[[Any], bool], str]  # whether a value is legal, and what is
_NAMES: Check = (lambda x: isinstance(x, list) and bool(x) and all(isinstance(i, str) for i in x), "a list of names")
_NAME: Check = (lambda x: isinstance(x, str) and bool(x), "a name")
_SETTINGS: Check = (lambda x: _NAME[0](x) or _NAMES[0](x), "the name of a setting, or a list of them")
_SCORE: Check = (lambda x: x in SCORES, " or ".join(SCORES))
_NUMBER: Check = (lambda x: isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x), "a number")
_FRACTION: Check = (lambda x: _NUMBER[0](x) and 0 < x < 1, "a number between 0 and 1")
_PLACE: Check = (lambda x: isinstance(x, int) and not isinstance(x, bool) and x >= 1, "a whole number of at least 1")
_DIRECTION: Check = (lambda x: x in ("rising", "falling"), "rising or falling")


@dataclass(frozen=True)
class _Kind:
    judge: Callable[..., Outcome]
    parameters: Mapping[str, Check]
    optional: tuple[str, ...] = ()


_TESTS = {
    "worse": _Kind(worse, {"variants": _NAMES, "margin": _FRACTION}),
    "no_difference": _Kind(no_difference, {"variants": _NAMES, "margin": _FRACTION}),
    "none_better": _Kind(none_better, {"margin": _FRACTION}),
    "share": _Kind(
        share, {"of": _SETTINGS, "score": _SCORE, "above": _FRACTION, "below": _FRACTION}, optional=("above", "below")
    ),
    "rank": _Kind(rank, {"of": _NAME, "score": _SCORE, "place": _PLACE}),
    "trend": _Kind(trend, {"of": _NAME, "score": _SCORE, "direction": _DIRECTION}),
    "diminishing": _Kind(diminishing, {"of": _NAME, "score": _SCORE}),
    "basin": _Kind(basin, {"of": _NAME, "within": _FRACTION, "at_least": _NUMBER, "at_most": _NUMBER}),
    "reference": _Kind(reference, {"score": _NUMBER}),
}


def _parse_test(path: str | Path, key: str, entry: Any) -> NamedTest:
    _expect(isinstance(entry, dict), path, key, entry, "test, tasks and parameters")
    name = entry.get("test")
    _expect(isinstance(name, str) and name in _TESTS, path, f"{key}.test", name, f"one of {', '.join(_TESTS)}")
    kind = _TESTS[name]
    required = [parameter for parameter in kind.parameters if parameter not in kind.optional]
    _expect_keys(path, key, entry, ("test", "tasks", *kind.parameters), ("tasks", *required))
    _expect(_NAMES[0](entry["tasks"]), path, f"{key}.tasks", entry["tasks"], _NAMES[1])
    parameters = {parameter: value for parameter, value in entry.items() if parameter not in ("test", "tasks")}
    for parameter, value in parameters.items():
        legal, expected = kind.parameters[parameter]
        _expect(legal(value), path, f"{key}.{parameter}", value, expected)
    if kind.optional:
        given = [parameter for parameter in kind.optional if parameter in parameters]
        _expect(len(given) == 1, path, key, ", ".join(given) or "neither", f"one of {' and '.join(kind.optional)}")
    low, high = parameters.get("at_least"), parameters.get("at_most")
    if low is not None and high is not None:
        _expect(low < high, path, f"{key}.at_least", low, f"a number below at_most, {high}")
    return NamedTest(name, tuple(entry["tasks"]), parameters)


def _expect_keys(path: str | Path, key: str, entry: Any, legal: Sequence[str], required: Sequence[str]) -> None:
    _expect(isinstance(entry, dict), path, key, entry, f"keys {', '.join(required)}")
    for name in entry:
        _expect(name in legal, path, f"{key}.{name}", entry[name], f"keys among {', '.join(legal)}")
    for name in required:
        _expect(name in entry, path, f"{key}.{name}", "(absent)", f"the keys {', '.join(required)}")


def _expect(condition: bool, path: str | Path, key: str, value: object, expected: str) -> None:
    text = " ".join(str(value).split())
    expect(condition, f"findings={path}: {key}", text if len(text) <= 60 else text[:60] + "...", expected)
