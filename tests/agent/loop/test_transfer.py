"""When a download may take the network, and to whom it gives way."""

from dataclasses import replace

import pytest

from edgepick_agent.adapters.clock import time_of_day
from edgepick_agent.core.control import Command
from edgepick_agent.core.settings import FetchSettings
from edgepick_wire.messages import MeasureRequest, Phase
from fakes.agent_bench import SETTINGS, Bench
from fakes.host_stand_in import bundle

ONE, LARGE = bundle("1"), bundle("2", model_size=40_000)


def closed_for(bench: Bench, seconds: float) -> str:
    """Return hours, in whole minutes, that begin in a while."""
    begins = int(bench.clock.now() % 86400 + seconds) // 60 % 1440
    return f"{begins // 60:02}:{begins % 60:02}-{(begins + 60) // 60 % 24:02}:{begins % 60:02}"


@pytest.fixture
def night() -> Bench:
    """Provide a device whose hours begin in half an hour, with a desired state that wants a bundle."""
    hours = closed_for(Bench(), 1800)
    made = Bench(settings=replace(SETTINGS, fetch=FetchSettings(window=8, hours=hours))).boot()
    made.host.publish(ONE)
    made.host.want(ONE, rollout="r1")
    return made.run(60)


def chunks_delivered(bench: Bench) -> int:
    return sum("/c/" in topic for topic in bench.broker.delivered)


def test_outside_the_hours_nothing_is_fetched_and_within_them_everything_is(night):
    """The device says that it waits, asks for no chunk, and goes on by itself when the hours begin."""
    before, waiting, log = chunks_delivered(night), night.model().phase, " ".join(night.log)

    night.run(1900, step=10.0).run(20)

    assert before == 0
    assert waiting is Phase.FETCHING
    assert "waits for the hours of downloads" in log
    assert night.model().phase is Phase.CONFIRMED


def test_the_hours_do_not_hold_for_a_stick(night):
    """A technician who stands there with the bundle is served at any hour."""
    night.reader.files_at["/stick/b"] = ONE

    reply = night.ask(Command.INSTALL, path="/stick/b")

    assert reply.ok
    assert chunks_delivered(night) == 0
    assert night.model().active == ONE.digest


def test_a_measurement_gives_up_the_network_to_an_installation():
    """What is only to be measured waits as soon as something is to run; it is fetched afterwards."""
    bench = Bench().boot()
    bench.host.publish(LARGE, without=50)
    bench.host.publish(ONE)
    request = MeasureRequest(id="m-1", manifest=LARGE.digest)
    bench.host.want(None, measure=(request,))
    bench.run(10)
    started = chunks_delivered(bench)

    bench.host.want(ONE, rollout="r1", measure=(request,))
    bench.run(20)
    running = bench.model().phase
    bench.host.publish(LARGE)
    bench.run(200)

    assert started > 0
    assert running is Phase.CONFIRMED
    assert [m.request for m in bench.measured] == ["m-1"]


def test_a_cancelled_download_leaves_no_subscription_at_once():
    """The turn in which the device learns that nothing is wanted any more ends without a chunk's topic."""
    bench = Bench().boot()
    bench.host.publish(LARGE, without=50)
    bench.host.want(LARGE, rollout="r1")
    bench.run(10)
    held = sum("/c/" in topic for topic in bench.transport.topics)

    bench.host.want(None)
    bench.turn()

    assert held > 0
    assert not any("/c/" in topic for topic in bench.transport.topics)


def test_every_byte_has_its_place_before_the_first_is_asked_for():
    """A bundle that does not fit is refused with nothing fetched of its files."""
    bench = Bench().boot()
    bench.storage.capacity = 30_000
    bench.host.publish(LARGE)
    bench.host.want(LARGE, rollout="r1")
    bench.run(20)

    assert bench.model().phase is Phase.REFUSED
    assert chunks_delivered(bench) == 0


def test_the_time_of_day_is_the_machines_own(monkeypatch):
    """Midnight is local midnight."""
    import time

    monkeypatch.setenv("TZ", "EST+5")
    time.tzset()
    try:
        assert time_of_day(6 * 3600.0 + 61) == 3661.0
    finally:
        monkeypatch.undo()
        time.tzset()
