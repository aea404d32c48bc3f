"""The demo's fleet is what the demo promises, and its agents are processes that obey their handles."""

import os
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgepick_agent.config import load_settings
from edgepick_agent.errors import ConfigError
from edgepick_host.demo import agents as agents_module
from edgepick_host.demo.agents import Agent, install, stop_all
from edgepick_host.demo.fleet import MAX_STATE_BYTES, MEMBERS, PROFILES, Member, Site, agent_toml, fits
from edgepick_host.demo.slow_link import SlowLink
from edgepick_host.demo.waiting import wait_until
from edgepick_host.errors import StateError
from edgepick_profiles.load import load_profile

DEADLINE = 15.0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    root = tmp_path / "root.signed"
    root.write_bytes(b"a root document")
    with tempfile.TemporaryDirectory(prefix="edgepick-") as short:
        yield Site(folder=tmp_path / "agents", states=Path(short), root_document=root, broker_port=41_883)


def test_the_fleet_is_the_promised_one() -> None:
    """Two Raspberry Pi 4, a 3, a Coral, a Jetson, a microcontroller; one of them on a slow link."""
    kinds = [member.profile for member in MEMBERS]

    assert kinds.count("raspberry-pi-4") == 2
    assert {"raspberry-pi-3", "coral-usb-accelerator", "jetson-orin-nano", "mcu-cortex-m4"} < set(kinds)
    assert [m.profile for m in MEMBERS if m.slow_link] == ["raspberry-pi-4"]
    assert len({m.device for m in MEMBERS}) == len(MEMBERS) >= 6


@pytest.mark.parametrize("profile", PROFILES)
def test_every_member_may_use_a_runtime_of_its_profile(profile: str) -> None:
    """The restriction in an agent's configuration leaves something that the profile lists, LiteRT's stand-in too."""
    known = {choice.name.value for choice in load_profile(profile).runtimes}

    allowed = [set(m.runtimes) | ({"litert"} if m.own_python else set()) for m in MEMBERS if m.profile == profile]

    assert all(runtimes & known for runtimes in allowed)


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.device)
def test_the_agent_accepts_its_configuration(member: Member, site: Site) -> None:
    """The file that the demo writes is read by the agent's own reader without a complaint."""
    agent = install(member, site)

    settings = load_settings(agent.config, {})

    assert (settings.device, settings.profile, settings.stand_in) == (member.device, member.profile, True)
    assert settings.broker.port == site.broker_port
    assert settings.runner.runtimes
    assert Path(settings.state_dir) == site.state(member)


def test_a_long_path_is_known_to_be_too_long_for_state(site: Site, tmp_path: Path) -> None:
    """The demo's measure of a state directory is the agent's own."""
    longest = max(MEMBERS, key=lambda m: len(m.device))
    room = MAX_STATE_BYTES - len(longest.device) - 1

    assert fits(Path("/" + "x" * (room - 1)))
    assert not fits(Path("/" + "x" * room))
    with pytest.raises(ConfigError, match="state_dir"):
        load_settings(install(longest, replace(site, states=Path("/" + "x" * room))).config, {})


def test_the_pi_3_uses_tflite_runtime_where_there_is_one(site: Site) -> None:
    """With the environment its runner has another interpreter; without it LiteRT takes over."""
    pi3 = next(m for m in MEMBERS if m.own_python)

    with_environment = agent_toml(pi3, replace(site, tflite_python=Path("/env/bin/python")))
    without = agent_toml(pi3, site)

    assert 'python = "/env/bin/python"' in with_environment
    assert 'runtimes = ["tflite_runtime"]' in with_environment
    assert 'runtimes = ["litert"]' in without
    assert "python =" not in without


def test_a_member_on_a_slow_link_gets_the_links_port(site: Site) -> None:
    """The port of the link replaces the broker's."""
    assert "port = 1234\n" in agent_toml(MEMBERS[1], site, port=1234)


# Processes. The interpreter is replaced by a shell script: what matters here is who ends whom, and how.


@pytest.fixture
def agent(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    script = tmp_path / "interpreter"
    script.write_text('#!/bin/sh\necho "started $*"\nsleep 600 &\necho child $!\nwait\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(agents_module.sys, "executable", str(script))
    installed = install(MEMBERS[0], site)
    yield installed
    installed.kill()


def child_of(agent: Agent) -> int:
    """Return the id of the process that the agent started, once it has said so."""

    def look() -> int | None:
        lines = agent.log.read_text().splitlines() if agent.log.exists() else []
        return next((int(line.split()[1]) for line in reversed(lines) if line.startswith("child ")), None)

    return wait_until(look, what="the child", seconds=DEADLINE)


def gone(pid: int) -> bool:
    """Return whether a process has ended, buried or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_started_agent_is_told_its_configuration(agent: Agent) -> None:
    """It runs with its own file, and its log says so."""
    agent.start()
    child_of(agent)

    assert agent.running
    assert agent.log.read_text().startswith(f"started -m edgepick_agent run --config {agent.config}\n")


def test_a_killed_agent_takes_its_runners_with_it(agent: Agent) -> None:
    """SIGKILL ends the whole session, as a power cut would, and it can be started again."""
    agent.start()
    child = child_of(agent)

    agent.kill()

    wait_until(lambda: gone(child), what="the child to end", seconds=DEADLINE)
    assert not agent.running
    agent.start()
    assert (agent.running, agent.starts) == (True, 2)


def test_stopping_is_polite_and_can_be_repeated(agent: Agent) -> None:
    """SIGTERM ends the process; a second stop does nothing."""
    agent.start()
    child = child_of(agent)

    stop_all([agent])
    stop_all([agent])

    assert agent.process is not None
    assert agent.process.returncode == -15
    os.kill(child, 9)


def test_memory_is_that_of_the_agent(agent: Agent) -> None:
    """A running process has some resident memory; one that never ran has none to tell."""
    assert agent.rss_bytes() is None

    agent.start()
    child_of(agent)

    assert (agent.rss_bytes() or 0) > 4096


def test_an_agent_that_ended_by_itself_is_quoted(agent: Agent) -> None:
    """Waiting for a dead agent fails at once, with its last words."""
    Path(agents_module.sys.executable).write_text("#!/bin/sh\necho 'no broker, no life'\nexit 3\n")
    agent.start()
    assert agent.process is not None
    agent.process.wait(DEADLINE)

    with pytest.raises(StateError, match=r"(?s)ended with code 3.*no broker, no life"):
        agent.check()


# Waiting.


def test_waiting_ends_with_the_first_true_answer() -> None:
    """The value itself comes back."""
    answers = iter([None, 0, "here"])

    assert wait_until(lambda: next(answers), what="it", seconds=5, interval_seconds=0) == "here"


def test_waiting_in_vain_says_for_what_and_what_to_do() -> None:
    """The message names it and the hint helps."""
    with pytest.raises(StateError, match="in vain for godot") as raised:
        wait_until(lambda: None, what="godot", seconds=0, hint="leave")

    assert raised.value.hint == "leave"


# The slow link.


@pytest.fixture
def echo() -> Iterator[int]:
    """Provide the port of a server that sends back what it gets."""

    def serve() -> None:
        while True:
            try:
                link, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(link,), daemon=True).start()

    def answer(link: socket.socket) -> None:
        with link:
            while piece := link.recv(65_536):
                link.sendall(piece)

    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def receive(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := link.recv(size - len(data))):
        data += piece
    return data


def test_everything_passes_a_slow_link_unchanged_and_is_counted(echo: int) -> None:
    """The bytes arrive in order, and the count is theirs."""
    link = SlowLink(echo, bytes_per_second=1e9)
    sent = os.urandom(20_000)

    with socket.create_connection(("127.0.0.1", link.port), timeout=DEADLINE) as device:
        device.sendall(sent)
        received = receive(device, len(sent))

    assert received == sent
    wait_until(lambda: link.carried_bytes == len(sent), what="the count", seconds=DEADLINE)
    link.close()


def test_a_slow_link_keeps_to_its_rate(echo: int) -> None:
    """Ten thousand bytes at twenty thousand a second take no less than a third of a second."""
    link = SlowLink(echo, bytes_per_second=20_000)

    with socket.create_connection(("127.0.0.1", link.port), timeout=DEADLINE) as device:
        begun = time.monotonic()
        device.sendall(bytes(10_000))
        receive(device, 10_000)
        took = time.monotonic() - begun

    assert took > 0.33
    link.close()


def test_a_trap_holds_back_what_comes_after_it(echo: int) -> None:
    """Once it has sprung nothing more passes, until it is released for new connections."""
    link = SlowLink(echo, bytes_per_second=1e9)
    sprung = link.set_trap(5_000)

    with socket.create_connection(("127.0.0.1", link.port), timeout=DEADLINE) as device:
        device.sendall(bytes(100_000))
        assert sprung.wait(DEADLINE)
        link.release()
        received = receive(device, 100_000)

    with socket.create_connection(("127.0.0.1", link.port), timeout=DEADLINE) as again:
        again.sendall(b"alive")
        assert receive(again, 5) == b"alive"
    link.close()
    assert 5_000 <= len(received) < 10_000
