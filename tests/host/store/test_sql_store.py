"""What only a database on disk can get wrong: versions, damage, other processes."""

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from edgepick_host.adapters.store_sql import SqlStore, tables
from edgepick_host.core.records import DeviceQuery, MemberRow
from edgepick_host.core.rollout_state import RequestKind
from edgepick_host.errors import ConfigError, StateError
from edgepick_host.service.requests import Request, file_request, load_requests
from edgepick_wire import codec
from edgepick_wire.messages import Birth, Desired, ModelState, Phase, Presence, Reported, TargetKind

BORN = Birth(
    device="pi-1",
    session=1,
    profile="raspberry-pi-4",
    agent_version="0.1.0",
    machine="aarch64",
    system="Linux",
    python="3.11",
    runtimes=(),
    memory_bytes=1,
    disk_free_bytes=1,
)
REPORTED = Reported(
    device="pi-1",
    session=1,
    sequence=1,
    security_epoch=0,
    models=(ModelState(model="digits", phase=Phase.CONFIRMED, active="a" * 64, active_label="1 int8"),),
)

TOLD = Desired(fleet="main", target_kind=TargetKind.PROFILE, target="raspberry-pi-4", sequence=1, issued_at=1.0)


def test_memory_survives_closing(tmp_path):
    """What one process kept, the next finds; opening again changes nothing."""
    url = f"sqlite:///{tmp_path / 'host.db'}"
    first = SqlStore(url)
    first.next_sequence()
    first.append_decision("digits", b"why")
    first.close()

    second = SqlStore(url)

    assert second.next_sequence() == 2
    assert second.decisions() == [(1, b"why")]
    second.close()


def test_commits_are_flushed(tmp_path):
    """The database writes ahead and flushes every commit, so that a power cut takes no sequence back."""
    store = SqlStore(f"sqlite:///{tmp_path / 'host.db'}")

    with store._read() as connection:
        modes = [connection.exec_driver_sql(f"PRAGMA {p}").scalar() for p in ("journal_mode", "synchronous")]
        keys = connection.exec_driver_sql("PRAGMA foreign_keys").scalar()

    assert (modes, keys) == (["wal", 2], 1)
    store.close()


def test_newer_database_is_left_alone(tmp_path):
    """A database of a newer edgepick is refused, and not changed."""
    path = tmp_path / "host.db"
    SqlStore(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE edgepick_schema SET version = ?", (tables.newest_version() + 1,))
    raw.close()

    with pytest.raises(StateError, match=f"schema {tables.newest_version() + 1}"):
        SqlStore(f"sqlite:///{path}")


def test_every_step_runs_once(tmp_path, monkeypatch):
    """A database of an older version is brought up step by step, and each step runs once."""
    url = f"sqlite:///{tmp_path / 'host.db'}"
    SqlStore(url).close()
    ran: list[str] = []
    steps = (*tables.MIGRATIONS, lambda _connection: ran.append("second"))
    monkeypatch.setattr(tables, "MIGRATIONS", steps)

    SqlStore(url).close()
    SqlStore(url).close()

    assert ran == ["second"]


@pytest.fixture(params=["sqlite", "postgresql"])
def first_version(request, tmp_path):
    """Provide a database as the first version of its tables made it, with a device in it."""
    url = f"sqlite:///{tmp_path / 'host.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql").new_database()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in Path(__file__).with_name(f"schema_1.{request.param}.sql").read_text().split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
        connection.execute(sa.text("INSERT INTO edgepick_schema (version) VALUES (1)"))
        insert = "INSERT INTO device (device, birth, presence, reported, last_seen) VALUES ('pi-1', :b, :p, :r, 5.0)"
        documents = {"b": BORN, "p": Presence(session=1, online=True), "r": REPORTED}
        rollout = "INSERT INTO rollout (position, rollout, document) VALUES (1, 'r-old', :d)"
        connection.execute(sa.text(rollout), {"d": b"a head"})
        told = "INSERT INTO desired (kind, target, sequence, document) VALUES ('profile', 'raspberry-pi-4', 1, :d)"
        connection.execute(sa.text(told), {"d": codec.encode_document(TOLD)})
        connection.execute(sa.text(insert), {key: codec.encode_document(value) for key, value in documents.items()})
    engine.dispose()
    return url


def test_a_database_of_the_first_version_becomes_searchable(first_version):
    """Devices that an older edgepick heard of are found and counted, and lose nothing."""
    store = SqlStore(first_version)

    page = store.device_page(DeviceQuery(profile="raspberry-pi-4", online=True, variant="1 int8"))

    assert [(d.device, d.birth, d.reported, d.last_seen) for d in page.devices] == [("pi-1", BORN, REPORTED, 5.0)]
    assert [c.active_label for c in store.model_counts()] == ["1 int8"]
    assert store.audit(newest=1) == []
    store.close()


def test_a_database_of_the_first_version_goes_on_with_its_rollouts(first_version):
    """Rollouts and desired states that an older edgepick kept are there, and members can be kept beside them."""
    store = SqlStore(first_version)

    store.save_rollout("r-old", b"a newer head", [MemberRow(lane=0, place=0, device="pi-1", document=b"member")])

    assert store.rollouts() == [("r-old", b"a newer head")]
    assert [m.document for m in store.members("r-old")] == [b"member"]
    assert store.all_desired() == [TOLD]
    store.close()


def test_step_that_fails_changes_nothing(tmp_path, monkeypatch):
    """A migration that fails in the middle leaves the database as it was."""
    url = f"sqlite:///{tmp_path / 'host.db'}"
    store = SqlStore(url)
    store.next_sequence()
    store.close()

    def fail(connection) -> None:
        connection.exec_driver_sql("DELETE FROM counter")
        raise StateError("no")

    with monkeypatch.context() as patch:
        patch.setattr(tables, "MIGRATIONS", (*tables.MIGRATIONS, fail))
        with pytest.raises(StateError, match="no"):
            SqlStore(url)

    again = SqlStore(url)
    assert again.next_sequence() == 2
    again.close()


def test_file_that_is_no_database(tmp_path):
    """A file that is something else is named, and left as it is."""
    path = tmp_path / "host.db"
    path.write_bytes(b"this is no database, it is a text of some length" * 50)

    with pytest.raises(StateError, match=r"host\.db.*not a database"):
        SqlStore(f"sqlite:///{path}")
    assert path.read_bytes().startswith(b"this is no database")


def test_folder_that_does_not_exist(tmp_path):
    """A database in a folder that is not there is an error that names it."""
    with pytest.raises(StateError, match="none"):
        SqlStore(f"sqlite:///{tmp_path / 'none' / 'host.db'}")


@pytest.mark.parametrize("url", ["nonsense", "oracle2://x", "postgresql+nothing://user:s3cret@h/x"])
def test_not_a_database_url(url):
    """A URL that no driver knows is refused without its password."""
    with pytest.raises(ConfigError) as caught:
        SqlStore(url)

    assert "s3cret" not in str(caught.value)


def test_processes_share_the_sequence(tmp_path):
    """Several processes that take sequences at one time never get the same."""
    url = f"sqlite:///{tmp_path / 'host.db'}"
    SqlStore(url).close()
    code = (
        "import sys; from edgepick_host.adapters.store_sql import SqlStore; s = SqlStore(sys.argv[1]);"
        "print(*[s.next_sequence() for _ in range(25)])"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True) for _ in range(3)]

    taken = [int(number) for process in running for number in process.communicate()[0].split()]

    assert sorted(taken) == list(range(1, 76))


def test_two_that_ask_at_once_do_not_lose_an_abort(tmp_path):
    """Whoever comes first: of a pause and an abort that two processes file in one moment, the abort stands."""
    url = f"sqlite:///{tmp_path / 'host.db'}"
    stores, names = (SqlStore(url), SqlStore(url)), [f"r-{n}" for n in range(20)]
    together = threading.Barrier(2, timeout=60)

    def ask(store: SqlStore, kind: RequestKind) -> None:
        for name in names:
            together.wait()
            file_request(store, name, Request(id=kind.value, kind=kind))

    threads = [
        threading.Thread(target=ask, args=each)
        for each in zip(stores, (RequestKind.PAUSE, RequestKind.ABORT), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = load_requests(stores[0])
    for store in stores:
        store.close()

    assert {name: kept[name].kind for name in names} == dict.fromkeys(names, RequestKind.ABORT)
