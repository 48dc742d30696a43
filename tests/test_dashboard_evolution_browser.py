"""The tree of an evolution in Chromium: live while generations are being trained, and at rest from a file."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import analysis
from search.evolve import lineage
from tests.made_evolution import FOUND, cell, make_evolution
from tests.test_dashboard_browser import DRAWN, HOSTILE, ROOT, Watched, browser, pytestmark
from tests.test_evolve import TASKS, WORDS

__all__ = ["browser", "pytestmark"]
CELLS = "main[data-tab=cells][aria-busy=false]"


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    long = cell("g003-000", 3, "g002-001", 1.5, *["insert_activation", "insert_operation"] * 2)
    make_evolution(runs, found=[*FOUND, long], survivors=3)
    path = runs / "rest.html"
    path.write_text(analysis.dashboard("mine", runs).html)
    return path


@pytest.fixture(params=[(1280, "light"), (400, "dark")], ids=["wide", "narrow"])
def tree(request: pytest.FixtureRequest, browser: Any, rest: Path) -> Iterator[Watched]:
    width, scheme = request.param
    with Watched(browser, viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True) as watched:
        watched.open(f"{rest.as_uri()}#tab=cells")
        yield watched
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
        assert not watched.wrong


def point_at(watched: Watched, name: str) -> None:
    """Moves over the tree until that cell is under the pointer."""
    box = watched.canvas("family_mine")
    for row in range(8, int(box["height"]), 8):
        for column in range(4, int(box["width"]) // 2, 6):
            watched.page.mouse.move(box["x"] + column, box["y"] + row)
            tip = watched.page.locator(".tip strong")
            if tip.count() and name in tip.inner_text():
                return
    raise AssertionError(f"{name} is not under the pointer")


def chosen(watched: Watched) -> str:
    text: str = watched.page.locator(".chosen h3").inner_text()
    return text


def test_a_cell_of_the_tree_shows_its_equations_and_stays_when_clicked(tree: Watched) -> None:
    page = tree.page
    assert chosen(tree).startswith("1. g003-000") and tree.until(DRAWN)
    point_at(tree, "g001-000")
    assert page.locator(".tip pre").inner_text() == "y = tanh(W x + R y)"
    assert "from vanilla by swap, share" in page.locator(".tip").inner_text()
    page.mouse.down()
    page.mouse.up()
    tree.until("document.querySelector('.chosen h3').textContent.includes('g001-000')")
    page.wait_for_selector(CELLS, state="attached")
    assert "cell=mine%2Fg001-000" in page.url and page.locator(".chosen h3").is_visible()
    tree.open(page.url)  # a link reopens the view
    assert chosen(tree).startswith("3. g001-000") and page.locator(".chosen dd").inner_text() == "1.200"
    page.click(".chosen a:has-text('vanilla')")
    tree.until("document.querySelector('.chosen h3').textContent.includes('vanilla')")
    tree.open(re.sub("cell=.*", "cell=mine%2Fg001-001", page.url))
    assert chosen(tree).startswith("1. g003-000")
    assert "g001-001 is not in the tree" in page.locator(".chosen [role=status]").inner_text()


def test_the_keyboard_goes_through_the_tree(tree: Watched) -> None:
    page = tree.page
    page.evaluate("document.querySelector('figure').dataset.stood = '1'")
    page.locator("[data-control=cell] select").focus()
    names = [chosen(tree)]
    for _ in range(2):
        page.keyboard.press("ArrowUp")
        tree.until(f"document.querySelector('.chosen h3').textContent !== {names[-1]!r}")
        page.wait_for_selector(CELLS, state="attached")
        names.append(chosen(tree))
    assert [re.findall(r"g\d+-\d+", name)[0] for name in names] == ["g003-000", "g002-001", "g001-002"]
    assert page.evaluate("document.activeElement.closest('[data-control]').dataset.control") == "cell"
    assert page.locator("figure[data-stood]").count() == 1, "the tree is not drawn anew"


def test_the_tree_is_told_and_is_files(tree: Watched, tmp_path: Path) -> None:
    page = tree.page
    label = page.locator("figure[data-figure=family_mine] canvas").get_attribute("aria-label")
    assert label.startswith("Family tree of the survivors of mine. The best 3 by relative score")
    for kind, begins in (("PNG", b"\x89PNG"), ("SVG", b"<svg"), ("CSV", b"data,cell,generation,parent")):
        with page.expect_download() as waiting:
            page.click(f"figure[data-figure=family_mine] .files button:text-is('{kind}')")
        waiting.value.save_as(tmp_path / kind)
        assert (tmp_path / kind).read_bytes().startswith(begins)
    drawn = (tmp_path / "SVG").read_text()
    assert "1. g003-000  1.500" in drawn and "g001-002" in drawn
    within = page.evaluate("document.querySelector('figure canvas').getBoundingClientRect().right <= innerWidth")
    assert within and page.locator(".table tbody tr").count() == 5


def test_axe_finds_nothing_serious_in_the_tree(browser: Any, rest: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    for scheme in ("light", "dark"):
        with Watched(browser, color_scheme=scheme, bypass_csp=True) as watched:
            watched.open(f"{rest.as_uri()}#tab=cells")
            found = axe.Axe().run(watched.page).response["violations"]
            serious = [each for each in found if each["impact"] in ("serious", "critical")]
            assert not serious, [(each["id"], each["nodes"][0]["html"][:200]) for each in serious]


def test_hostile_texts_of_a_record_are_texts(browser: Any, tmp_path: Path) -> None:
    folder = make_evolution(tmp_path)
    made = cell(HOSTILE, 2, "g001-000", 1.4, HOSTILE)
    lineage.write(folder, [*FOUND, made, cell("g003-000", 3, HOSTILE, 1.5, "one")])
    (tmp_path / "page.html").write_text(analysis.dashboard("mine", tmp_path).html)
    with Watched(browser) as watched:
        watched.open(f"{(tmp_path / 'page.html').as_uri()}#tab=cells")
        page = watched.page
        assert not page.locator("main img").count()
        page.click(".chosen a:has-text('img')")
        watched.until("document.querySelector('.chosen h3').textContent.includes('<img src=x')")
        assert not page.locator("main img").count() and page.evaluate("window.pwned") is None and not watched.wrong


@pytest.fixture
def evolving(tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """The address of the page of an evolution, and what goes on with it to a number of generations."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    (tmp_path / "conf" / "task").mkdir(parents=True)
    for name, definition in TASKS.items():
        (tmp_path / "conf" / "task" / f"{name}.yaml").write_text(json.dumps(definition))
    odyssey = [sys.executable, "-m", "search"]
    words = [word for word in WORDS if not word.startswith("generations=")]

    def go_on(generations: int) -> None:
        own = [*odyssey, "evolve", "study=s", *words, f"generations={generations}", "--config-dir", "conf"]
        subprocess.run(own, cwd=tmp_path, env=environment, check=True, stderr=subprocess.DEVNULL)

    go_on(1)
    serving = subprocess.Popen(
        [*odyssey, "dashboard", "study=s", "port=8200"],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert serving.stdout
        yield serving.stdout.readline().strip(), go_on
        serving.send_signal(signal.SIGINT)
        assert serving.wait(60) == 0
    finally:
        serving.kill()
        serving.wait()


def test_the_live_page_follows_an_evolution(browser: Any, evolving: tuple[str, Any]) -> None:
    address, go_on = evolving
    with Watched(browser) as watched:
        watched.open(f"{address}#tab=cells")
        said = "document.querySelector('main .said').textContent"
        assert watched.page.evaluate(said).startswith("s: 1 of 1 generations are complete")
        watched.page.evaluate("window.stayed = true")
        go_on(2)
        watched.until(f"{said}.startsWith('s: 2 of 2 generations are complete')")
        watched.page.wait_for_selector(CELLS, state="attached")
        assert watched.page.evaluate("window.stayed") and watched.until(DRAWN)
        watched.tab("compare")
        options = watched.page.locator("[data-control=baseline] option").all_inner_texts()
        assert {"gru", "np"} <= set(options) and not watched.page.locator("main p.bad").count()
        watched.tab("overview")
        assert watched.page.locator("table.progress tbody tr").count() == 3 and not watched.wrong
