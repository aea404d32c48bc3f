"""Reports reach the host at least once, whatever happens in between."""

from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent.core import outbox
from edgepick_agent.core.state import AgentState
from edgepick_agent.core.turn import Agent, Context, Turn
from edgepick_agent.errors import StorageError
from edgepick_wire import codec, topics
from edgepick_wire.messages import Ack, Birth, Incident, IncidentCode, InstallOutcome, Outcome, Presence
from fakes.agent_bench import SETTINGS, Bench
from fakes.host_stand_in import bundle
from fakes.runner_launcher import Script
from fakes.storage import FaultyStorage, MemoryStorage
from wire.wire_keys import check, root

ONE, TWO = bundle("1"), bundle("2")


def installed() -> Bench:
    bench = Bench().boot()
    bench.host.publish(ONE)
    bench.host.want(ONE)
    return bench.run(15)


def host_is(bench: Bench, session: int) -> None:
    presence = Presence(session=session, online=True)
    bench.broker.publish(topics.host("demo"), codec.encode(presence))
    bench.run(1)


def sent(bench: Bench) -> int:
    return len(bench.broker.payloads("/report"))


def test_a_report_waits_until_it_is_acknowledged():
    """The acknowledgement removes the report from disk; until then it is there."""
    bench = installed()
    (report,) = bench.reports
    waiting = bench.storage.names("outbox")

    ack = Ack(ids=(report.id, "unknown"))
    bench.broker.publish("edgepick/1/demo/d/pi-1/ack", codec.encode(ack), retain=False)
    bench.run(1)

    assert waiting == [f"{report.id}.json"]
    assert bench.storage.names("outbox") == []


def test_reports_are_sent_again_whenever_the_host_says_that_it_is_there():
    """At its start and after each loss of its connection: what was sent meanwhile went nowhere."""
    bench = installed()
    counts = [sent(bench)]

    for session in (1, 1, 2):
        host_is(bench, session)
        counts.append(sent(bench))

    assert counts == [1, 2, 3, 4]


def test_a_host_that_leaves_is_sent_nothing():
    """Neither its own last will nor a late one of an older session is a reason to send anything."""
    bench = installed()
    host_is(bench, 5)
    before = sent(bench)

    for session in (4, 5):
        bench.broker.publish(topics.host("demo"), codec.encode(Presence(session=session, online=False)))
    bench.run(1)

    assert sent(bench) == before


def test_reports_survive_a_restart_and_a_broken_connection():
    """After a power cut and after every reconnection the unacknowledged reports are sent."""
    bench = installed()
    bench.cut_power()
    bench.boot().run(2)
    after_restart = sent(bench)
    bench.transport.disconnect()
    bench.transport.connect()
    bench.run(2)

    assert after_restart == 2
    assert sent(bench) == 3
    assert len(bench.reports) == 1


def test_unacknowledged_reports_are_sent_again_at_growing_intervals():
    """Soon at first, and for ever every quarter of an hour, if neither side ever says anything."""
    bench = installed()
    counts = [sent(bench)]

    for seconds in (40, 80, 160, 10_000):
        bench.run(seconds, step=5.0)
        counts.append(sent(bench))

    assert counts[:4] == [1, 2, 3, 4]
    assert 8 <= counts[4] - counts[3] <= 14


@given(
    st.lists(st.tuples(st.floats(0, 500), st.sampled_from(["", "a", "b", "ab", "ba"])), max_size=60),
    st.floats(0, 1, exclude_max=True),
)
def test_reports_are_never_sent_again_in_a_hurry(looks, jitter):
    """Between two sendings of the same oldest report lie at least the first interval's seconds."""
    plan, now, sent_at, oldest = outbox.Resending(), 0.0, None, None
    for pause, waiting in looks:
        now += pause
        plan, due = outbox.resend(plan, tuple(waiting), now, jitter)
        if waiting[:1] != oldest:
            oldest, sent_at = waiting[:1], now

        assert not due or now - sent_at >= outbox.RESEND_FIRST_SECONDS
        assert plan.due <= now + outbox.RESEND_MAX_SECONDS * (1 + outbox.RESEND_SPREAD) or not waiting
        sent_at = now if due else sent_at


def test_a_step_that_was_undone_is_told_to_nobody():
    """While the state cannot be written nothing falls back, and nothing says so; afterwards it is said once."""
    bench = Bench(FaultyStorage(MemoryStorage(), 1_000_000, StorageError, lasting=True)).boot()
    for made in (ONE, TWO):
        bench.host.publish(made)
        bench.host.want(made, rollout=made.content.version)
        bench.run(15)
    bench.launcher.scripts["2"] = Script(serve="crashes")
    bench.storage.fail_at = bench.storage.count + 1
    bench.launcher.started[-1].killed = True

    bench.run(120)
    during = fallen_back(bench)
    bench.storage.healed = True
    bench.run(60)

    assert during == ([], [])
    assert fallen_back(bench) == ([IncidentCode.FELL_BACK], [Outcome.REVERTED])
    assert bench.model().active == ONE.digest


def fallen_back(bench: Bench) -> tuple[list[IncidentCode], list[Outcome]]:
    outcomes = [o.outcome for o in bench.outcomes if o.outcome is Outcome.REVERTED]
    return [i.code for i in bench.incidents if i.code is IncidentCode.FELL_BACK], outcomes


def test_rubbish_on_the_ack_topic_drops_nothing():
    """Only a well-formed acknowledgement removes a report."""
    bench = installed()

    bench.broker.publish("edgepick/1/demo/d/pi-1/ack", b"rubbish", retain=False)
    bench.run(1)

    assert len(bench.storage.names("outbox")) == 1


def turn() -> Turn:
    context = Context(settings=SETTINGS, first_root=root(), check=check, state_dir="/memory")
    return Turn(Agent(durable=AgentState(session=1)), context, 0.0, 0.0)


def test_a_full_outbox_drops_the_oldest_incidents_first_and_says_how_many():
    """Outcomes outlive incidents; the next incident tells how much was lost."""
    busy = turn()
    outcome = InstallOutcome(model="digits", manifest=ONE.digest, outcome=Outcome.CONFIRMED, sequence=1)
    for _ in range(100):
        outbox.report_install(busy, outcome)
    for number in range(outbox.OUTBOX_LIMIT):
        outbox.report_incident(busy, Incident(code=IncidentCode.FELL_BACK, detail=str(number)))

    kept = busy.agent.outbox
    assert len(kept) == outbox.OUTBOX_LIMIT
    assert len([i for i in kept if "-install-" in i]) == 100
    assert kept[-1].split("-")[1] == f"{100 + outbox.OUTBOX_LIMIT:06d}"
    assert "were dropped" in str(busy.effects)


def test_an_incident_that_comes_in_floods_is_counted_instead_of_repeated():
    """A hundred corrupt chunks within seconds are one report, and the count comes with the next."""
    busy = turn()
    incident = Incident(code=IncidentCode.CHUNK_CORRUPT, detail="x", model="digits")
    for _ in range(100):
        outbox.report_incident(busy, incident)
    busy.now += outbox.QUIET_SECONDS

    outbox.report_incident(busy, incident)

    reports = [e for e in busy.effects if isinstance(e, outbox.SaveReport)]
    assert len(reports) == 2
    assert b'"count":100' in reports[1].payload


def test_report_ids_differ_even_if_a_device_lost_its_state():
    """Two devices, or one that counts from one again, never make the same id."""
    first, second = turn(), turn()
    second.wall = 1.0

    for one in (first, second):
        outbox.report_incident(one, Incident(code=IncidentCode.FELL_BACK, detail="x"))

    assert first.agent.outbox != second.agent.outbox


def test_birth_and_presence_are_said_at_every_connection():
    """Session and runtimes are in the birth, the same session in presence and last will."""
    bench = Bench().boot()
    bench.run(1)
    bench.transport.disconnect()
    bench.transport.connect()
    bench.run(1)

    births = [codec.decode(Birth, p) for p in bench.broker.payloads("/birth")]
    presences = [codec.decode(Presence, p) for p in bench.broker.payloads("/presence")]
    assert [b.session for b in births] == [1, 1]
    assert births[0].runtimes == bench.runtimes
    assert presences == [
        Presence(session=1, online=True),
        Presence(session=1, online=False),
        Presence(session=1, online=True),
    ]


def test_the_session_counts_up_with_every_start():
    """A late last will of an older session can be told from the present one."""
    bench = Bench().boot()
    bench.run(1)
    bench.cut_power()

    bench.boot().run(1)

    assert bench.reported.session == 2
