"""A whole fleet at once on a bad network, and the broker dies in the middle."""

import pytest

from fakes.agent_process import until
from network.bad_network import WINDOW, big_bundle
from network.proxy import Trouble, Weather

ONE = big_bundle("1")
AGENTS = 20
BAD = Weather(
    troubles=(Trouble.DROP, Trouble.TRUNCATE, Trouble.HALF_CLOSE),
    trouble_share=0.01,
    trouble_limit=AGENTS,
    delay_seconds=0.01,
    duplicate_share=0.2,
    reorder_share=0.2,
)


@pytest.mark.slow
def test_twenty_agents_converge_although_network_and_broker_fail(broker, site_with, tell):
    """One publication serves them all; in the whole fleet a break costs a window of chunks at most."""
    site = site_with(broker, BAD, seed=3)
    site.host.publishes_again = True
    agents = [site.agent(f"pi-{number}") for number in range(AGENTS)]
    site.host.release(ONE)
    site.host.want(ONE)

    for agent in agents:
        agent.start()
    until(lambda: sum(site.tally(a).chunks_sent for a in agents) > AGENTS * len(ONE.chunks) // 3, "a third is there")
    site.kill_broker()
    broker.start()
    site.converge(ONE)
    site.stop()

    tallies = [site.tally(agent) for agent in agents]
    sent, needed = [t.chunks_sent for t in tallies], len(ONE.chunks)
    breaks = sum(t.broken.total() for t in tallies)
    tell(
        f"chunks sent per agent {min(sent)} to {max(sent)}, {needed} needed; in all {sum(sent)} for {AGENTS * needed}; "
        f"{breaks} connections broken, {sum(t.connections for t in tallies)} made"
    )
    assert all(set(t.chunks) == set(ONE.chunks) for t in tallies)
    assert all(t.chunks_sent <= needed + WINDOW * (t.connections - 1) for t in tallies)
    assert {r.device for r in site.host.reports.values() if r.install} == {a.name for a in agents}
