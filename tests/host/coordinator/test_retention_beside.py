"""Old reports are deleted while others read and write: by another service on the database, and by a real one itself."""

import pytest

from edgepick_host.adapters.store_sql import SqlStore
from edgepick_host.service.report_log import ReportLog
from edgepick_host.service.retention import prune
from fleet.synthetic import measured, measurement, release
from host.coordinator.test_service_process import Host
from integration.whole_system import until

VARIANT = release("int8")
DAY = 86_400.0


def reports(first, count):
    return [measured("pi-1", VARIANT, measurement(), number=n) for n in range(first, first + count)]


@pytest.fixture(params=["sqlite", "postgresql"])
def stores(request, tmp_path):
    """Provide two services' connections to one database, with a hundred old reports in it."""
    url = f"sqlite:///{tmp_path / 'host.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql").new_database()
    made = [SqlStore(url), SqlStore(url)]
    made[0].add_reports(reports(0, 100), 1.0)
    yield made
    for each in made:
        each.close()


def test_a_service_goes_on_where_it_was_when_another_deletes(stores):
    """What was deleted is not missed, what came meanwhile is heard once, and a place in the log means what it meant."""
    mine, others = stores
    log = ReportLog(mine)
    assert [r.id for r in log.after("digits", 98)] == [r.id for r in reports(98, 2)]

    others.add_reports(reports(100, 3), 2 * DAY)
    done = prune(others, before=DAY, dry_run=False)
    others.add_reports(reports(103, 2), 2 * DAY)
    log.refresh()

    assert (done.removed, done.kept) == (100, 0)
    assert [r.id for r in log.after("digits", 100)] == [r.id for r in reports(100, 5)]
    log.settle(())
    log.take(mine.add_reports(reports(104, 2), 2 * DAY))
    assert [r.id for r in log.after("digits", 105)] == [r.id for r in reports(105, 1)]
    assert [r.id for r in ReportLog(others).after("digits", 103)] == [r.id for r in reports(103, 3)]


def test_a_real_service_deletes_what_is_old(broker, tmp_path):
    """`serve --keep-reports 1d` deletes an old report by itself, says so, and leaves a young one."""
    host = Host(tmp_path, broker.port)
    host.store.add_reports(reports(0, 3), 1.0)
    host.store.add_reports(reports(3, 1), 4e9)  # heard in another century

    with host.process("serve", "--keep-reports", "1d"):
        until(lambda: "deleted 3 report(s) older than 1 days" in host.log(), "the service says what it deleted")

    assert [r.id for r in host.store.reports()] == [r.id for r in reports(3, 1)]
    assert host.store.report_count(model="digits") == 4
    host.store.close()
