"""The page in Chromium: live on a study that is being trained, and at rest from a file, without a network."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import analysis
from analysis.dashboard.digest import Ready, digest
from analysis.dashboard.page import at_rest
from analysis.dashboard.source import Source
from analysis.dashboard.views import Views
from analysis.importance import Importance
from analysis.part import Part
from tests.test_analysis import ended, make_study
from tests.test_report import add_curves

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, as by apt-get install chromium"),
]
ROOT = Path(__file__).parents[1]
VARIANTS = ("vanilla", "noaf", "np")
TABS = ("overview", "compare", "importance", "curves", "trials", "cells")
READY = "html[data-ready] main[aria-busy=false]"
# Read from copies: a canvas that is read twice, as one that stays while tabs change, is something Chromium warns of.
DRAWN = """[...document.querySelectorAll("figure canvas")].every(c => {
    const copy = document.createElement("canvas");
    [copy.width, copy.height] = [c.width, c.height];
    const context = copy.getContext("2d", { willReadFrequently: true });
    context.drawImage(c, 0, 0);
    return context.getImageData(0, 0, c.width, c.height).data.some((v, i) => i % 4 == 0 && v != 255 && v != 0);
})"""
LONG = 120_000  # ms; the machine may be busy with other tests


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    add_curves(make_study(runs, variants=VARIANTS, trials=60, status=ended), VARIANTS, 60)
    return runs


@pytest.fixture(scope="module")
def rest(runs: Path) -> Path:
    """The page at rest, with importance of few trees."""
    frame, plan = analysis.load("bach", runs), analysis.load_plans("bach", runs)["bach"]
    table = analysis.compare(frame)
    part = Part("bach", "jsb", "jsb", "jsb", plan, frame, table, plan.score, Importance(frame, plan))
    source = Source("bach", runs)
    path = runs / "rest.html"
    path.write_text(at_rest(Views(source, Ready({"bach/jsb": digest(part, [])}), live=False)))
    source.close()
    return path


class Watched:
    """A page, and what went wrong on it."""

    def __init__(self, browser: Any, **options: Any):
        self.context = browser.new_context(accept_downloads=True, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(LONG)
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda m: self.wrong.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, address: str) -> None:
        self.page.goto("about:blank")
        self.page.goto(address)
        self.ready()

    def ready(self) -> None:
        self.page.wait_for_selector(READY, state="attached")

    def tab(self, name: str) -> None:
        self.page.click(f"nav a[data-tab={name}]")
        self.page.wait_for_selector(f"main[data-tab={name}][aria-busy=false]", state="attached")

    def until(self, condition: str) -> Any:
        """Waits for a JavaScript expression to hold; Playwright's own way is one that the page's policy forbids."""
        end = time.monotonic() + LONG / 1000
        while not (found := self.page.evaluate(condition)):
            assert time.monotonic() < end, condition
            time.sleep(0.1)
        return found

    def canvas(self, figure: str) -> dict[str, float]:
        place = self.page.locator(f"figure[data-figure={figure}] canvas").first
        place.scroll_into_view_if_needed()
        box: dict[str, float] = place.bounding_box()
        return box

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


@pytest.fixture
def at_rest_page(browser: Any, rest: Path) -> Iterator[Watched]:
    with Watched(browser, viewport={"width": 1280, "height": 900}, offline=True) as watched:
        watched.open(rest.as_uri())
        yield watched
        assert not watched.wrong and all(url.startswith(("file:", "about:", "data:", "blob:")) for url in watched.asked)


def hover(watched: Watched, figure: str) -> None:
    """Moves over a figure until a trial is under the pointer."""
    box = watched.canvas(figure)
    for row in range(6, 40):
        for column in range(12, 60):
            watched.page.mouse.move(box["x"] + box["width"] * column / 64, box["y"] + box["height"] * row / 48)
            if watched.page.locator(".tip").count():
                return
    raise AssertionError("no point under the pointer")


def test_a_file_shows_every_tab_without_a_network(at_rest_page: Watched) -> None:
    page = at_rest_page.page
    assert "57" not in page.title() and "bach" in page.title()
    for tab in TABS:
        at_rest_page.tab(tab)
        assert not page.locator("main p.bad").count(), page.locator("main p.bad").first.inner_text()
        if tab in ("overview", "compare", "importance", "curves"):
            assert page.locator("figure canvas").count() >= (2 if tab == "overview" else 3)
            at_rest_page.until(DRAWN)
            labels = page.locator("figure canvas").evaluate_all("all => all.map(c => c.getAttribute('aria-label'))")
            assert all(label and len(label) > 40 for label in labels)


def test_controls_change_the_figures_and_the_address(at_rest_page: Watched) -> None:
    page = at_rest_page.page
    at_rest_page.tab("compare")
    before = page.locator("figure[data-figure=differences] figcaption").inner_text()
    page.select_option("[data-control=baseline] select", "np")
    at_rest_page.until("document.querySelector('main figure[data-figure=differences] h3')?.textContent.includes('np')")
    assert "less that of np" in page.locator("figure[data-figure=differences] figcaption").inner_text() != before
    page.select_option("[data-control=share] select", "0.2")
    at_rest_page.until("[...document.querySelectorAll('main h3')].some(h => h.textContent === 'Best 20 %')")
    at_rest_page.ready()
    assert "baseline=np" in page.url and "share=0.2" in page.url and "tab=compare" in page.url
    again = page.url
    at_rest_page.tab("cells")
    page.go_back()
    page.wait_for_selector("main[data-tab=compare][aria-busy=false]", state="attached")
    at_rest_page.open(again)  # a link reopens the view
    assert page.locator("[data-control=baseline] select").input_value() == "np"
    assert page.locator("main h3").all_inner_texts()[1] == "Best 20 %"


def test_a_point_tells_its_trial_and_opens_it(at_rest_page: Watched) -> None:
    page = at_rest_page.page
    at_rest_page.tab("compare")
    hover(at_rest_page, "boxes_all")
    tip = page.locator(".tip")
    at_rest_page.until("document.querySelector('.tip dl') !== null")
    name = tip.locator("strong").inner_text()
    assert {"status", "valid_score", "lr", "hidden_size"} <= set(tip.locator("dt").all_text_contents())
    page.wait_for_selector(".tip polyline", state="attached")
    page.mouse.down()
    page.mouse.up()
    page.wait_for_selector("main[data-tab=trial][aria-busy=false]", state="attached")
    assert page.locator("main h2").first.inner_text() == name
    assert page.locator("main pre").first.inner_text().startswith("odyssey train variant=")
    assert page.locator("figure[data-figure=curve] canvas").count() == 1
    assert "y = " in page.locator(".card pre").inner_text()


def drag(watched: Watched, figure: str, low: float, high: float) -> None:
    """Drags over a part of the width of a figure that can be brushed, until what is in the range is shown."""
    page, box = watched.page, watched.canvas(figure)
    page.mouse.move(box["x"] + low * box["width"], box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + high * box["width"], box["y"] + 60, steps=8)
    page.mouse.up()
    page.wait_for_selector(".brushed figure[data-figure=boxes_all] canvas")


def test_a_control_leaves_what_it_does_not_change(at_rest_page: Watched) -> None:
    page = at_rest_page.page
    at_rest_page.tab("importance")
    drag(at_rest_page, "marginal_lr", 0.6, 0.9)
    caption = "document.querySelector('figure[data-figure=marginal_lr] figcaption').textContent"
    page.evaluate("document.querySelectorAll('main figure').forEach((f) => { f.dataset.stood = '1'; })")
    before = page.evaluate(caption)
    pair = page.locator("[data-control=pair] option:not(:checked)").first.get_attribute("value")
    page.select_option("[data-control=pair] select", pair)
    at_rest_page.ready()
    assert page.evaluate(caption) == before
    assert page.locator("figure[data-stood][data-figure^=marginal_]").count() == 4
    assert page.locator("figure[data-stood][data-figure^=surface_]").count() == 0
    page.select_option("[data-control=of] select", "np")
    at_rest_page.ready()
    assert " np against lr" in page.evaluate(caption)
    assert page.locator("figure[data-stood][data-figure^=marginal_]").count() == 4
    was = page.url
    drag(at_rest_page, "marginal_lr", 0.2, 0.5)
    at_rest_page.until(f"location.href !== {was!r} && location.href.includes('of=np')")


@pytest.mark.parametrize(
    ("tab", "moves"),
    [
        ("importance", {"of": "np", "score": "train_seconds"}),
        ("importance", {"score": "train_seconds", "of": "all"}),
        ("compare", {"share": "0.2", "baseline": "np"}),
    ],
)
def test_what_controls_lead_to_is_what_its_address_opens(
    at_rest_page: Watched, tab: str, moves: dict[str, str]
) -> None:
    page = at_rest_page.page
    at_rest_page.tab(tab)
    for control, value in moves.items():
        page.select_option(f"[data-control={control}] select", value)
        at_rest_page.ready()
    shown = """Object.fromEntries([...document.querySelectorAll('main figure')].map(
        (f) => [f.dataset.figure, f.querySelector('canvas').toDataURL() + f.querySelector('figcaption').innerText]))"""
    moved = page.evaluate(shown)
    at_rest_page.open(page.url)
    opened = page.evaluate(shown)
    assert list(moved) == list(opened) and len(moved) > 3
    assert [name for name in moved if moved[name] != opened[name]] == []


def test_a_brush_filters_boxes_and_curves(at_rest_page: Watched) -> None:
    page = at_rest_page.page
    at_rest_page.tab("importance")
    drag(at_rest_page, "marginal_lr", 0.6, 0.9)
    said = page.locator(".brushed .said").first.inner_text()
    (n,) = re.findall(r"^(\d+) finished trials in the range", said)
    assert 5 < int(n) < 150 and "where=" in page.url
    page.wait_for_selector(".brushed figure[data-figure^=curves] canvas")


def test_figures_and_tables_are_files(at_rest_page: Watched, tmp_path: Path) -> None:
    page = at_rest_page.page
    at_rest_page.tab("compare")
    for kind, begins in (("PNG", b"\x89PNG"), ("SVG", b"<svg"), ("CSV", b"data,variant")):
        with page.expect_download() as waiting:
            page.click(f"figure[data-figure=boxes_best] .files button:text-is('{kind}')")
        waiting.value.save_as(tmp_path / kind)
        assert waiting.value.suggested_filename == f"boxes_best.{kind.lower()}"
        assert (tmp_path / kind).read_bytes().startswith(begins)
    with page.expect_download() as waiting:
        page.click(".table .files button >> nth=0")
    waiting.value.save_as(tmp_path / "table")
    assert len((tmp_path / "table").read_text().splitlines()) == 1 + len(VARIANTS)


def test_trials_are_sorted_filtered_selected_and_saved(at_rest_page: Watched, tmp_path: Path) -> None:
    page = at_rest_page.page
    at_rest_page.tab("trials")
    page.fill("input[type=search]", "np finished lr<0.001")
    at_rest_page.until(r"/^\d\d? of 180 trials/.test(document.querySelector('.count').textContent)")
    page.click("th button:has-text('valid_score')")
    texts = page.locator(".trials tbody tr:not([aria-hidden]) td:nth-child(5)").all_inner_texts()
    assert len(texts) > 5 and [float(t) for t in texts] == sorted(float(t) for t in texts)
    assert set(page.locator(".trials tbody tr:not([aria-hidden]) td:nth-child(2)").all_inner_texts()) == {"np"}
    page.locator(".trials tbody input[type=checkbox]").first.check()
    page.locator(".trials tbody input[type=checkbox]").nth(2).check()
    with page.expect_download() as waiting:
        page.click(".bar button:text-is('CSV')")
    waiting.value.save_as(tmp_path / "trials.csv")
    assert len((tmp_path / "trials.csv").read_text().splitlines()) == 3
    assert "filter=np" in page.url and "sort=valid_score" in page.url


def test_the_keyboard_is_enough(at_rest_page: Watched) -> None:
    page = at_rest_page.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    focused = page.evaluate("document.activeElement.dataset.tab")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"main[data-tab={focused}][aria-busy=false]", state="attached")
    page.keyboard.press("Alt+5")
    page.wait_for_selector("main[data-tab=trials][aria-busy=false]", state="attached")
    page.locator(".trials tbody a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("main[data-tab=trial][aria-busy=false]", state="attached")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (400, "light"), (400, "dark")])
def test_no_tab_is_wider_than_the_window(browser: Any, rest: Path, width: int, scheme: str) -> None:
    with Watched(browser, viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True) as watched:
        watched.open(rest.as_uri())
        for tab in TABS:
            watched.tab(tab)
            assert watched.page.evaluate("document.documentElement.scrollWidth") <= width, tab
        dark = watched.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(23, 24, 26)"
        assert dark == (scheme == "dark") and not watched.wrong


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Any, rest: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with Watched(browser, color_scheme=scheme, bypass_csp=True) as watched:
        watched.open(rest.as_uri())
        for tab in TABS:
            watched.tab(tab)
            found = axe.Axe().run(watched.page).response["violations"]
            serious = [each for each in found if each["impact"] in ("serious", "critical")]
            assert not serious, (tab, [(each["id"], each["nodes"][0]["html"][:200]) for each in serious])


def test_it_prints(browser: Any, rest: Path, tmp_path: Path) -> None:
    with Watched(browser) as watched:
        watched.open(f"{rest.as_uri()}#tab=compare")
        watched.page.emulate_media(media="print")
        assert not watched.page.locator("nav").is_visible() and watched.page.locator("figure canvas").first.is_visible()
        assert len(watched.page.pdf()) > 20_000


HOSTILE = '</bdi><img src=x onerror="window.pwned=1">\'\u202e<script>window.pwned=1</script>'


def test_hostile_texts_are_texts_on_every_tab(browser: Any, tmp_path: Path) -> None:
    variants = {"vanilla": {"cell": "lstm"}, "np": {"cell": "lstm", HOSTILE: HOSTILE}}
    study = make_study(
        tmp_path,
        variants=("vanilla", "np"),
        trials=60,
        score=HOSTILE,
        status=lambda v, n: "failed" if n == 3 else "finished",
    )
    path = study / "study.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"variants": variants}))
    add_curves(study, ("vanilla", "np"), 60)
    import sqlite3

    with sqlite3.connect(study / "study.db") as db:
        said = (json.dumps(HOSTILE)[1:-1],)
        db.execute("UPDATE trial_user_attributes SET value_json = replace(value_json, 'disk <full>', ?)", said)
        db.execute("UPDATE trial_user_attributes SET value_json = replace(value_json, '4127015', ?)", said)
        db.execute(
            "UPDATE studies SET study_name = ? WHERE study_name LIKE '%/np'", (f"bach/jsb/{HOSTILE.replace('/', '|')}",)
        )
    (tmp_path / "page.html").write_text(analysis.dashboard(study).html)
    with Watched(browser) as watched:
        watched.open((tmp_path / "page.html").as_uri())
        for tab in TABS:
            watched.tab(tab)
            assert not watched.page.locator("main img").count()
        watched.tab("overview")
        assert "<img src=x" in watched.page.locator("main").inner_text()
        watched.tab("trials")
        watched.page.fill("input[type=search]", "img")
        watched.until("document.querySelector('.count').textContent.startsWith('61 of')")
        assert "<img src=x" in watched.page.locator(".trials").inner_text()
        assert watched.page.evaluate("window.pwned") is None and not watched.wrong


@pytest.fixture
def training(tmp_path: Path) -> Iterator[tuple[str, Path, subprocess.Popen[str]]]:
    """A study that is being trained, and the address of its page."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    conf = ["--config-dir", str(ROOT / "tests" / "conf"), "task=echo", "engine=reference", "population=2", "threads=1"]
    plan = ["study=s", "variants=[vanilla,rnn]", "trials=200", "epochs=30", "patience=30", "space.hidden_size.high=24"]
    odyssey = [sys.executable, "-m", "search"]
    sweep = subprocess.Popen(
        [*odyssey, "sweep", *conf, *plan, f"runs={tmp_path}"], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        while not (tmp_path / "s" / "study.yaml").exists():
            assert sweep.poll() is None
            time.sleep(0.2)
        serving = subprocess.Popen(
            [*odyssey, "dashboard", "study=s", f"runs={tmp_path}", "port=8200"],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert serving.stdout
        yield serving.stdout.readline().strip(), tmp_path, serving
        serving.send_signal(signal.SIGINT)
        assert serving.wait(60) == 0
    finally:
        for process in (sweep, serving):
            process.kill()
            process.wait()


def test_the_live_page_follows_a_study_that_is_being_trained(
    browser: Any, training: tuple[str, Path, subprocess.Popen[str]]
) -> None:
    address, _, _ = training
    with Watched(browser) as watched:
        page = watched.page
        watched.open(address)
        count = "Number(document.querySelector('.lead').textContent.match(/^(\\\\d+) of 400/)[1])".replace("\\\\", "\\")
        watched.until(f"{count} > 0")
        seen = page.evaluate(count)
        watched.until(f"{count} > {seen}")  # without a reload
        assert page.locator("table.progress tbody tr").count() == 2
        assert "held" not in watched.wrong and page.locator("section table tbody tr").count() >= 1  # its worker
        for tab in ("compare", "curves", "trials", "cells", "importance"):
            watched.tab(tab)
            assert not page.locator("main p.bad").count()
        watched.tab("trials")
        text = page.locator(".count").inner_text()
        assert text == "400 of 400 trials"
        cells = "[...document.querySelectorAll('.trials tbody td:nth-child(4)')]"
        finished = f"() => {cells}.filter(td => td.textContent === 'finished').length"
        before = page.evaluate(finished)
        watched.until(f"({finished})() > {before}")
        assert not watched.wrong
