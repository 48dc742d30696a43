"""The report: what it writes, that figures draw what their CSV says, and that hostile names stay text."""

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import analysis
from analysis import figures, importance_figures, style, summaries, table_text, tables
from analysis.importance import Importance
from search.errors import UserError
from search.run.cli import main
from search.study import repeat
from tests.at_rest import answer, texts, unpacked
from tests.test_analysis import VARIANTS, ended, make_study, outcome, under_way

LABEL = "test negative log-likelihood [nats per step]"
FIGURES = [
    *("architecture_jsb", "boxes", "curves_jsb", "expected_jsb", "marginals_jsb", "marginals_variants_jsb"),
    *("parameters_jsb", "shares_jsb", "surface_jsb", "time_jsb"),
]
PAGE = [
    *("boxes", "expected_jsb", "curves_jsb", "parameters_jsb", "time_jsb"),
    *("shares_jsb", "marginals_jsb", "marginals_variants_jsb", "architecture_jsb", "surface_jsb"),
]
TABLES = [
    *("ablation_jsb", "comparison_jsb", "comparison_more_jsb", "fanova_architecture_jsb", "fanova_debiased_jsb"),
    *("fanova_jsb", "findings", "settings_jsb", "tunability_jsb"),
]


def add_curves(folder: Path, variants: tuple[str, ...], trials: int) -> None:
    for variant in variants:
        for number in range(trials):
            best = outcome(variant, number, "finished")["valid_score"]
            path = folder / "curves" / "jsb" / variant / f"{number:04}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            epochs = np.arange(1, 20 if ended(variant, number) == "diverged" else 21)
            scores = best + np.abs(epochs - 17) / 10
            pd.DataFrame({"epoch": epochs, "train_loss": scores, "valid_score": scores}).to_parquet(path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    variants = ("vanilla", "noaf", "np")
    add_curves(make_study(runs, variants=variants, trials=20, status=ended), variants, 20)
    make_study(runs, "begun", variants=("vanilla", "cifg"), trials=6, status=under_way)
    make_study(runs, "empty", variants=("vanilla", "cifg"), trials=2, status=lambda variant, number: "running")
    return runs


@pytest.fixture(scope="module")
def written(runs: Path) -> Path:
    return analysis.report("bach", runs)


@pytest.fixture(scope="module")
def page(written: Path) -> str:
    return (written / "index.html").read_text()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made but not written, which is what takes the time."""
    empty = {"png": b"", "pdf": b"", "svg": b""}
    monkeypatch.setattr(style, "files", lambda figure: empty)


@pytest.mark.slow
def test_report_writes_every_figure_and_table_in_every_format(written: Path) -> None:
    names = [f"{name}.{kind}" for name in FIGURES for kind in ("png", "pdf", "svg", "csv")]
    names += [f"{name}.{kind}" for name in TABLES for kind in ("csv", "md", "tex")]
    names.remove("comparison_more_jsb.csv")  # all columns are in the other
    names += ["boxes_points.csv", "trials.csv", "captions.md", "index.html"]
    assert sorted(path.name for path in written.iterdir()) == sorted(names)
    for name in FIGURES:
        assert (written / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (written / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert b"<svg" in (written / f"{name}.svg").read_bytes()
        assert f"## {name}\n" in (written / "captions.md").read_text()


@pytest.mark.slow
def test_page_is_one_file_that_asks_for_no_other(page: str) -> None:
    assert len(page.encode()) < 1.5e6
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", page.partition("<script>")[0])
    scripts = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy and "default-src 'none'" in policy[1] and "unsafe-eval" not in policy[1]
    for script in scripts:
        assert b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy[1]
    assert page.count("<script") == 1 + len(scripts) and policy[1].count("sha256-") == len(scripts)


def test_page_says_what_there_is(page: str) -> None:
    boot = answer(page, "boot")
    assert boot["done"].startswith("57 of 60 planned trials finished; 2 diverged, 1 failed.")
    assert "The draws are unpaired: the settings of every variant are drawn apart." in boot["done"]
    assert re.match(r"Trained [\d :-]+( to [\d :-]+)? UTC.", boot["when"])
    assert re.match(r"[\d :-]+ UTC", boot["made"])
    assert ["9f" * 32, 60] in boot["provenance"]["data_hash"] and boot["provenance"]["torch_version"][0][0] == "2.13.0"
    everything = texts(page)
    assert "picked by validation score" in everything and "OSError: disk <full>" in everything
    importance = " ".join(answer(page, "importance", show="tables")["sentences"])
    assert "of what settings and variant explain of the test score, single dimensions explain: lr" in importance
    assert (
        "not shown of what the best have in common: vanilla, noaf, np: best trials=2: expected at least 5" in importance
    )
    assert "Of the published findings" in answer(page, "findings")["sentences"][0]


def test_written_tables_are_those_of_python(written: Path, runs: Path) -> None:
    frame = analysis.load("bach", runs)
    table = analysis.compare(frame)
    pd.testing.assert_frame_equal(
        pd.read_csv(written / "comparison_jsb.csv"), table, check_dtype=False, check_categorical=False, rtol=1e-12
    )
    drawn = summaries.boxes(frame, table)
    pd.testing.assert_frame_equal(pd.read_csv(written / "boxes.csv"), drawn, check_dtype=False, rtol=1e-12)
    points = pd.read_csv(written / "boxes_points.csv")
    counts = points.groupby(["panel", "variant"])["test_score"].agg(["size", "min", "max"])
    own = drawn.set_index(["panel", "variant"])[["n", "low", "high"]].loc[counts.index]
    assert np.allclose(counts.to_numpy(), own.to_numpy(float))
    assert len((written / "comparison_jsb.md").read_text().splitlines()) == 2 + 3
    assert set(tables.COMPARISON) | set(tables.COMPARISON_MORE) < set(table.columns)
    latex = (written / "comparison_jsb.tex").read_text()
    assert latex.count("\\\\\n") == 2 + 3 and "\\toprule" in latex and "best 10 \\%" in latex
    forest = analysis.fanova.fit(frame[frame["variant"] == "vanilla"], analysis.load_plans("bach", runs)["bach"])
    shares = pd.read_csv(written / "fanova_jsb.csv").set_index(["score", "variant", "dimensions"])
    assert shares["mean"]["test_score", "vanilla", "lr"] == pytest.approx(forest.share("lr")[0])
    shares = pd.read_csv(written / "fanova_debiased_jsb.csv").set_index(["score", "variant", "dimensions"])
    assert shares["debiased"]["test_score", "vanilla", "lr"] == pytest.approx(forest.debiased("lr")[0])


def test_findings_of_other_tasks_are_one_line(page: str, written: Path) -> None:
    (table,) = answer(page, "findings")["tables"]
    assert table["note"].count("tasks that are not in it (timit, iamondb)") == 1
    assert {row[1] for row in table["rows"]} == {"jsb"}
    every = pd.read_csv(written / "findings.csv")
    elsewhere = (every["task"] != "jsb").sum()
    assert f"Not testable here: {elsewhere} statements about tasks" in table["note"]
    shown = [line for line in (written / "findings.md").read_text().splitlines() if "| jsb |" in line]
    assert len(shown) == len(every) - elsewhere


def test_a_comparison_is_read_without_scrolling(page: str) -> None:
    assert len(tables.COMPARISON) <= 10
    controls = {"share": "0.1", "select": "valid", "baseline": "vanilla", "adjust": "bonferroni"}
    table = answer(page, "compare", **controls)["tables"][0]
    assert [heading for _, heading in table["headings"]] == [column.heading for column in tables.COMPARISON.values()]
    assert ["difference from vanilla", 2] in table["groups"] and ["best 10 %", 5] in table["groups"]


def test_a_setting_has_one_name(page: str, written: Path) -> None:
    answers = unpacked(page)
    shown = json.dumps({key: value for key, value in answers.items() if key.split("\n")[0] != "findings"})
    assert not re.search(r"hidden size|input noise|learning rate", shown)  # the words of a paper are its own
    for path in written.glob("*.svg"):
        assert not re.search(r"hidden size|input noise|learning rate", path.read_text())


def test_every_trial_that_began_has_the_command_that_repeats_it(page: str, written: Path, runs: Path) -> None:
    frame, plan = analysis.load("bach", runs), analysis.load_plans("bach", runs)["bach"]
    listed = pd.read_csv(written / "trials.csv")
    assert len(listed) == 60 and listed["command"].notna().all()
    row: Any = frame.iloc[21]
    assert listed["command"][21] == repeat.train(plan, row["variant"], row.to_dict())
    assert listed["command"][21].startswith("odyssey train variant=noaf '~task' task.name=jsb task.source=")
    one = answer(page, "trial", study="bach", task="jsb", variant="noaf", trial="1")
    assert one["command"] == listed["command"][21]
    assert answer(page, "boot")["commands"][0].startswith("odyssey sweep study=bach '~task' task.name=jsb")


@pytest.mark.slow
def test_progress_names_each_figure(runs: Path, undrawn: None) -> None:
    said: list[str] = []
    analysis.report("bach", runs, note=said.append)
    assert [text for text in said if text.startswith("figure")] == [
        f"figure {place} of 10: {name}" for place, name in enumerate(PAGE, 1)
    ]
    assert said[:2] == ["comparison of the variants", "learning curves"]


@pytest.mark.slow
def test_figures_drawn_beside_each_other_are_those_drawn_alone(frame: pd.DataFrame) -> None:
    points, best = summaries.trade_off(frame, "n_parameters"), summaries.expected_best(frame)
    draws: dict[str, style.Draw] = {
        "a": partial(figures.draw_trade_off, points, "n_parameters", LABEL, "vanilla"),
        "b": partial(figures.draw_expected, best, LABEL, "vanilla"),
    }
    assert dict(style.drawn(draws)) == {name: style.files(draw()) for name, draw in draws.items()}


@pytest.mark.parametrize("variants", [1, 2, 3, 4])
def test_no_label_of_the_learning_curves_is_cut_and_epochs_are_whole(variants: int) -> None:
    long = "negative log-likelihood of all that is to be predicted [nats per step]"
    rows = [(f"v{v}", 0, 1, 3, epoch, 1 / epoch) for v in range(variants) for epoch in range(1, 5)]
    curves = pd.DataFrame(rows, columns=["variant", "trial", "place", "best_epoch", "epoch", "valid_score"])
    figure = figures.draw_curves(curves, long, "v0")
    style.lay_out(figure)
    label = figure.findobj(lambda artist: "validation" in str(getattr(artist, "get_text", str)()))[
        0
    ].get_window_extent()
    assert figure.bbox.y0 <= label.y0 and label.y1 <= figure.bbox.y1 and label.x0 >= figure.bbox.x0
    assert {float(tick) % 1 for tick in figure.axes[0].get_xticks()} == {0.0}


def test_a_wide_band_does_not_squeeze_the_curves(frame: pd.DataFrame) -> None:
    expected = summaries.expected_best(frame)
    expected.loc[expected["variant"] == "np", "low"] = -1000.0
    low, high = figures.draw_expected(expected, LABEL, "vanilla").axes[0].get_ylim()
    assert np.ptp(expected["mean"][expected["mean"] <= expected["limit"]]) > 0.5 * (high - low)


def test_trials_are_counted_in_whole_numbers(frame: pd.DataFrame) -> None:
    few = frame[frame["trial"] < 5]
    figure = figures.draw_expected(summaries.expected_best(few), LABEL, "vanilla")
    style.lay_out(figure)
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels() if label.get_text()]
    assert shown and all(float(text) % 1 == 0 for text in shown)


@pytest.fixture(scope="module")
def frame(runs: Path) -> pd.DataFrame:
    return analysis.load("bach", runs)


@pytest.fixture(scope="module")
def importance(runs: Path, frame: pd.DataFrame) -> Importance:
    return Importance(frame, analysis.load_plans("bach", runs)["bach"])


def lines_of(figure: Figure) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for axes in figure.axes:
        for line in axes.lines:
            yield np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


def draws(figure: Figure, x: Any, y: Any) -> bool:
    """Whether a line of the figure goes through these points."""
    return any(
        a.shape == np.shape(x) and np.allclose(a, x) and np.allclose(b, y, equal_nan=True) for a, b in lines_of(figure)
    )


def test_boxes_draw_the_numbers_of_their_frame(frame: pd.DataFrame) -> None:
    table = analysis.compare(frame)
    drawn, points = summaries.boxes(frame, table), summaries.points(frame, table)
    figure = figures.draw_boxes(drawn, points, {"jsb": "test nats per step"})
    panels = [axes for axes in figure.axes if axes.get_ylabel() == "test nats per step"]
    assert len(panels) == 2
    for axes, panel in zip(panels, summaries.PANELS, strict=True):
        rows = drawn[drawn["panel"] == panel]
        dots = [line for line in axes.lines if line.get_marker() == "o"]
        assert [float(np.asarray(dot.get_ydata()).item()) for dot in dots] == list(rows["mean"])
        behind = [np.asarray(line.get_ydata(), float) for line in axes.lines if line.get_marker() == "."]
        assert [len(scores) for scores in behind] == list(rows["n"] - rows["n_beyond"])
        assert [scores.mean() for scores in behind] == pytest.approx(list(rows["mean"]))
        assert [dot.get_markerfacecolor() == style.BLUE for dot in dots] == list(rows["significant"])
        assert [label.get_text() for label in axes.get_xticklabels()] == ["vanilla", "noaf", "np"]
    scores = frame[(frame["variant"] == "noaf") & (frame["status"] == "finished")]["test_score"]
    row = drawn[(drawn["panel"] == "all") & (drawn["variant"] == "noaf")].iloc[0]
    names = ["n", "low", "q1", "median", "q3", "high", "mean"]
    assert list(row[names]) == pytest.approx([18, *scores.quantile([0, 0.25, 0.5, 0.75, 1]), scores.mean()])


def test_curves_draw_the_numbers_of_their_frames(runs: Path, frame: pd.DataFrame) -> None:
    expected = summaries.expected_best(frame)
    figure = figures.draw_expected(expected, LABEL, "vanilla")
    unit, size = style.time_unit(expected["seconds"])
    for _, curve in expected.groupby("variant", observed=True):
        assert draws(figure, curve["n"], curve["mean"]) and draws(figure, curve["seconds"] / size, curve["mean"])
    assert figure.axes[1].get_xlabel() == f"training time [{unit}]"
    best = summaries.best_curves(frame, analysis.load_curves("bach", runs))
    assert list(best.groupby("variant", observed=True)["trial"].nunique()) == [2, 2, 2]
    figure = figures.draw_curves(best, LABEL, "vanilla")
    for _, curve in best.groupby(["variant", "trial"], observed=True):
        assert draws(figure, curve["epoch"], curve["valid_score"])


@pytest.mark.parametrize("cost", ["n_parameters", "train_seconds"])
def test_trade_off_draws_every_finished_trial_and_the_front(frame: pd.DataFrame, cost: str) -> None:
    points = summaries.trade_off(frame, cost)
    assert len(points) == 57
    front = points[points["front"]]
    for row in front.itertuples():
        better = points[(points[cost] <= getattr(row, cost)) & (points["test_score"] < row.test_score)]
        assert better.empty
    figure = figures.draw_trade_off(points, cost, LABEL, "vanilla")
    for variant in ("vanilla", "noaf", "np"):
        own = points[points["variant"] == variant]
        assert draws(figure, own[cost], own["test_score"])
    assert figure.axes[0].get_xscale() == "log"


def test_marginals_are_drawn_on_the_scale_they_were_sampled_on(importance: Importance) -> None:
    space = importance.plan.space
    figure = importance_figures.draw_marginals(importance.marginals, space, LABEL, "vanilla")
    of_lr = importance.marginals.query("score == 'test_score' and variant == 'np' and dimension == 'lr'")
    assert draws(figure, of_lr["value"].astype(float), of_lr["mean"])
    scales = {axes.get_xlabel(): axes.get_xscale() for axes in figure.axes}
    assert scales == {
        "hidden_size [units]": "log",
        "lr": "log",
        "1 \N{MINUS SIGN} momentum": "log",
        "input_noise [std. dev.]": "linear",
    }
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert labels == [style.lines(LABEL, 30), "training time [s]"]


def test_shares_are_drawn_as_long_as_they_are(importance: Importance) -> None:
    figure = importance_figures.draw_shares(importance.shares)
    bars = [bar for bar in figure.axes[0].patches if bar.get_y() < 0.1]  # of the first variant
    own = importance.shares.query("score == 'test_score' and variant == 'vanilla'")
    widths = sorted(bar.get_width() for bar in bars)
    singles = own[own["order"] == 1]["mean"]
    rest = [own[own["order"] == order]["mean"].sum() for order in (2, 3)]
    assert widths == pytest.approx(sorted([*(100 * singles), 100 * rest[0], 100 * rest[1]]))
    assert sum(widths) == pytest.approx(100, abs=0.5)


def test_no_two_of_ten_variants_look_alike() -> None:
    looks = style.series([*VARIANTS, "gru"], "vanilla")
    assert len({to_hex(look["color"]) for look in looks.values()}) == 10
    looks = style.series([f"v{i}" for i in range(40)], "v0")
    assert len({(look["color"], str(look["linestyle"]), look["marker"]) for look in looks.values()}) >= 36


def test_log_axes_have_numbers_at_their_ticks() -> None:
    assert [style.number(x) for x in (20, 0.001, 50_000, 1e-6, 2e6)] == ["20", "0.001", "50,000", "10⁻⁶", "2·10⁶"]
    assert style.number(0.01, powers=True) == "10⁻²"
    assert style.time_unit([1, 7000]) == ("min", 60.0) and style.time_unit([]) == ("s", 1.0)


@pytest.mark.slow
def test_report_of_an_unfinished_study_says_how_much_is_there(runs: Path, undrawn: None) -> None:
    page = (analysis.report("begun", runs, select="test") / "index.html").read_text()
    assert "2 of 12 planned trials finished; 2 diverged, 2 running, 6 waiting." in answer(page, "boot")["done"]
    assert answer(page, "boot")["usual"]["select"] == "test"
    assert "Not tested: needs 45 trials (cifg)." in answer(page, "compare", share="0.1")["sentences"]
    assert "picked by test score" in texts(page)
    assert "expected at least 8 for an ANOVA" in texts(page)


def test_report_without_a_finished_trial_has_no_figure(runs: Path) -> None:
    folder = analysis.report("empty", runs)
    page = (folder / "index.html").read_text()
    assert "0 of 4 planned trials finished; 4 running." in answer(page, "boot")["done"]
    compared = answer(page, "compare")
    assert "nothing to compare yet" in compared["sentences"][0] and not compared["figures"]
    assert not (folder / "boxes.png").exists()


@pytest.mark.slow
def test_hostile_texts_stay_text(tmp_path: Path) -> None:
    hostile = "$\\frac{|<b><script>alert(1)</script>"
    study = make_study(tmp_path, "x = y@z", variants=("a_b+c",), trials=2, score=hostile)
    path = study / "study.yaml"
    url = "mysql://me:hunter2@db.example/odyssey?password=hunter2"
    path.write_text(path.read_text().replace("source: music21", f"source: {url}"))
    folder = analysis.report(study)
    page = (folder / "index.html").read_text()
    assert "alert(1)" not in page and "<b><script>alert(1)</script>" in texts(page)
    assert "hunter2" not in texts(page) and "mysql://***@db.example/odyssey" in texts(page)
    assert "No variant could be tested against a_b+c" in answer(page, "compare")["sentences"][0]
    assert "a\\_b+c" in (folder / "comparison_jsb.tex").read_text()
    assert "<" not in (folder / "captions.md").read_text()
    assert "hunter2" not in (folder / "trials.csv").read_text()


@pytest.mark.slow
def test_studies_are_compared_with_each_other(tmp_path: Path, undrawn: None) -> None:
    for name, trials in (("a", 30), ("b", 40)):
        make_study(tmp_path, name, variants=("vanilla", "cifg"), trials=trials)
    folder = analysis.report("a,b", tmp_path)
    assert folder == tmp_path / "a,b" / "report"
    table = pd.read_csv(folder / "studies.csv")
    assert list(table[["variant", "study", "against"]].itertuples(index=False, name=None)) == [
        ("vanilla", "b", "a"),
        ("cifg", "b", "a"),
    ]
    assert list(table["n_best"]) == [4, 4] and list(table["n_against"]) == [3, 3]
    assert (folder / "comparison_a_jsb.csv").exists() and (folder / "comparison_b_jsb.csv").exists()
    verdicts = pd.read_csv(folder / "findings.csv")
    assert list(dict.fromkeys(verdicts["study"])) == ["a", "b"]
    frame = analysis.load(["a", "b"], tmp_path)
    assert list(dict.fromkeys(frame["study"])) == ["a", "b"] and len(frame) == 140
    for bad, text in (("a,c", "study=c: no study"), (["a", "a"], "study=a: expected studies of different names")):
        with pytest.raises(UserError, match=text):
            analysis.report(bad, tmp_path)


@pytest.mark.slow
def test_studies_of_different_tasks_are_judged_together(tmp_path: Path, undrawn: None) -> None:
    for name in ("timit", "jsb"):
        make_study(tmp_path, name, variants=("vanilla", "cifg"), trials=3, tasks=(name,))
    folder = analysis.report(["timit", "jsb"], tmp_path)
    verdicts = pd.read_csv(folder / "findings.csv")
    assert len(pd.read_csv(folder / "ranks.csv")) == 4  # which three trials each do not tell apart
    assert pd.read_csv(folder / "ranks_pairs.csv")["better"].isna().all()
    figures = answer((folder / "index.html").read_text(), "compare")["figures"]
    (ranks,) = (each for each in figures if each["name"] == "ranks")
    assert "a sign test of two variants over 2 tasks has a p of 0.5 at least" in ranks["caption"]
    assert len(ranks["data"]["ranks"]["rank"]) == 4 and len(ranks["data"]["bars"]["x"]) == 1
    free = verdicts[verdicts["finding"] == "cifg-free"].set_index("task")["verdict"]
    assert dict(free) == {"timit": "inconclusive", "iamondb": "not testable here", "jsb": "inconclusive"}
    assert "study" not in verdicts


@pytest.mark.slow
def test_command_takes_settings_of_the_configuration(runs: Path, tmp_path: Path, undrawn: None) -> None:
    own = {"id": "mine", "statement": "S.", "tests": [{"test": "reference", "tasks": ["jsb"], "score": 8.0}]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump([own]))
    assert (
        main(["report", "study=begun,empty", f"runs={runs}", "adjust=holm", f"findings={tmp_path / 'mine.yaml'}"]) == 0
    )
    page = (runs / "begun,empty" / "report" / "index.html").read_text()
    assert "Reported: 8" in texts(page) and answer(page, "boot")["usual"]["adjust"] == "holm"


def test_bad_settings_are_one_line(runs: Path, tmp_path: Path) -> None:
    calls: dict[str, Callable[[], Path]] = {
        "select=train: expected valid or test": lambda: analysis.report("bach", runs, select="train"),  # type: ignore[arg-type]
        "adjust=none: expected one of bonferroni, holm": lambda: analysis.report("bach", runs, adjust="none"),  # type: ignore[arg-type]
        "findings=none.yaml: expected a readable YAML file": lambda: analysis.report(
            "bach", runs, findings="none.yaml"
        ),
    }
    for text, call in calls.items():
        with pytest.raises(UserError, match=re.escape(text)):
            call()
    folder = make_study(tmp_path, variants=("vanilla",), trials=1, status=lambda variant, number: "waiting")
    (folder / "report").write_text("in the way")
    with pytest.raises(UserError, match="report: cannot be written"):
        analysis.report("bach", tmp_path)


def test_cells_cannot_break_a_table() -> None:
    table = table_text.Table(
        "t", "T", [("", "a|b"), ("g_1", "50 %")], [["x\ny", "<i>"], ["a_b&c", "\N{MINUS SIGN}1.5"]]
    )
    assert table_text.markdown(table).splitlines() == [
        "| a\\|b | g_1: 50 % |",
        "| :-- | --: |",
        "| x y | &lt;i> |",
        "| a_b&amp;c | \N{MINUS SIGN}1.5 |",
    ]
    assert table_text.latex(table).splitlines()[2:-1] == [
        "\\toprule",
        " & \\multicolumn{1}{c}{g\\_1} \\\\",
        "\\cmidrule(lr){2-2}",
        "a|b & 50 \\% \\\\",
        "\\midrule",
        "x y & $<$i$>$ \\\\",
        "a\\_b\\&c & $-$1.5 \\\\",
        "\\bottomrule",
    ]


def test_numbers_are_told_from_text() -> None:
    found = [
        table_text.number_of(text) for text in ("1,234", "\N{MINUS SIGN}0.5 [1, 2]", "< 0.001", "3.0e-04", "vanilla")
    ]
    assert found == [1234, -0.5, 0.001, 0.0003, None]
    assert table_text.more_trials(2556.2) == "2,600" and table_text.more_trials(np.inf) == "over a million"


def test_panels_of_one_score_have_one_axis(importance: Importance) -> None:
    figure = importance_figures.draw_marginals(importance.marginals, importance.plan.space, LABEL, "vanilla")
    for row, scale in ((figure.axes[:4], "linear"), (figure.axes[4:], "log")):
        assert len({axes.get_ylim() for axes in row}) == 1
        assert {axes.get_yscale() for axes in row} == {scale}
        for axes in row:
            assert len({float(y) for y in axes.get_yticks()} ^ {float(y) for y in row[0].get_yticks()}) == 0
