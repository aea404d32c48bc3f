"""What the broker does not have: said once, shown until it is there, and waited for."""

import pytest

from edgepick_agent.core.advice import advise
from edgepick_agent.core.control import Command
from edgepick_wire import topics
from edgepick_wire.messages import Assignment, IncidentCode, Phase
from fakes.agent_bench import Bench
from fakes.host_stand_in import bundle

ONE, TWO = bundle("1"), bundle("2", model="words")


@pytest.fixture
def bench() -> Bench:
    return Bench().boot()


def missing(bench: Bench) -> list[str]:
    return [i.detail for i in bench.incidents if i.code is IncidentCode.CHUNK_MISSING]


def absent(bench: Bench) -> str | None:
    status = bench.ask(Command.STATUS).status
    assert status is not None
    assert (status.absent is None) == ("edgepick publish" not in " ".join(advise(status)))
    return status.absent


def publish_no_manifest(bench: Bench) -> None:
    """Publish a variant whose manifest the broker has lost."""
    bench.host.publish(ONE)
    bench.broker.publish(topics.manifest("demo", ONE.digest), b"")


def test_a_manifest_that_nobody_has_is_reported_and_taken_when_it_appears(bench):
    """A missing manifest is said once and shown until it comes; its later publication completes the download."""
    publish_no_manifest(bench)
    bench.host.want(ONE)
    bench.run(300)
    said, shown = missing(bench), absent(bench)

    bench.host.publish(ONE)
    bench.run(15)

    name = f"manifest {ONE.digest[:12]}: the broker does not have it"
    assert said == [name]
    assert shown == f"digits: {name}"
    assert bench.model().phase is Phase.CONFIRMED
    assert absent(bench) is None
    assert missing(bench) == said


def test_no_manifest_is_missed_without_a_broker(bench):
    """The silence counts only while the broker can be asked, and begins anew with each connection."""
    publish_no_manifest(bench)
    bench.host.want(ONE)
    for _ in range(4):
        bench.run(20)
        bench.transport.disconnect()
        bench.run(100)
        bench.transport.connect()
    before = missing(bench)

    bench.run(60)

    assert before == []
    assert len(missing(bench)) == 1


def test_two_missing_manifests_that_take_turns_are_each_reported_once(bench):
    """Whoever makes way for another is reported all the same, and not at each of its turns."""
    wanted = [Assignment(model=made.content.model, active=made.digest) for made in (ONE, TWO)]
    bench.broker.publish(bench.host.topic(), bench.host.desired(*wanted))

    bench.run(1200, step=1.0)

    assert sorted(text.split()[1] for text in missing(bench)) == sorted(f"{made.digest[:12]}:" for made in (ONE, TWO))


def test_missing_chunks_are_shown_until_they_come(bench):
    """What was asked for in vain is named in the status, not only in the report that was sent once."""
    bench.host.publish(ONE, without=1)
    bench.host.want(ONE)
    bench.run(100)
    shown = absent(bench)

    bench.host.publish(ONE)
    bench.run(60)

    assert shown == f"digits: chunk {next(iter(ONE.chunks))[:12]}: the broker does not have it"
    assert absent(bench) is None
    assert bench.model().phase is Phase.CONFIRMED
