"""A PostgreSQL server of our own: a fresh cluster in a temporary folder, on a free loopback port."""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

USER = "postgres"
QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "60"}
"""Nobody pulls the plug of a test's database."""


@dataclass
class PostgreSql:
    """A server that runs; it makes as many empty databases as are asked for."""

    port: int
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        name = f"edgepick_{next(self.numbers)}"
        with psycopg.connect(f"postgresql://{USER}@127.0.0.1:{self.port}/{USER}", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)


def programs() -> Path | None:
    """Return the folder of initdb and postgres, also where Debian puts it outside a user's PATH."""
    found = [shutil.which("initdb"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)]
    return next((Path(path).parent for path in found if path), None)


@contextmanager
def running_server(folder: Path, port: int) -> Iterator[PostgreSql]:
    """Provide a server whose programs are in ``folder``; it does not run as root."""
    account = _account()
    data = Path(tempfile.mkdtemp(prefix="edgepick-pg-"))
    if account is not None:
        shutil.chown(data, account)
    command = [folder / "initdb", "-D", data, "-U", USER, "-A", "trust", "-N", "--no-instructions"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=account, cwd=data)
    flags = [part for name, value in QUICK.items() for part in ("-c", f"{name}={value}")]
    with (data / "server.log").open("wb") as log:
        serve = [folder / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", data, *flags]
        server = subprocess.Popen(serve, stdout=log, stderr=log, user=account, cwd=data)
    try:
        _wait(port, server, data / "server.log")
        yield PostgreSql(port)
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(data)


def _account() -> str | None:
    """Return the account that the server runs as, where ours is root."""
    if os.geteuid() != 0:
        return None
    return pwd.getpwnam(USER).pw_name


def _wait(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            psycopg.connect(f"postgresql://{USER}@127.0.0.1:{port}/{USER}").close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}")
