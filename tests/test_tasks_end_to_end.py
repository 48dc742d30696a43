"""The licensed corpora, as miniatures in their own formats, from the command line to the report."""

from pathlib import Path

import pytest

from analysis import load
from search.run.cli import main
from tests import test_iamondb, test_timit
from tests.at_rest import texts


@pytest.mark.slow
@pytest.mark.parametrize("task, unit", [("timit", "frame error rate"), ("iamondb", "character error rate")])
def test_a_corpus_is_swept_and_reported(
    task: str, unit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if task == "timit":
        corpus = test_timit.tree(tmp_path / "corpus")
        space = "space=odyssey_timit"
    else:
        corpus = test_iamondb.archives(tmp_path / "corpus", test_iamondb.miniature())
        space = "space=odyssey"
    study = [f"task={task}", f"task.path={corpus}", f"task.cache={tmp_path}", space, f"study={task}"]
    assert main(["sweep", *study, "variants=[vanilla,gru]", "trials=3", "epochs=2", "space.lr.low=1e-4"]) == 0
    frame = load(task, tmp_path / "runs")
    assert set(frame.status) == {"finished"} and frame.test_score.between(0, 1000).all()
    assert ("momentum_type" in frame) == (task == "timit")
    assert main(["report", f"study={task}"]) == 0
    page = (tmp_path / "runs" / task / "report" / "index.html").read_text()
    assert unit in texts(page) and "Traceback" not in capfd.readouterr().err
