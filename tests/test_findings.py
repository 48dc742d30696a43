"""Findings judged on studies built to reproduce, to contradict and to leave open each of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats as scipy_stats

from analysis import best_fraction, compare, findings, statements
from analysis.compare import contrast_of
from analysis.findings import Finding, NamedTest
from analysis.importance import Importance
from analysis.statements import Evidence, Outcome
from search.errors import UserError
from search.study.plan import Plan

Score = Callable[[pd.DataFrame], Any]
SPACE = {
    "hidden_size": {"distribution": "log_uniform_int", "low": 20, "high": 200},
    "lr": {"distribution": "log_uniform", "low": 1e-6, "high": 1e-2},
    "momentum": {"distribution": "one_minus_log_uniform", "low": 0.01, "high": 1.0},
    "input_noise": {"distribution": "uniform", "low": 0.0, "high": 1.0},
}
FAR, NEAR = 0.5, 0.02  # against a margin of 0.09, 1 % of 9


def evidence(
    n: int = 150,
    score: Score = lambda trials: 0.0,
    seconds: Score = lambda trials: trials["hidden_size"],
    shifts: dict[str, float] | None = None,
    space: dict[str, Any] = SPACE,
) -> Evidence:
    """A study of vanilla, and of variants whose scores are shifted, of n trials each."""
    rng = np.random.default_rng(0)
    frames = []
    shifts = {"vanilla": 0.0} | (shifts or {})
    for variant, shift in shifts.items():
        trials = pd.DataFrame(
            {
                "hidden_size": np.rint(20 * 10 ** rng.uniform(0, 1, n)).astype(int),
                "lr": 10 ** rng.uniform(-6, -2, n),
                "momentum": 1 - 10 ** rng.uniform(-2, 0, n),
                "input_noise": rng.uniform(0, 1, n),
                "seed": range(n),
            }
        )
        trials["test_score"] = trials["valid_score"] = 9 + shift + score(trials) + rng.normal(0, 0.05, n)
        trials["train_seconds"] = seconds(trials) + 0.0 * rng.normal(size=n)
        frames.append(trials.assign(variant=variant, trial=range(n)))
    frame = pd.concat(frames, ignore_index=True).assign(study="bach", task="jsb", status="finished", n_parameters=9)
    frame["variant"] = pd.Categorical(frame["variant"], list(shifts), ordered=True)
    frame["task"] = pd.Categorical(frame["task"], ["jsb"], ordered=True)
    plan = Plan(
        study="bach",
        task={"name": "jsb"},
        score="nll [nats]",
        variants={variant: {"cell": "lstm"} for variant in shifts},
        trials=n,
        epochs=1,
        patience=1,
        seed=0,
        sampler="random",
        space=space,
        dtype="float32",
        data_hash="0",
    )
    columns = ["study", "task", "variant", "trial", "status", *SPACE, "seed", "n_parameters"]
    frame = frame[[*columns, "valid_score", "test_score", "train_seconds"]]
    return Evidence(frame, compare(frame), Importance(frame, plan))


@pytest.mark.parametrize(
    ("name", "shift", "verdict"),
    [
        ("worse", FAR, "reproduced"),
        ("worse", -FAR, "contradicted"),
        ("worse", NEAR, "contradicted"),
        ("no_difference", NEAR, "reproduced"),
        ("no_difference", FAR, "contradicted"),
        ("no_difference", -FAR, "contradicted"),
        ("none_better", FAR, "reproduced"),
        ("none_better", -NEAR, "reproduced"),
        ("none_better", -FAR, "contradicted"),
    ],
)
def test_differences_are_judged_by_significance_and_margin(name: str, shift: float, verdict: str) -> None:
    outcome = contrast(name, evidence(shifts={"nfg": shift}))
    assert outcome.verdict == verdict
    assert "nfg: " in outcome.evidence and "n = 15" in outcome.evidence


def contrast(name: str, of: Evidence) -> Outcome:
    variants = {} if name == "none_better" else {"variants": ["nfg"]}
    return getattr(findings, name)(of, **variants, margin=0.01)


def steep(trials: pd.DataFrame) -> Any:
    return 10 * trials["input_noise"]


@pytest.mark.parametrize("name", ["worse", "no_difference", "none_better"])
def test_few_trials_leave_a_difference_open_and_say_how_many_more_it_takes(name: str) -> None:
    outcome = contrast(name, evidence(n=50, score=steep, shifts={"nfg": 0.01}))
    assert outcome.verdict == "inconclusive"
    assert 1 <= outcome.more < 1_000_000
    outcome = contrast(name, evidence(n=20, shifts={"nfg": 0.0}))
    assert outcome.verdict == "inconclusive" and "not tested: needs 45 trials" in outcome.evidence
    assert outcome.more == 25  # 45 trials have a best 10 % of five


def test_a_difference_below_the_margin_counts_as_none_however_significant() -> None:
    many = evidence(n=2000, shifts={"nfg": 0.06})
    assert bool(many.rows["nfg"]["significant"])
    assert contrast("no_difference", many).verdict == "reproduced"
    assert contrast("worse", many).verdict == "contradicted"
    near = evidence(n=150, shifts={"nfg": 0.09})  # at the margin
    assert bool(near.rows["nfg"]["significant"])
    assert {contrast(name, near).verdict for name in ("worse", "no_difference")} == {"inconclusive"}


def test_more_trials_are_as_many_as_the_power_of_the_test_says() -> None:
    found = evidence(n=50, score=steep, shifts={"nfg": 0.4})
    estimate = contrast_of(found.rows["nfg"])
    margin = 0.01 * found.rows["vanilla"]["best_mean"]
    assert estimate.value > margin
    beyond = best_fraction.more_to_show(estimate, margin, 0.05)
    significant = best_fraction.more_to_show(estimate, 0, 0.025)
    assert contrast("worse", found).more == max(beyond, significant)
    assert best_fraction.power_to_show(estimate.of(50 + int(beyond)), margin, 0.05) > 0.8


def test_all_variants_must_agree_and_one_can_contradict() -> None:
    both = evidence(shifts={"nfg": FAR, "noaf": NEAR})
    assert statements.worse(both, ["nfg"], 0.01).verdict == "reproduced"
    assert statements.worse(both, ["nfg", "noaf"], 0.01).verdict == "contradicted"


def test_what_a_study_lacks_is_not_testable() -> None:
    alone = evidence(n=20)
    assert statements.worse(alone, ["nfg"], 0.01) == Outcome("not testable here", "The study has no variant nfg.")
    assert statements.none_better(alone, 0.01).verdict == "not testable here"
    fixed = evidence(n=20, space=SPACE | {"momentum": SPACE["momentum"] | {"low": 1.0}})
    outcome = statements.share(fixed, "momentum", "test_score", below=0.01)
    assert outcome == Outcome("not testable here", "The study does not vary momentum.")
    table = findings.judge(
        [Finding("a", "A.", (NamedTest("none_better", ("timit",), {"margin": 0.01}),))], {"jsb": alone}
    )
    assert list(table["verdict"]) == ["not testable here"] and "no task timit" in table["evidence"][0]


def lr_only(trials: pd.DataFrame) -> Any:
    return 0.6 * (np.log10(trials["lr"]) + 3) ** 2


def size_and_lr(trials: pd.DataFrame) -> Any:
    return 0.3 * (np.log10(trials["lr"]) + 3) ** 2 + 40 / trials["hidden_size"]


def noise_only(trials: pd.DataFrame) -> Any:
    return 3 * trials["input_noise"]


def both_at_once(trials: pd.DataFrame) -> Any:
    return 4.0 * ((trials["lr"] > 1e-4) & (trials["hidden_size"] > 63))


@pytest.mark.parametrize(
    ("test", "holds", "fails"),
    [
        (lambda e: statements.share(e, "lr", "test_score", above=0.667), lr_only, noise_only),
        (lambda e: statements.share(e, "input_noise", "test_score", below=0.1), lr_only, noise_only),
        (lambda e: statements.share(e, ["lr", "hidden_size"], "test_score", below=0.1), lr_only, both_at_once),
        (lambda e: statements.rank(e, "hidden_size", "test_score", 2), size_and_lr, lambda t: 200 / t["hidden_size"]),
        (lambda e: statements.trend(e, "input_noise", "test_score", "rising"), noise_only, lambda t: -noise_only(t)),
        (
            lambda e: statements.trend(e, "hidden_size", "test_score", "falling"),
            size_and_lr,
            lambda t: t["hidden_size"],
        ),
        (
            lambda e: statements.diminishing(e, "hidden_size", "test_score"),
            lambda t: 200 / t["hidden_size"],
            lambda t: -((t["hidden_size"] / 50) ** 3),
        ),
    ],
)
def test_shares_and_marginals_are_judged_by_their_errors_over_the_trials(
    test: Callable[[Evidence], Outcome], holds: Score, fails: Score
) -> None:
    assert test(evidence(score=holds)).verdict == "reproduced"
    assert test(evidence(score=fails)).verdict == "contradicted"
    nothing = test(evidence(n=9, score=lambda trials: np.resize([0, 1], len(trials))))
    assert nothing.verdict == "inconclusive"


def test_a_basin_is_described_and_not_judged() -> None:
    for score in (lr_only, lambda t: np.sign(np.log10(t["lr"]) + 5.5)):
        outcome = statements.basin(evidence(score=score), "lr", 0.1, 1.0, 2.5)
        assert outcome.verdict == "inconclusive" and "orders of magnitude" in outcome.evidence


def test_a_share_near_its_bound_is_open_and_says_how_many_more_trials_it_takes() -> None:
    found = evidence(n=40, score=size_and_lr)
    fitted = found.importance.fit("test_score", "vanilla")
    assert fitted
    share, error = fitted.debiased("lr")
    sure = scipy_stats.t.isf(0.01, 39)
    outcome = statements.share(found, "lr", "test_score", above=share - sure * error / 2)
    assert outcome.verdict == "inconclusive"
    assert outcome.more == pytest.approx(40 * 3)  # half the error takes four times the trials
    outcome = statements.share(found, "lr", "test_score", above=share - sure * error * 1.01)
    assert outcome.verdict == "reproduced"


def test_a_basin_is_not_testable_in_a_narrow_range() -> None:
    narrow = SPACE | {"lr": {"distribution": "log_uniform", "low": 1e-6, "high": 1e-2}}
    assert statements.basin(evidence(n=20, space=narrow), "lr", 0.1, 1.0, 4.0).verdict == "not testable here"


def test_a_number_to_look_at_is_never_a_test() -> None:
    outcome = statements.reference(evidence(n=20), 8.38)
    assert outcome.verdict == "for reference" and "8.38" in outcome.evidence


def test_published_findings_are_those_of_the_protocol() -> None:
    published = findings.read()
    assert [finding.id for finding in published] == [
        *("no-winner", "critical", "cifg-free", "np-free", "fgr", "gates", "lr-first", "size-second", "noise"),
        *("momentum", "basin", "independent", "best"),
    ]
    table = findings.judge(published, {"jsb": evidence(n=20, score=lr_only, shifts={"nfg": FAR})})
    assert list(table) == list(findings.COLUMNS)
    assert set(table["task"]) == {"timit", "iamondb", "jsb"}
    assert (table.loc[table["task"] != "jsb", "verdict"] == "not testable here").all()
    assert table.loc[table["verdict"] != "inconclusive", "more_trials"].isna().all()


BASIN = {"test": "basin", "tasks": ["jsb"], "of": "lr", "within": 0.1}
SOUND: dict[str, Any] = {
    "id": "mine",
    "statement": "NFG is worse.",
    "tests": [{"test": "worse", "tasks": ["jsb"], "variants": ["nfg"], "margin": 0.02}],
}


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump([SOUND]))
    (finding,) = findings.read(path)
    assert finding.tests == (NamedTest("worse", ("jsb",), {"variants": ["nfg"], "margin": 0.02}),)
    assert list(findings.judge([finding], {"jsb": evidence(shifts={"nfg": FAR})})["verdict"]) == ["reproduced"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a: [1", "expected a readable YAML file"),
        ("just text", "(top)=str: expected a list of findings"),
        ([], "(top)=list: expected a list of findings"),
        ([SOUND, SOUND], "[1].id=mine: expected each id once"),
        ([SOUND | {"id": 3}], "[0].id=3: expected a name"),
        ([{"id": "x"}], "[0].statement=(absent): expected the keys id, statement, tests"),
        ([SOUND | {"author": "me"}], "[0].author=me: expected keys among id, statement, tests"),
        ([SOUND | {"tests": []}], "mine.tests=[]: expected a list of tests"),
        (
            [SOUND | {"tests": [{"test": "better"}]}],
            "mine.tests[0].test=better: expected one of worse, no_difference, ",
        ),
        ([SOUND | {"tests": [SOUND["tests"][0] | {"margin": "much"}]}], "mine.tests[0].margin=much: expected a number"),
        (
            [SOUND | {"tests": [SOUND["tests"][0] | {"of": "lr"}]}],
            "mine.tests[0].of=lr: expected keys among test, tasks",
        ),
        (
            [SOUND | {"tests": [{"test": "worse", "tasks": "jsb"}]}],
            "mine.tests[0].variants=(absent): expected the keys",
        ),
        (
            [SOUND | {"tests": [{"test": "share", "tasks": ["jsb"], "of": "lr", "score": "test_score"}]}],
            "mine.tests[0]=neither: expected one of above and below",
        ),
        (
            [SOUND | {"tests": [BASIN | {"at_least": 2, "at_most": 1}]}],
            "mine.tests[0].at_least=2: expected a number below at_most, 1",
        ),
    ],
)
def test_a_bad_file_gets_one_line_that_names_the_key(tmp_path: Path, content: Any, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    with pytest.raises(UserError) as caught:
        findings.read(path)
    assert str(caught.value).startswith(f"findings={path}: ") and text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"findings=.*none\.yaml: expected a readable YAML file"):
        findings.read(tmp_path / "none.yaml")
