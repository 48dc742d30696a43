"""A PostgreSQL server of the tests' own: one user, with a password, on a port of loopback."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

PASSWORD = "open sesame/@:%"


def installed() -> bool:
    return _program("initdb") is not None


def dump(url: str) -> bytes:
    """All that is in a database of a server that runs."""
    program = _program("pg_dump")
    assert program is not None
    return subprocess.run([program, url], check=True, stdout=subprocess.PIPE).stdout


class Postgres:
    """Use as a context; inside, the server runs unless it was stopped, and PGPASSWORD is set."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="odyssey-postgres-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        secret = self._folder / "secret"
        secret.write_text(PASSWORD)
        # The server refuses to run as root, whom containers like to be.
        self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        if self._as:
            for path in (self._folder, secret):
                shutil.chown(path, "postgres", "postgres")
        options = ["--username=odyssey", f"--pwfile={secret}", "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"]
        self._run("initdb", f"--pgdata={self._folder / 'data'}", *options)

    def __enter__(self) -> "Postgres":
        self.start()
        os.environ["PGPASSWORD"] = PASSWORD
        return self

    def __exit__(self, *_: object) -> None:
        os.environ.pop("PGPASSWORD", None)
        self.stop()
        shutil.rmtree(self._folder)

    def start(self) -> None:
        server = f"-p {self._port} -c listen_addresses=127.0.0.1 -k {self._folder} -c max_connections=200"
        log = self._folder / "log"
        self._run("pg_ctl", f"--pgdata={self._folder / 'data'}", "-w", "-o", server, "-l", str(log), "start")

    def stop(self, mode: str = "immediate") -> None:
        """As after a loss of power, unless `mode` says otherwise."""
        self._run("pg_ctl", f"--pgdata={self._folder / 'data'}", "-w", "-m", mode, "stop", check=False)

    def database(self, name: str) -> str:
        """Makes a database; returns its URL, without the password."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self._port), "-U", "odyssey", name)
        return f"postgresql://odyssey@127.0.0.1:{self._port}/{name}"

    def _run(self, name: str, *arguments: str, check: bool = True) -> None:
        program = _program(name)
        assert program is not None
        done = subprocess.run(
            [*self._as, program, *arguments],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert not check or done.returncode == 0, done.stderr


def _program(name: str) -> str | None:
    places = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)  # where Debian keeps them
    return shutil.which(name, path=os.pathsep.join([*places, os.environ.get("PATH", "")]))
