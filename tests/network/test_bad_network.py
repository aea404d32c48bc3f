"""Whatever the network does to a connection, the device ends up with what is wanted, and asks for little twice."""

import pytest

from network.bad_network import WINDOW, big_bundle
from network.proxy import Trouble, Weather

ONE = big_bundle("1")
WEATHERS = {
    "drops": Weather(troubles=(Trouble.DROP,), trouble_share=0.05, trouble_limit=4),
    "truncates": Weather(troubles=(Trouble.TRUNCATE,), trouble_share=0.05, trouble_limit=4),
    "half-closes": Weather(troubles=(Trouble.HALF_CLOSE,), trouble_share=0.05, trouble_limit=2),
    "black-holes": Weather(troubles=(Trouble.BLACK_HOLE,), trouble_share=0.05, trouble_limit=1),
    "delays": Weather(delay_seconds=0.05),
    "duplicates": Weather(duplicate_share=0.7),
    "reorders": Weather(reorder_share=0.5),
    "loses": Weather(lose_share=0.05),
    "trickles": Weather(trickle=True),
    "everything": Weather(
        troubles=(Trouble.DROP, Trouble.TRUNCATE, Trouble.HALF_CLOSE),
        trouble_share=0.05,
        trouble_limit=4,
        delay_seconds=0.02,
        duplicate_share=0.5,
        reorder_share=0.3,
        lose_share=0.05,
    ),
}

HAPPENS = {
    "drops": {"drop"},
    "truncates": {"truncate"},
    "half-closes": {"half-close"},
    "black-holes": {"black-hole"},
    "delays": {"delayed"},
    "duplicates": {"duplicated"},
    "reorders": {"overtaken"},
    "loses": {"lost"},
    "trickles": {"taken apart"},
    "everything": {"delayed", "duplicated", "overtaken"},
}


def converges(site, tell) -> None:
    """Install a variant through the site's network, and hold the number of its chunks to the bound."""
    agent = site.agent()
    site.host.release(ONE)
    site.host.want(ONE)

    agent.start()
    site.converge(ONE)
    agent.stop()

    tally = site.tally(agent)
    needed, breaks, asked = len(ONE.chunks), tally.broken.total(), tally.asked.total()
    tell(
        f"{needed} chunks needed, {asked} asked for, {tally.chunks_sent} sent; {tally.connections} connections, "
        f"{len(tally.subscribed_at)} subscriptions, broken {dict(tally.broken)}, "
        f"packets {dict(+tally.mangled)}"
    )
    assert set(tally.chunks) == set(ONE.chunks)
    assert tally.connections > breaks
    # A broken connection, or a silence after a loss, costs at most what was under way: one window.
    silences = 4 if site.proxy.weather.lose_share else 0
    assert asked <= needed + WINDOW * (breaks + silences)
    assert [r.install.outcome for r in site.host.reports.values() if r.install] == ["confirmed"]


@pytest.mark.parametrize("name", WEATHERS)
def test_a_device_converges_on_a_bad_network(name, broker, site_with, tell):
    """Broken connections cost a window each at most; nothing else costs any chunk."""
    site = site_with(broker, WEATHERS[name], seed=1)

    converges(site, tell)

    tally = site.tally(site.agents[0])
    assert tally.chunks_sent <= tally.asked.total()
    happened = {**tally.broken, **+tally.mangled}
    assert happened.keys() >= HAPPENS[name]


@pytest.mark.parametrize("name", ["drops", "duplicates"])
def test_a_device_converges_with_another_broker(name, broker, site_with, tell):
    """The same on a second implementation of MQTT, which sends more than is asked for after a lost connection."""
    broker.stop()
    broker.kind = "amqtt"
    broker.start()

    converges(site_with(broker, WEATHERS[name], seed=2), tell)
