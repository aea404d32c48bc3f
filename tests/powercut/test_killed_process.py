"""Real agents, real files and a real broker: SIGKILL at storage operations drawn at random."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from edgepick_agent.adapters.storage import FileStorage
from edgepick_agent.core import places
from edgepick_agent.core.state import decode_state
from edgepick_agent.errors import UnreachableError
from edgepick_wire import envelope
from edgepick_wire.envelope import DocumentType
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import manifest_digest, parse_manifest
from edgepick_wire.messages import Phase
from fakes.agent_process import AgentProcess, HostClient, until
from fakes.demo_bundle import real_bundle
from fakes.host_stand_in import Bundle, HostStandIn
from powercut import lives
from wire.wire_keys import check, root

SCRIPT = Path(__file__).with_name("killed_agent.py")
TESTS = SCRIPT.parent.parent
KILLS = os.environ.get("POWERCUT_KILLS", "")
"""Operations to draw for each upgrade, "all" for every one of them; a few by default."""


class KilledAgent(AgentProcess):
    """An agent that ends itself at one of its storage operations."""

    kill_at = 0

    def __init__(self, folder: Path, port: int, runners: str) -> None:
        super().__init__(folder, port)
        self.port = port
        self.runners = runners
        if runners == "scripted":
            quick = "confirm_seconds = 0.1\nhealth_interval_seconds = 0.05"
            self.config.write_text(self.config.read_text().replace("confirm_seconds = 0.5", quick))

    def spawn(self) -> "subprocess.Popen[bytes]":
        with (self.folder / "agent.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, str(SCRIPT), str(self.config), str(self.kill_at), self.runners],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(TESTS)},
            )

    def operations(self) -> int:
        return int((self.folder / "operations").read_text())


@pytest.fixture
def host(broker):
    client = HostClient(broker.port)
    yield client
    client.close()


def confirmed(agent: AgentProcess, made: Bundle) -> bool:
    models = agent.status().models
    return bool(models) and (models[0].active, models[0].phase) == (made.digest, Phase.CONFIRMED)


def check_files(state_dir: Path, known: set[str]) -> None:
    """Check what the killed agent left: readable, one active variant, signed, and each of its files whole."""
    storage = FileStorage(state_dir)
    raw = storage.read(places.STATE)
    assert raw is not None
    current = decode_state(raw).model("digits").current
    assert current is not None
    assert current.manifest in known
    signed = envelope.unpack(storage.read(places.manifest_file(current.manifest)) or b"")
    payload = envelope.verify(signed, DocumentType.MANIFEST, root().release, check)
    assert manifest_digest(payload) == current.manifest
    for entry in parse_manifest(payload).files:
        assert digest_of(storage.read(places.bundle_file(current.manifest, entry.name)) or b"") == entry.sha256


def real() -> tuple[Bundle, Bundle]:
    return real_bundle("1"), real_bundle("2")


def difference() -> tuple[Bundle, Bundle]:
    return lives.PACKED, lives.CHANGED


@pytest.mark.parametrize("case", [(real, "real", 4), (difference, "scripted", 10)], ids=["real", "difference"])
def test_killed_agents_converge(case, broker, host, tmp_path, tell):
    """Killed at drawn operations of an upgrade, it leaves a whole state, and once restarted ends the upgrade."""
    versions, runners, kills = case
    one, two = versions()
    stand_in = HostStandIn(host)
    stand_in.publish(one)
    stand_in.want(one, rollout="r1")
    before = tmp_path / "before"
    before.mkdir()
    agent = KilledAgent(before, broker.port, runners).start()
    until(lambda: confirmed(agent, one), "the first variant is confirmed")
    agent.stop()
    stand_in.publish(two)
    stand_in.want(two, rollout="r2")
    host.flush()

    total = upgrade(copied(agent, tmp_path / "whole"), two)
    count = total if KILLS == "all" else int(KILLS or kills)
    drawn = sorted(Random(4).sample(range(1, total + 1), min(count, total)))
    cut = 0
    for kill_at in drawn:
        killed = copied(agent, tmp_path / f"k{kill_at}")
        killed.kill_at = kill_at
        process = killed.spawn()
        # How often it writes down how far it is depends on the time it takes: this one may have less to do.
        until(lambda each=killed, own=process: own.poll() is not None or is_through(each, two), "killed, or through")
        cut += process.poll() is not None
        process.kill()
        assert process.wait() == -9
        check_files(killed.state, {one.digest, two.digest})
        killed.kill_at = 0
        upgrade(killed, two)
        check_files(killed.state, {two.digest})
    tell(f"upgrade, {runners} runners: {total} storage operations of a real process, SIGKILL at {drawn}")
    assert cut > len(drawn) // 2


def is_through(agent: KilledAgent, wanted: Bundle) -> bool:
    with contextlib.suppress(UnreachableError):
        return confirmed(agent, wanted)
    return False


def copied(before: KilledAgent, folder: Path) -> KilledAgent:
    ignored = shutil.ignore_patterns("*.sock", "run")
    shutil.copytree(before.folder, folder, ignore=ignored, copy_function=shutil.copy2)
    return KilledAgent(folder, before.port, before.runners)


def upgrade(agent: KilledAgent, wanted: Bundle) -> int:
    agent.start()
    try:
        until(lambda: confirmed(agent, wanted), "the new variant is confirmed")
        return agent.operations()
    finally:
        agent.stop()
