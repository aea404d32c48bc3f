"""The demo's fleet is what the demo promises, and its agents are processes that obey their handles."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgepick_agent.config import load_settings
from edgepick_agent.errors import ConfigError
from edgepick_host.demo.fleet import MAX_STATE_BYTES, MEMBERS, PROFILES, Member, Site, agent_toml, fits, install
from edgepick_profiles.load import load_profile

DEADLINE = 60.0


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

    settings = load_settings(Path(agent.command[-1]), {})

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
        load_settings(Path(install(longest, replace(site, states=Path("/" + "x" * room))).command[-1]), {})


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
