"""The page's answers, what it reads, and whom its server answers."""

import json
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

import analysis
from analysis import summaries
from analysis.dashboard import charts, comparing, curve_charts, page, server
from analysis.dashboard.background import Background
from analysis.dashboard.chosen import Chosen
from analysis.dashboard.digest import SCORES, Digest, Ready, digest
from analysis.dashboard.figure import Figure, plain
from analysis.dashboard.source import Source
from analysis.dashboard.views import Views
from analysis.importance import Importance
from analysis.load import load_curves
from analysis.part import Part
from search.errors import UserError
from search.run import cli
from search.study import repeat
from search.study.news import News
from search.study.reader import StudyReader
from search.study.study import Study
from search.tasks import Task
from tests.at_rest import unpacked
from tests.test_analysis import SPACE, ended, make_study, outcome, under_way
from tests.test_report import add_curves
from tests.test_study import plan, sweep

VARIANTS = ("vanilla", "noaf", "np")


class Never:
    """No digest is there yet."""

    def get(self, part: Chosen, renew: bool) -> Digest | str:
        return "not yet"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    add_curves(make_study(runs, variants=VARIANTS, trials=20, status=ended), VARIANTS, 20)
    add_curves(make_study(runs, "large", variants=("vanilla", "cifg"), trials=60), ("vanilla", "cifg"), 60)
    make_study(runs, "begun", variants=("vanilla", "cifg"), trials=6, status=under_way)
    make_study(runs, "empty", variants=("vanilla", "cifg"), trials=2, status=lambda variant, number: "waiting")
    make_study(runs, "one", variants=("vanilla",), trials=1)
    return runs


@pytest.fixture(scope="module")
def views(runs: Path) -> Views:
    return Views(Source("bach", runs), Never(), live=True)


@pytest.fixture(scope="module")
def found(runs: Path) -> Digest:
    frame, plan = analysis.load("bach", runs), analysis.load_plans("bach", runs)["bach"]
    table = analysis.compare(frame)
    part = Part("bach", "jsb", "jsb", "jsb", plan, frame, table, plan.score, Importance(frame, plan))
    return digest(part, [])


def figures(answer: dict[str, Any]) -> dict[str, Any]:
    return {figure["name"]: figure for figure in answer["figures"]}


def rows(figure: dict[str, Any], name: str) -> pd.DataFrame:
    return pd.DataFrame(figure["data"][name])


@pytest.mark.slow
def test_a_comparison_shows_what_analysis_computes_for_its_controls(views: Views, runs: Path) -> None:
    frame = analysis.load("bach", runs)
    for share, baseline in (("0.1", "vanilla"), ("0.2", "np")):
        table = analysis.compare(frame, "test", "holm", baseline, float(share))
        controls = {"part": "bach/jsb", "share": share, "select": "test", "adjust": "holm", "baseline": baseline}
        answer = views.answer("compare", controls)
        drawn = figures(answer)
        forest = rows(drawn["differences"], "differences").set_index("variant")
        for _, row in table[table["variant"] != baseline].iterrows():
            assert forest["x"][row["variant"]] == pytest.approx(row["difference"])
            assert forest["says"][row["variant"]] == row["test"] == "not tested: needs 45 trials" or share == "0.2"
        boxes = rows(drawn["boxes_best"], "boxes").set_index("variant")
        numbers = summaries.boxes(frame, table).query("panel == 'best'").set_index("variant")
        np.testing.assert_allclose(boxes["median"].astype(float), numbers["median"])
        assert len(rows(drawn["boxes_all"], "points")) == (frame["status"] == "finished").sum()
        assert f"difference from {baseline}" in str(answer["tables"]) and f"best {100 * float(share):g} %" in str(
            answer
        )


def test_power_says_how_many_trials_a_difference_takes(runs: Path) -> None:
    table = analysis.compare(analysis.load("large", runs))
    drawn = summaries.power(table)
    (row,) = table[table["variant"] == "cifg"].to_dict("records")
    assert not row["significant"]
    at = np.interp(np.log(row["n_compared"] + row["more_trials"]), np.log(drawn["n"]), drawn["power"])
    assert at == pytest.approx(0.8, abs=0.02)
    assert charts.power(table).name == "power"


def test_ranks_are_stable_once_curves_do_not_cross(runs: Path) -> None:
    stable = summaries.rank_stability(analysis.load("bach", runs), load_curves("bach", runs))
    assert stable.groupby("variant", observed=True)["epoch"].max().tolist() == [20, 20, 20]
    assert stable["correlation"].min() == pytest.approx(1)  # the curves of this study are shifted copies
    curves = load_curves("bach", runs)
    mixed = np.random.default_rng(0).permutation(curves["trial"].unique())
    early = curves["epoch"] == 1
    curves.loc[early, "valid_score"] = curves.loc[early, "trial"].map(lambda k: 100.0 + list(mixed).index(k))
    crossed = summaries.rank_stability(analysis.load("bach", runs), curves)
    assert crossed.query("epoch == 1")["correlation"].abs().max() < 0.9


@pytest.mark.slow
def test_every_specification_is_vega_lite(views: Views, found: Digest, runs: Path) -> None:
    import altair

    ready = Views(Source("bach", runs), Ready({"bach/jsb": found}), live=True)
    own = {"part": "bach/jsb"}
    choices = ready.answer("importance", own)["choices"]
    asked: list[tuple[str, dict[str, str]]] = [("compare", {}), ("curves", {}), ("learning", {})]
    asked += [("importance", {"show": "shares", "score": score, "variant": "vanilla"}) for score in SCORES]
    asked += [("importance", {"show": "shares", "score": "test_score", "variant": ""})]
    asked += [("importance", {"show": "pair", "pair": choices["pair"][0]})]
    asked += [("importance", {"show": "path", "to": choices["to"][0]})]
    names = set()
    answers = [ready.answer(name, own | params)["figures"] for name, params in asked]
    again = pd.DataFrame({"variant": ["vanilla", "np"], "replicate": [0, 0], "seed": [1, 2], "test_score": [8.0, 9.5]})
    again = again.assign(status="finished", searched=8.5, limit=9.0)
    frame = analysis.load("bach", runs)
    table = analysis.compare(frame)
    answers += [comparing.replicated(again, "loss"), comparing.ranks({"a": table, "b": table}, [frame, frame], "valid")]
    for answered in answers:
        for figure in answered:
            data = {name: pd.DataFrame(columns).to_dict("records") for name, columns in figure["data"].items()}
            altair.Chart.from_dict({**figure["spec"], "datasets": data}).to_dict()  # validates
            params = {each["name"] for each in figure["spec"].get("params", ())}
            named = set(re.findall(r'"name": "(\w+)"', json.dumps(figure["spec"]))) - {"brush", *params}
            assert named == set(data), figure["name"]
            names.add(figure["name"].partition("_")[0])
    assert names >= {
        "boxes",
        "differences",
        "curves",
        "expected",
        "stability",
        "shares",
        "marginal",
        "surface",
        "ablation",
    }


def test_importance_says_what_it_does_not_know(found: Digest, runs: Path) -> None:
    views = Views(Source("bach", runs), Ready({"bach/jsb": found}), live=True)
    own = {"part": "bach/jsb", "show": "shares", "variant": "vanilla"}
    answer = views.answer("importance", own | {"score": "diverged"})
    assert "Divergence of vanilla: not shown." in answer["sentences"][0]
    assert not [figure for figure in answer["figures"] if figure["name"].startswith("shares")]
    shown = figures(views.answer("importance", own | {"score": "test_score"}))
    shares = rows(shown["shares_test_score"], "shares")
    assert set(shares["dimensions"]) >= {"lr", "hidden_size"}
    assert {"marginal_lr", "marginal_hidden_size"} <= shown.keys()
    assert len(rows(shown["marginal_lr"], "points")) == 20 - sum(ended("vanilla", k) != "finished" for k in range(20))


def test_divergence_is_explained_by_what_it_comes_from() -> None:
    from analysis.simulation import Truth, plan, simulate

    truth = Truth(effects={})
    fitted = Importance(simulate(truth, 400), plan(truth, 400)).fit("diverged", "vanilla")
    assert fitted and fitted.r2 > 0.2  # it comes of lr alone
    share, error = fitted.debiased("lr")
    assert abs(share - 1) < 2 * error
    assert all(fitted.debiased(name)[0] < 0.2 for name in ("hidden_size", "momentum", "input_noise"))


def test_a_range_of_settings_is_not_tested(views: Views, runs: Path) -> None:
    frame = analysis.load("bach", runs)
    inside = frame["lr"].between(1e-4, 1e-2) & (frame["status"] == "finished")
    answer = views.answer("filtered", {"part": "bach/jsb", "where": '{"lr": [1e-4, 1e-2]}'})
    assert answer["n"] == inside.sum() and f"{inside.sum()} of 57 finished trials" in answer["sentences"][0]
    assert "nothing is tested in it" in answer["sentences"][1]
    assert len(rows(figures(answer)["boxes_all"], "points")) == inside.sum()
    none = views.answer("filtered", {"part": "bach/jsb", "where": '{"lr": [1, 2]}'})
    assert none["figures"] == [] and none["n"] == 0


def test_a_range_is_of_what_the_axis_shows(views: Views, runs: Path) -> None:
    frame = analysis.load("bach", runs)
    answer = views.answer("filtered", {"part": "bach/jsb", "where": '{"momentum": [0.01, 0.1]}'})
    shown = (1 - frame["momentum"]).between(0.01, 0.1) & (frame["status"] == "finished")  # the axis is of 1 - momentum
    assert answer["n"] == shown.sum()


def test_categories_are_chosen_by_name(tmp_path: Path) -> None:
    sizes = sorted({outcome(variant, k, "finished")["hidden_size"] for variant in ("vanilla", "np") for k in range(20)})
    choice = {"hidden_size": {"distribution": "choice", "values": sizes}}
    make_study(tmp_path, variants=("vanilla", "np"), trials=20, space=SPACE | choice)
    views = Views(Source("bach", tmp_path), Never(), live=True)
    frame, chosen = analysis.load("bach", tmp_path), [str(size) for size in sizes[:12]]
    answer = views.answer("filtered", {"part": "bach/jsb", "where": json.dumps({"hidden_size": chosen})})
    inside = frame["hidden_size"].isin(sizes[:12])
    assert answer["n"] == inside.sum() > 5 and f" {chosen[0]} or {chosen[1]} or " in answer["sentences"][0]
    for wrong in ([1, 2], ["7 or 8"], "x", [[1]], {}):
        with pytest.raises(UserError, match="expected ranges of settings, or categories"):
            views.answer("filtered", {"part": "bach/jsb", "where": json.dumps({"hidden_size": wrong})})


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("compare", {"part": "../x"}, "part=../x: expected one of bach/jsb"),
        ("compare", {"part": "bach/jsb", "share": "0.3"}, "share=0.3: expected one of"),
        ("compare", {"part": "bach/jsb", "baseline": "x"}, "baseline=x: expected one of"),
        ("curves", {"part": "bach/jsb", "state": "x"}, "state=x: expected one of"),
        ("filtered", {"part": "bach/jsb", "where": "x"}, "where=x: expected ranges"),
        ("filtered", {"part": "bach/jsb", "where": '{"error": [0, 1]}'}, "where=error: expected one of"),
        ("trial", {"study": "..", "task": "..", "variant": "..", "trial": "1"}, "expected a trial of the study"),
        ("trial", {"study": "bach", "task": "jsb", "variant": "np", "trial": "-1"}, "trial=-1: expected a number"),
        ("news", {}, "since=: expected a version"),
        ("files", {}, "request=files: expected one of"),
    ],
)
def test_what_the_page_asks_is_checked(views: Views, name: str, params: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        views.answer(name, params)


def test_a_trial_has_its_curve_and_its_command(views: Views, runs: Path) -> None:
    answer = views.answer("trial", {"study": "bach", "task": "jsb", "variant": "noaf", "trial": "1"})
    frame, plan = analysis.load("bach", runs), analysis.load_plans("bach", runs)["bach"]
    row = frame[(frame["variant"] == "noaf") & (frame["trial"] == 1)].iloc[0]
    assert answer["command"] == repeat.train(plan, "noaf", row.to_dict())
    curve = rows(figures(answer)["curve"], "curve")
    assert list(curve.query("what == 'valid_score'")["epoch"]) == list(range(1, 21))


def test_seeds_are_not_rounded_by_javascript(views: Views) -> None:
    seeds = views.answer("trials", {})["columns"]["seed"]["each"]
    assert all(isinstance(seed, str) and int(seed) > 2**53 for seed in seeds)
    assert plain(np.int64(7)) == 7 and plain(float("nan")) is None


@pytest.mark.parametrize("study", ["begun", "empty", "one"])
def test_little_is_said_to_be_little(runs: Path, study: str) -> None:
    views = Views(Source(study, runs), Never(), live=True)
    own = {"part": f"{study}/jsb"}
    for name in ("boot", "overview", "trials", "cells", "compare", "curves", "learning", "importance", "findings"):
        json.dumps(views.answer(name, own), allow_nan=False)
    sentences = str(views.answer("compare", own)["sentences"])
    expected = {"begun": "needs 45 trials", "empty": "no trial has finished", "one": "No variant could be tested"}[
        study
    ]
    assert expected in sentences
    assert views.answer("importance", own) == {"pending": "not yet"}


def test_cells_show_their_equations_and_run_no_code_of_a_study(runs: Path, tmp_path: Path) -> None:
    cards = {card["variant"]: card for card in Views(Source("bach", runs), Never(), True).answer("cells", {})["cards"]}
    assert cards["np"]["equations"][-1].startswith("y = tanh(c) ")
    assert "p_i" in str(cards["vanilla"]["equations"]) and "p_i" not in str(cards["np"]["equations"])
    foreign = make_study(tmp_path, variants=("vanilla",), trials=1)
    text = (foreign / "study.yaml").read_text()
    (foreign / "study.yaml").write_text(text.replace("cell: lstm", "cell: evil.Cell"))
    (card,) = Views(Source(foreign), Never(), True).answer("cells", {})["cards"]
    assert card["equations"] == [] and "does not run" in card["note"]


def test_only_what_is_new_is_read(echo: Task, tmp_path: Path) -> None:
    study = sweep(tmp_path / "s", echo)
    study.close()
    reader = StudyReader.open(tmp_path / "s")
    news = News(reader)
    assert len(news.look()) == 6 and news.look() == []
    read: list[str] = []
    reader.leases.records = lambda *args: read.append("whole") or {}  # type: ignore[func-returns-value,method-assign,assignment,misc]
    with sqlite3.connect(tmp_path / "s" / "study.db") as db:  # as a worker ends one more trial
        db.execute("INSERT INTO trials (number, study_id, state) VALUES (7, 1, 'COMPLETE')")
        (last,) = db.execute("SELECT max(trial_id) FROM trials").fetchone()
        db.execute(
            "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (?, 'result', '{\"lr\": 1}')", (last,)
        )
    ((task, variant, number),) = news.look()
    assert (task, number) == ("echo", 7) and news.trials[task, variant][7].attributes == {"result": {"lr": 1}}
    assert not read and news.counts()[task, variant]["finished"] == 4


def test_what_became_visible_out_of_order_is_not_missed(echo: Task, tmp_path: Path) -> None:
    sweep(tmp_path / "s", echo).close()
    news = News(StudyReader.open(tmp_path / "s"))
    news.look()
    with sqlite3.connect(tmp_path / "s" / "study.db") as db:
        db.execute("INSERT INTO trials (number, study_id, state) VALUES (7, 1, 'PRUNED')")  # without a newer attribute
    assert [number for _, _, number in news.look()] == [7]


def test_a_look_leaves_the_storage_as_it_was_and_tells_the_rows_that_changed(echo: Task, tmp_path: Path) -> None:
    sweep(tmp_path / "s", echo).close()
    path = tmp_path / "s" / "study.db"
    before = path.read_bytes()
    source = Source("s", tmp_path)
    version = source.version
    assert source.look() == version and source.rows(version) == [] and len(source.rows(0)) == 6
    assert path.read_bytes() == before and source.trouble == ""
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO trials (number, study_id, state) VALUES (7, 1, 'RUNNING')")
    assert source.look() == version + 1
    (row,) = source.rows(version)
    assert row["trial"] == 7 and row["status"] == "running"


def test_a_study_that_grows_is_followed(echo: Task, tmp_path: Path) -> None:
    sweep(tmp_path / "s", echo).close()
    source = Source("s", tmp_path)
    Study.create(tmp_path / "s", plan(echo, trials=5)).close()
    source.look()
    assert source.plans["s"].trials == 5 and len(source.frame) == 10


def test_a_storage_that_breaks_leaves_what_was_known(echo: Task, tmp_path: Path) -> None:
    sweep(tmp_path / "s", echo).close()
    views = Views(source := Source("s", tmp_path), Never(), live=True)
    (tmp_path / "s" / "study.db").rename(tmp_path / "away.db")
    source.look()
    assert "study.db" in source.trouble
    answer = views.answer("overview", {})
    assert answer["trouble"] == source.trouble and sum(row["finished"] for row in answer["rows"]) == 6
    (tmp_path / "away.db").rename(tmp_path / "s" / "study.db")
    source.look()
    assert source.trouble == ""


HOSTILE = "<script>alert(1)</script>\"'\u202e</bdi>"


def test_no_text_of_a_study_is_markup(tmp_path: Path) -> None:
    study = make_study(
        tmp_path,
        variants=("vanilla", "np"),
        trials=3,
        score=f"{HOSTILE} [nats]",
        status=lambda v, n: "failed" if n else "finished",
    )
    with sqlite3.connect(study / "study.db") as db:
        db.execute(
            "UPDATE trial_user_attributes SET value_json = replace(value_json, 'disk <full>', ?)",
            (json.dumps(HOSTILE)[1:-1],),
        )
    rest = analysis.dashboard(study).html
    assert "alert(1)" not in rest and rest.count("<script") == 1 + len(page.SCRIPTS)
    assert "alert(1)" in str(unpacked(rest))
    assert "alert(1)" not in page.live()


def test_the_page_at_rest_has_the_answers_for_every_control(runs: Path) -> None:
    rest = analysis.dashboard("bach", runs).html
    answers = unpacked(rest)
    assert len(rest.encode()) < 1.5e6
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", rest.partition("<script>")[0])
    live = Views(Source("bach", runs), Never(), live=False)
    for share in ("0.05", "0.1", "0.2"):
        for baseline in VARIANTS:
            params = {"part": "bach/jsb", "share": share, "select": "test", "adjust": "holm", "baseline": baseline}
            kept = answers[page._key("compare", params)]
            answer = live.answer("compare", params)
            assert kept["sentences"] == answer["sentences"]
            assert [t["rows"] for t in kept["tables"]] == [t["rows"] for t in answer["tables"]]
            assert [f["name"] for f in kept["figures"]] == [f["name"] for f in answer["figures"]]
    trials = [key for key in answers if key.startswith("trial\n")]
    assert len(trials) == 60


def test_a_notebook_shows_the_page_and_each_figure(runs: Path) -> None:
    shown = analysis.dashboard("one", runs)._repr_html_()
    assert shown.startswith('<iframe srcdoc="&lt;!doctype html&gt;') and shown.count("<") == 2
    frame = analysis.load("bach", runs)
    for figure in (
        charts.boxes(frame, analysis.compare(frame), "nats", "all"),
        curve_charts.expected(summaries.expected_best(frame), "valid", "n", "nats", "vanilla"),
    ):
        assert isinstance(figure, Figure)
        bundle = figure._repr_mimebundle_()
        spec = bundle["application/vnd.vegalite.v6+json"]
        assert set(spec["datasets"]) == set(figure.data) and figure.caption in bundle["text/plain"]
        json.dumps(spec, allow_nan=False)


@pytest.fixture
def client(views: Views) -> Iterator[TestClient]:
    with TestClient(server.application(views, ("127.0.0.1:8200",)), base_url="http://127.0.0.1:8200") as client:
        yield client


def test_the_server_answers_its_own_page_alone(client: TestClient) -> None:
    found = client.get("/")
    assert found.status_code == 200 and "script-src 'self';" in found.headers["content-security-policy"]
    assert "unsafe-inline'; script" not in found.headers["content-security-policy"] and "<script>" not in found.text
    assert client.get("/api/boot").json()["title"] == "bach"
    for headers in (
        {"host": "evil.example"},
        {"host": "127.0.0.1:8200.evil.example"},
        {"host": "127.0.0.1:1"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1:8200"},
    ):
        assert client.get("/api/boot", headers=headers).status_code == 403, headers
    assert client.get("/api/boot", headers={"origin": "http://127.0.0.1:8200"}).status_code == 200
    assert client.post("/api/boot").status_code == 405
    for path in (
        "/assets/../views.py",
        "/assets/..%2fviews.py",
        "/assets/LICENSES.txt",
        "/assets/vendor/vega.js",
        "/x",
    ):
        assert client.get(path).status_code == 404, path
    for name in (*page.SCRIPTS, page.STYLE):
        assert client.get(f"/assets/{name}").status_code == 200
    wrong = client.get("/api/compare", params={"part": HOSTILE})
    assert wrong.status_code == 400 and wrong.headers["content-type"] == "application/json"


def test_elsewhere_the_server_asks_for_its_token(views: Views) -> None:
    app = server.application(views, (), token="secret")
    with TestClient(app, base_url="http://machine:8200") as client:
        assert client.get("/").status_code == client.get("/api/boot").status_code == 403
        assert client.get("/?token=secret2").status_code == 403
        assert client.get("/api/boot?token=secret").status_code == 200
        found = client.get("/?token=secret", follow_redirects=True)
        assert found.status_code == 200 and "token" not in str(found.url)
        assert client.get("/api/boot").status_code == 200  # by its cookie now
        assert client.get("/api/boot", headers={"origin": "http://other:8200"}).status_code == 403


def test_a_port_that_is_taken_is_another() -> None:
    with server.bound("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with server.bound("127.0.0.1", port) as second:
            assert second.getsockname()[1] not in (0, port)
    with pytest.raises(UserError, match=r"host=192\.0\.2\.1: expected an address of this machine"):
        server.bound("192.0.2.1", 8200)


def test_answers_come_from_any_thread(views: Views) -> None:
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(3):
                views.answer("news", {"since": "0"})
                views.answer("compare", {"part": "bach/jsb"})
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@pytest.mark.slow
def test_importance_is_computed_beside_the_server(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    from analysis import findings

    for name in ("pickle", "sklearn"):  # files of others in the current folder, which are not Odyssey's to run
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    environment = dict(os.environ)
    background = Background(findings.PUBLISHED)
    views = Views(Source("large", runs), background, live=True)
    try:
        part = {"part": "large/jsb"}
        assert "low priority" in views.answer("findings", part)["pending"]
        while "pending" in (answer := views.answer("findings", part)):
            time.sleep(0.5)
        assert answer["tables"][0]["rows"]
        assert views.answer("importance", part)["newer"] == 0
    finally:
        background.close()
    assert not (tmp_path / "ran").exists() and os.environ == environment


def test_bad_input_is_one_line(runs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["study=none"], "study=none: no study in"),
        (["study=bach", "port=0"], "port=0: expected a whole number"),
        (["study=bach", "host=192.0.2.1"], "host=192.0.2.1: expected an address of this machine"),
        (["study=bach", "findings=none.yaml"], "findings=none.yaml: expected a readable YAML file"),
    ):
        assert cli.main(["dashboard", f"runs={runs}", *words]) == 2
        assert said in capfd.readouterr().err
