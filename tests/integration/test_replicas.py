"""Several services on one PostgreSQL and one broker: the reports are shared, and the death of one loses none."""

import collections
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edgepick_host.adapters.clock import SystemClock
from edgepick_host.adapters.mqtt import MqttBroker
from edgepick_host.adapters.store_sql import SqlStore
from edgepick_host.core.settings import BrokerSettings
from edgepick_host.service.collector import Collector
from edgepick_host.service.report_log import ReportLog
from edgepick_wire import codec, topics
from edgepick_wire.messages import Ack
from edgepick_wire.topics import DeviceTopic
from fleet.synthetic import fell_back, manifest_of
from integration.whole_system import FLEET, clean_environment, run, until

REPORTS = 1200
DEVICES = 20
RESEND_SECONDS = 1.0

NEW = manifest_of("1", "new")


class Devices:
    """So many devices on one connection: each sends its reports, and again until they are acknowledged."""

    def __init__(self, port: int) -> None:
        self.unacknowledged = {
            (f"d{n % DEVICES}", f"f-{n}"): codec.encode(fell_back(f"d{n % DEVICES}", NEW, number=n))
            for n in range(REPORTS)
        }
        self._lock = threading.Lock()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._on_ack
        self._client.connect("127.0.0.1", port)
        self._client.subscribe(topics.every_device(FLEET, DeviceTopic.ACK), 1)
        self._client.loop_start()

    def _on_ack(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        device = topics.parse_device(FLEET, message.topic).device
        if message.payload:
            with self._lock:
                for name in codec.decode(Ack, message.payload).ids:
                    self.unacknowledged.pop((device, name), None)

    def send(self, count: int | None = None) -> None:
        """Send what is not acknowledged, or the first so many of it."""
        with self._lock:
            waiting = list(self.unacknowledged.items())[:count]
        for (device, _), payload in waiting:
            self._client.publish(topics.device(FLEET, device, DeviceTopic.REPORT), payload, qos=1)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def devices(broker) -> Iterator[Devices]:
    """Provide devices with reports to send, and a broker that deals out."""
    if broker.kind != "mosquitto":
        pytest.skip("the embedded broker has no shared subscriptions")
    made = Devices(broker.port)
    yield made
    made.close()


@contextmanager
def replica(folder: Path, name: str, database: str, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Have a service run that shares the database and the broker."""
    log = folder / f"{name}.log"
    command = ["serve", "--database", database, "--broker", f"mqtt://127.0.0.1:{port}", "--fleet", FLEET]
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgepick_host", *command],
            cwd=folder,
            env=clean_environment(folder),
            stdout=said,
            stderr=said,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("killed", ["coordinator", "other"])
def test_no_report_is_lost_or_counted_twice_when_a_service_dies(killed, tmp_path, broker, postgresql, devices):
    """Two services under load, one killed in the middle: every report is stored once, and acknowledged."""
    assert run("edgepick_host", "keys", "init", "--fleet", FLEET, folder=tmp_path).code == 0
    database = postgresql.new_database()
    with (
        replica(tmp_path, "one", database, broker.port) as one,
        closing(SqlStore(database)) as store,
    ):
        until(lambda: "serving fleet" in (tmp_path / "one.log").read_text(), "the first coordinates")
        with replica(tmp_path, "two", database, broker.port) as two:
            until(lambda: "taking in a share" in (tmp_path / "two.log").read_text(), "the second shares")

            devices.send(REPORTS // 2)
            until(lambda: store.report_count() > REPORTS // 20, "reports arrive")
            (one if killed == "coordinator" else two).kill()
            deadline = time.monotonic() + 150
            while devices.unacknowledged and time.monotonic() < deadline:
                devices.send()
                time.sleep(RESEND_SECONDS)

            stored = collections.Counter((r.device, r.id) for r in store.reports())

    assert not devices.unacknowledged
    assert len(stored) == REPORTS
    assert set(stored.values()) == {1}


def test_both_services_take_in_their_share(broker, postgresql, devices):
    """The broker gives each report to one of two services; the log of either has all of them, in one order."""
    database = postgresql.new_database()
    counts, stop = collections.Counter(), threading.Event()

    with closing(SqlStore(database)) as store:
        logs = [ReportLog(store), ReportLog(store)]
        for log in logs:
            log.after("digits", 0)
        threads = [threading.Thread(target=collect, args=(n, database, broker.port, counts, stop)) for n in range(2)]
        for thread in threads:
            thread.start()
        until(lambda: counts["ready"] == len(threads), "both listen")
        devices.send()
        until(lambda: not devices.unacknowledged, "all are acknowledged")
        stop.set()
        for thread in threads:
            thread.join()
        for log in logs:
            log.refresh()

        everything = [(r.device, r.id) for r in store.reports()]
        assert [[(r.device, r.id) for r in log.after("digits", 0)] for log in logs] == [everything] * 2
    assert counts[0] + counts[1] == len(everything) == REPORTS
    assert min(counts[0], counts[1]) > REPORTS // 10


def collect(number: int, database: str, port: int, counts: collections.Counter, stop: threading.Event) -> None:
    """Take in reports, and count those that were new."""

    class Counting(SqlStore):
        def add_reports(self, reports, at):
            new = super().add_reports(reports, at)
            counts[number] += len(new)
            return new

    broker = MqttBroker(BrokerSettings(port=port))
    broker.connect()
    with closing(Counting(database)) as store, closing(broker):
        collector = Collector(
            fleet=FLEET, store=store, broker=broker, clock=SystemClock(), holder=f"test-{number}", say=print
        )
        counts["ready"] += collector.shares
        while not stop.is_set():
            collector.step(0.1)
