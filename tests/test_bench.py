import json
from pathlib import Path

import pytest

from search.cells import get
from search.network import Network
from search.run.bench import Settings, flops_per_step, measure, paper_sizes, ratios, spread
from search.run.cli import main
from search.tasks import Task

ROOT = Path(__file__).parents[1]


def test_operations_of_a_step_are_those_of_its_matrix_products() -> None:
    m, n, out = 88, 63, 88
    vanilla = Network(get("vanilla"), m, n, out)
    assert flops_per_step(vanilla) == 2 * (2 * 4 * n * m + 3 * 4 * n * n + 3 * n * out)
    fgr = Network(get("fgr"), m, n, out)
    assert flops_per_step(fgr) - flops_per_step(vanilla) == 2 * 3 * 9 * n * n
    both = Network(get("vanilla"), m, n, out, bidirectional=True)
    assert flops_per_step(both) == 2 * flops_per_step(vanilla)


def test_a_spread_covers_the_ratio_of_any_two_repeats() -> None:
    assert ratios([8, 10, 12], [1, 2, 4]) == [2, 5, 12]
    assert spread([3, 1, 2]) == "2 (1 to 3)"


def test_paper_sizes_are_spread_over_the_papers_distribution() -> None:
    sizes = paper_sizes(3)
    assert sizes == sorted(sizes) and sizes[0] > 20 and sizes[1] == 63 and sizes[2] < 200


@pytest.mark.slow
def test_every_figure_has_a_spread(echo: Task) -> None:
    said: list[str] = []
    settings = Settings(["reference", "cpu"], ["vanilla", "gru"], [3], population=2, repeats=2, threads=1)
    record = measure(echo, settings, said.append)
    assert len(record["engines"]) == 4
    for row in record["engines"]:
        assert len(row["seconds"]) == 2 and min(row["seconds"]) > 0 and 0 < min(row["sgemm_share"]) < 1
        assert set(row["times_faster_than"]) >= ({"loop", "nn.LSTM"} if row["variant"] == "vanilla" else set())
    assert {row["peer"] for row in record["peers"]} >= {"loop", "nn.LSTM"}
    for projection in record["projection"]:
        assert min(projection["column_seconds"]) < min(projection["all_seconds"])
    assert any("trials an hour" in line for line in said)
    json.dumps(record, allow_nan=False)


@pytest.mark.slow
def test_bench_writes_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "--config-dir", str(ROOT / "tests" / "conf"), "task=echo", "variants=[rnn]", "hidden_sizes=[3]"]
    assert main([*words, "repeats=1", "population=2", f"out={tmp_path}"]) == 0
    (written,) = tmp_path.glob("*.json")
    assert json.loads(written.read_text())["engines"][0]["variant"] == "rnn"
    assert str(written) in capsys.readouterr().out


@pytest.mark.parametrize(
    "word", ["engines=[warp]", "variants=[vanila]", "hidden_sizes=[0]", "repeats=0", "population=0"]
)
def test_bad_settings_of_bench_are_one_line(word: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", word]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1
