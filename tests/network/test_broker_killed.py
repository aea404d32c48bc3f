"""The broker dies at the worst moments, with and without its memory; every device ends up with what is wanted."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgepick_wire.messages import Phase
from fakes.agent_process import until
from fakes.host_stand_in import Bundle
from network.bad_network import WINDOW, LightAgent, Site, big_bundle
from network.proxy import Packet

FIFTH = 5
PERSISTENT = "persistence true\npersistence_location {folder}/\nautosave_on_changes true\nautosave_interval 1"


Catches = Callable[[Packet], bool]


def indexes(made: Bundle) -> set[str]:
    return {digest for entry in made.content.files for digest in entry.index}


def fifth_chunk(made: Bundle) -> Catches:
    seen: set[str] = set()

    def is_fifth(packet: Packet) -> bool:
        if "/c/" in packet.topic and packet.topic[-64:] not in indexes(made):
            seen.add(packet.topic)
        return len(seen) == FIFTH

    return is_fifth


TRAPS: dict[str, Callable[[Bundle], Catches]] = {
    "before birth": lambda _: lambda packet: packet.topic.endswith("/birth"),
    "during manifest": lambda made: lambda packet: packet.topic.endswith(f"/m/{made.digest}"),
    "during index": lambda made: lambda packet: packet.topic[-64:] in indexes(made),
    "during chunks": fifth_chunk,
    "before ack of the report": lambda _: lambda packet: packet.topic.endswith("/ack"),
}
PHASES = {"during trial": Phase.TRIAL, "before confirm": Phase.CONFIRMING}


def at(moment: str, site: Site, agent: LightAgent, made: Bundle, act: Callable[[], None]) -> None:
    """Have the upgrade to ``made`` begin, and call ``act`` when it has come to ``moment``."""
    if moment in TRAPS:
        site.proxy.trap(TRAPS[moment](made))
    if moment == "during trial":
        agent.hold.touch()
    if moment == "before birth":
        agent.stop()
        agent.start()
    site.host.want(made)
    if moment in TRAPS:
        assert site.proxy.caught.wait(60)
    else:
        until(lambda: agent.is_in(PHASES[moment]), moment)
    act()
    site.proxy.release()
    agent.hold.unlink(missing_ok=True)


def is_written_down(database: Path, made: Bundle) -> bool:
    data = database.read_bytes() if database.exists() else b""
    return all(part in data for part in (made.raw, *made.chunks.values()))


@pytest.fixture(params=["remembers", "forgets"])
def memory(request, broker):
    """Provide a broker that keeps its retained messages over a SIGKILL, or not."""
    if broker.kind != "mosquitto":
        pytest.skip("mosquitto is not installed")
    if request.param == "remembers":
        broker.stop()
        broker.extra = f"user root\n{PERSISTENT.format(folder=broker.folder)}"
        broker.start()
    return broker


@pytest.mark.slow
def test_the_broker_dies_in_every_phase_of_an_upgrade(memory, site_with, tell):
    """The device goes on as soon as the broker is back; only chunks under way may come twice."""
    site = site_with(memory)
    site.host.publishes_again = not memory.extra
    agent = site.agent(confirm_seconds=0.5)
    made = site.host.release(big_bundle("1"))
    site.host.want(made)
    agent.start()
    site.converge(made)

    for number, moment in enumerate((*TRAPS, *PHASES), start=2):
        before, tally = site.tally(agent).chunks_sent, site.tally(agent)
        needed = len(set(big_bundle(str(number)).chunks) - set(made.chunks))
        made = site.host.release(big_bundle(str(number)))
        if memory.extra:
            until(lambda new=made: is_written_down(memory.folder / "mosquitto.db", new), "the broker remembers")
        at(moment, site, agent, made, site.kill_broker)
        memory.start()
        site.converge(made)
        sent = tally.chunks_sent - before
        tell(f"{moment}: {needed} chunks needed, {sent} sent; {tally.connections} connections so far")

        assert needed <= sent <= needed + WINDOW, moment
    agent.stop()
    outcomes = [r.install.outcome for r in site.host.reports.values() if r.install]
    assert outcomes == ["confirmed"] * (1 + len(TRAPS) + len(PHASES))
