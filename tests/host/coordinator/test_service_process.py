"""The host service as a real process, on a real broker and a real database, killed and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgepick_host import app
from edgepick_host.adapters.store_sql import SqlStore
from edgepick_host.core.rollout_state import RolloutState, Stage
from edgepick_host.core.settings import BrokerSettings, HostSettings, SignerSettings
from edgepick_host.service.requests import COORDINATOR_LEASE, load_rollouts
from edgepick_wire import codec, topics
from edgepick_wire.messages import Presence
from fleet.mqtt_fleet import MqttFleet
from fleet.simulator import FLEET, Script, publish
from fleet.synthetic import release

PROFILE = "raspberry-pi-4"
WAIT_SECONDS = 120.0
FIRST = release("float32", version="1", profiles=(PROFILE,))
GOOD = release("int8", version="2", size=50_000, profiles=(PROFILE,))
SCRIPTS = {FIRST.manifest: Script(p50_ms=10), GOOD.manifest: Script(p50_ms=5)}


class Host:
    """One host: its folder, its processes, its store."""

    def __init__(self, folder: Path, port: int):
        self.folder = folder
        keys = folder / "keys"
        app.create_keys(keys, FLEET, config=None)
        self.settings = HostSettings(
            fleet=FLEET,
            broker=BrokerSettings(port=port),
            database=str(folder / "host.db"),
            root_document=str(keys / "root.signed"),
            signers=SignerSettings(release=f"file:{keys}/release.pem", campaign=f"file:{keys}/campaign.pem"),
        )
        self.places = ["--broker", f"mqtt://127.0.0.1:{port}", "--database", str(folder / "host.db")]
        self.places += ["--keys", str(keys), "--fleet", FLEET]
        self.store = SqlStore(f"sqlite:///{folder / 'host.db'}")

    def publish(self, *releases) -> None:
        with app.broker_of(self.settings) as broker:
            publish(
                self.store,
                releases,
                sign=app.sign_document(self.settings),
                send=lambda topic, payload: broker.publish(topic, payload, retain=True),
            )

    def cli(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "edgepick_host", *arguments, *self.places]

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.cli(*arguments), capture_output=True, text=True, timeout=120, cwd=self.folder, check=False
        )

    @contextmanager
    def process(self, *arguments: str) -> Iterator[subprocess.Popen]:
        with (self.folder / "serve.log").open("ab") as log:
            process = subprocess.Popen(self.cli(*arguments), stdout=log, stderr=log, cwd=self.folder)
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait(WAIT_SECONDS)

    def rollout(self) -> RolloutState | None:
        return next(iter(load_rollouts(self.store)[-1:]), None)

    def free_lease(self) -> None:
        """Let the lease of a killed coordinator run out now, not in ten seconds."""
        now = time.time()
        self.store.lease(COORDINATOR_LEASE, "test", now=now + 3600, seconds=-7200)

    def log(self) -> str:
        return (self.folder / "serve.log").read_text()


@pytest.fixture
def host(broker, tmp_path) -> Iterator[Host]:
    made = Host(tmp_path, broker.port)
    yield made
    made.store.close()


@pytest.fixture
def devices(broker, host) -> Iterator[MqttFleet]:
    host.publish(FIRST)
    host.publish(GOOD)
    fleet = MqttFleet(broker.port, 4, profile=PROFILE, scripts=SCRIPTS)
    yield fleet
    fleet.close()


def act_until(fleet: MqttFleet, done: Callable[[], bool], what: str, *, seconds: float = WAIT_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not fleet.act_unless(done):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.02)


def reached(host: Host, *stages: Stage) -> Callable[[], bool]:
    return lambda: (state := host.rollout()) is not None and state.stage in stages


def test_a_killed_service_goes_on_where_it_was(host, devices):
    """SIGKILL in the canary and in a wave: the next service finishes the rollout on every device."""
    plan = ["--version", "2", "--waves", "50%,100%", "--soak", "1s", "--no-wait", "--json"]
    started = host.run("rollout", "start", "digits", *plan)
    kills = 0

    for stage in (Stage.CANARY, Stage.WAVE):
        with host.process("serve") as service:
            act_until(devices, reached(host, stage), f"{stage}\n{host.log()}")
            os.kill(service.pid, signal.SIGKILL)
            service.wait(WAIT_SECONDS)
            kills += 1
        host.free_lease()
    with host.process("serve"):
        act_until(devices, lambda: bool((s := host.rollout()) and s.settled), "the end")
        act_until(devices, lambda: all(not d.outbox for d in devices.devices), "acknowledgements")

    assert started.returncode == 0, started.stderr
    assert kills == 2
    assert host.rollout().stage is Stage.DONE
    assert {d.state.active for d in devices.devices} == {GOOD.manifest}


def test_a_rollout_without_service_does_the_work_itself(host, devices):
    """`rollout start` without a service measures, decides and rolls out; `why` and `status` then explain it."""
    started = subprocess.Popen(
        host.cli("rollout", "start", "digits", "--yes", "--soak", "0s"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=host.folder,
    )
    act_until(devices, lambda: started.poll() is not None, "the command to end")
    out, err = started.communicate()
    why = host.run("why", "digits", "--full")
    status = json.loads(host.run("rollout", "status", "--json").stdout)

    assert started.returncode == 0, err
    assert "canary: offered to 1 device(s)" in err
    assert GOOD.variant in out
    assert "promote, run 2 int8" in why.stdout
    assert status["stage"] == "done"
    assert {m["status"] for lane in status["lanes"] for m in lane["members"]} == {"confirmed"}


def test_the_host_says_whether_it_is_there(host, broker):
    """The host's presence is retained with a rising session; it goes offline at SIGTERM and by last will."""
    with app.broker_of(host.settings) as watcher:

        def presence() -> Presence | None:
            found = watcher.retained([topics.host(FLEET)], quiet_seconds=0.2)
            return codec.decode(Presence, next(iter(found.values()))) if found else None

        def until(*, online: bool) -> Presence:
            deadline = time.monotonic() + WAIT_SECONDS
            while (said := presence()) is None or said.online != online:
                assert time.monotonic() < deadline, host.log()
            return said

        with host.process("serve"):
            first = until(online=True)
        ended = until(online=False)
        with host.process("serve") as service:
            second = until(online=True)
            os.kill(service.pid, signal.SIGKILL)
            service.wait(WAIT_SECONDS)
            died = until(online=False)

    assert ended.session == first.session
    assert second.session > first.session
    assert died.session == second.session


def test_commands_refuse_what_cannot_be_done(host, devices):
    """Unknown models, versions, rollouts, and a second rollout of a model get one clear message and code 1."""
    answers = {
        "was ever published": host.run("rollout", "start", "nothing"),
        "has no version '9'": host.run("rollout", "start", "digits", "--version", "9"),
        "has no variant 'x'": host.run("rollout", "start", "digits", "--variant", "x"),
        "no rollout was ever started": host.run("rollout", "pause", "r-unknown"),
        "no decision": host.run("why", "digits"),
    }
    host.run("rollout", "start", "digits", "--no-wait", "--json")
    answers["only one at a time"] = host.run("rollout", "start", "digits", "--no-wait")
    answers["no rollout has 'r-unknown'"] = host.run("rollout", "pause", "r-unknown")
    usage = {
        "objective": host.run("rollout", "start", "digits", "--objective", "be nice"),
        "waves": host.run("rollout", "start", "digits", "--waves", "50%,20%"),
        "duration": host.run("rollout", "start", "digits", "--deadline", "soon"),
    }

    assert {text: a.returncode for text, a in answers.items()} == dict.fromkeys(answers, 1)
    assert [text for text, a in answers.items() if text not in a.stderr] == []
    assert {text: a.returncode for text, a in usage.items()} == dict.fromkeys(usage, 2)
    assert [text for text, a in usage.items() if text not in a.stderr] == []


def test_a_dry_run_changes_nothing(host, devices):
    """`rollout start --dry-run` shows candidates and who is waited for, and stores no rollout."""
    shown = host.run("rollout", "start", "digits", "--dry-run")

    assert shown.returncode == 0, shown.stderr
    assert "2 int8" in shown.stdout
    assert load_rollouts(host.store) == ()
