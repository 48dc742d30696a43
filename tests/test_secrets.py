"""Passwords in a URL of a storage reach no file, no log, no screen, and the list of processes only at a start."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from search.errors import UserError, masked, masked_command
from search.run import cli
from search.study.storage import kept
from tests.postgres import PASSWORD, Postgres, dump

CONF = ["--config-dir", str(Path(__file__).parent / "conf"), "task=echo"]
STUDY = ["study=s", "variants=[rnn]", "trials=2", "epochs=40", "patience=40", "task.n_sequences=2000"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
@pytest.mark.parametrize("place", ["user", "query"])
def test_a_password_reaches_no_file_no_log_no_table_and_no_process_title(
    tmp_path: Path, postgres: Postgres, place: str
) -> None:
    bare = postgres.database(f"secrets_{place}")
    secret = quote(PASSWORD, safe="")
    url = bare.replace("@", f":{secret}@") if place == "user" else f"{bare}?password={secret}"
    command = [sys.executable, "-m", "search", "sweep", *CONF, f"storage={url}", f"runs={tmp_path}", *STUDY]
    clean = {name: value for name, value in os.environ.items() if name != "PGPASSWORD"}
    workers = ["launcher.workers=2"]
    process = subprocess.Popen([*command, *workers], env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    titles = []
    while process.poll() is None:
        titles.append(command_lines(process.pid))
        time.sleep(0.05)
    assert process.stdout is not None
    said = process.stdout.read()
    assert process.returncode == 0, said.decode()
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()) + said
    for form in (secret.encode(), PASSWORD.encode()):
        assert form not in written + dump(bare)
        assert form not in titles[len(titles) // 2]  # the first are from before the program began
    assert b"***" in titles[len(titles) // 2] and b"search.run.launchers" in titles[len(titles) // 2]


def command_lines(pid: int) -> bytes:
    """The command lines of a process and its children, of those that live at the moment each is read."""
    lines = b""
    with suppress(OSError):
        for each in (pid, *Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            with suppress(OSError):
                lines += Path(f"/proc/{each}/cmdline").read_bytes()
    return lines


@pytest.mark.slow
@pytest.mark.parametrize(
    "word",
    [
        "storage=postgresql://me:hunter2,x@127.0.0.1:1/db",
        "storage=postgresql://me:x hunter2'x@127.0.0.1:1/db",
        "storage='postgresql://me:x,hunter2@127.0.0.1:1/db",
        "storage=postgresql://127.0.0.1:1/db?user=me&password=x hunter2",
        "storage=postgresql:/me:hunter2@host/db",
        "storage=me:hunter2@host/db",
        "storage=nosuch://me:hunter2@host/db",
        "storage=[postgresql://me:hunter2@host/db]",
        "storage={a: 'postgresql://me:hunter2@host/db'}",
        "storge=postgresql://me:hunter2@host/db",
        "postgresql://me:hunter2@host/db",
        "--storage=postgresql://me:hunter2@host/db",
    ],
)
@pytest.mark.parametrize("command", ["sweep", "status"])
def test_bad_input_shows_no_password(
    command: str, word: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PGPASSWORD", "")
    assert cli.main([command, *(CONF if command == "sweep" else []), "study=s", word]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and "hunter2" not in err
    assert not list(tmp_path.iterdir())


def test_neither_a_word_in_the_wrong_place_nor_the_settings_of_a_command_show_a_password(
    capfd: pytest.CaptureFixture[str],
) -> None:
    word = "storage=postgresql://me:hunter2@host/db"
    assert cli.main([word, "sweep"]) == 2 and cli.main(["status", "study=s", word, "--cfg", "job"]) == 0
    out, err = capfd.readouterr()
    assert "hunter2" not in out + err and "storage: postgresql://***@host/db" in out


def test_a_fault_of_the_program_shows_no_password(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(composed: object, composer: object) -> None:
        raise RuntimeError(f"this should not happen: {composed}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(cli.COMMANDS, "sweep", (f"{__name__}:_broken", ""))
    monkeypatch.setattr(sys.modules[__name__], "_broken", broken, raising=False)
    for url in ("postgresql://me:x hunter2@host/db", "postgresql://host/db?password=x hunter2"):
        assert cli.main(["sweep", *CONF, "study=s", f"storage={url}"]) == 1
        said = capfd.readouterr().err
        assert "this should not happen" in said and "hunter2" not in said


def test_the_command_that_goes_on_is_whole_but_for_the_password() -> None:
    words = ["sweep", "storage=postgresql://me:it's a secret@host/db", "study=a@b", "runs=/a@b"]
    assert masked_command(words) == "sweep 'storage=postgresql://***@host/db' study=a@b runs=/a@b"


def test_passwords_are_masked() -> None:
    assert masked("postgresql://me:p@ss/w@host:5432/db") == "postgresql://***@host:5432/db"
    assert masked("x://u:p q@h/db differs from y://v:'q@g/e") == "x://***@h/db differs from y://***@g/e"
    assert masked("mysql://host/db?password=a b&ssl=1") == "mysql://host/db?password=***&ssl=1"
    assert masked("host=x password='a b' dbname=y") == "host=x password=*** dbname=y"
    assert masked("sqlite:////tmp/study.db runs=/a@b") == "sqlite:////tmp/study.db runs=/a@b"


def test_a_password_is_kept_out_of_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "")
    assert kept("postgresql://me:a%2Fb@host:5/db?sslmode=require") == ("postgresql://me@host:5/db?sslmode=require")
    assert os.environ["PGPASSWORD"] == "a/b"
    assert kept("postgresql://me@host/db?password=c%20d&sslmode=require") == "postgresql://me@host/db?sslmode=require"
    assert os.environ["PGPASSWORD"] == "c d"
    assert kept("sqlite:////tmp/x.db") == "sqlite:////tmp/x.db"
    with pytest.raises(UserError, match="expected sqlite:"):
        kept("not a url")
