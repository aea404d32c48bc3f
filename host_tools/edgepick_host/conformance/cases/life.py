"""Attacks on time and presence: the publisher gone, late last wills, lost acknowledgements, garbage everywhere."""

import os

from edgepick_host.conformance.bench import DEVICE, PROFILE, Bench
from edgepick_host.conformance.interface import Capability
from edgepick_host.conformance.verdict import Case, CaseFailedError
from edgepick_wire import topics
from edgepick_wire.messages import Birth, IncidentCode, Presence, Report
from edgepick_wire.topics import DeviceTopic


def _installs(bench: Bench) -> str:
    bench.start()
    variant = bench.installs()
    birth = bench.until(lambda: bench.host.heard(Birth), "the device publishes its birth")[-1]
    if (birth.device, birth.profile) != (DEVICE, PROFILE):
        raise CaseFailedError(f"the birth names {birth.device} of profile {birth.profile}")
    return f"installed {variant.digest[:12]} and confirmed it"


def _publisher_gone(bench: Bench) -> str:
    """Publish everything, disappear, and only then let the device come."""
    variant = bench.publish(bench.variant())
    bench.want(variant)
    bench.host.vanish()
    bench.agent.start()
    found = bench.until(lambda: bench.active_without_host(variant), "it serves while no publisher is there")
    bench.host.connect()
    bench.confirms(variant)
    return f"installed {found[:12]} from what the broker retained"


def _garbage_everywhere(bench: Bench) -> str:
    """Have every topic that the device reads hold random bytes before it comes."""
    variant = bench.variant()
    own = [topics.device(bench.fleet, DEVICE, kind) for kind in DeviceTopic]
    others = [
        topics.root(bench.fleet),
        topics.root_version(bench.fleet, 2),
        topics.host(bench.fleet),
        topics.profile_desired(bench.fleet, PROFILE),
    ]
    for topic in (*own, *others):
        bench.host.put(topic, os.urandom(200))
    bench.publish(variant)
    bench.host.forget()
    bench.agent.start()
    bench.until(bench.agent.status, "the agent is there")
    bench.want(variant)
    bench.confirms(variant)
    return "installed although every topic held random bytes"


def _cleared_everywhere(bench: Bench) -> str:
    """Clear every topic that the device reads."""
    bench.start()
    variant = bench.installs()
    own = topics.device(bench.fleet, DEVICE, DeviceTopic.DESIRED)
    for topic in (
        topics.root(bench.fleet),
        topics.host(bench.fleet),
        own,
        topics.manifest(bench.fleet, variant.digest),
    ):
        bench.host.put(topic, b"")
    bench.restart()
    if bench.active() != variant.digest:
        raise CaseFailedError("what was installed does not serve once the broker has forgotten it")
    bench.obeys()
    return "what was installed goes on when the broker has forgotten everything"


def _sessions(bench: Bench) -> str:
    """Kill the agent; its will and its next session must tell the two apart."""
    bench.start()
    first = bench.until(lambda: _online(bench, above=0), "presence of the first session")
    bench.agent.kill()
    bench.until(lambda: Presence(session=first, online=False) in bench.host.heard(Presence), "the last will")
    bench.start()
    second = bench.until(lambda: _online(bench, above=first), "presence of a later session")
    bench.until(lambda: any(b.session == second for b in bench.host.heard(Birth)), "birth of the same session")
    bench.agent.stop()
    bench.until(lambda: Presence(session=second, online=False) in bench.host.heard(Presence), "an orderly goodbye")
    return f"session {first} died, session {second} came and left, each under its number"


def _online(bench: Bench, above: int) -> int | None:
    return next((p.session for p in bench.host.heard(Presence) if p.online and p.session > above), None)


def _late_will_of_host(bench: Bench) -> str:
    """Deliver the last will of a host session that is over, after a newer one came."""
    bench.start()
    bench.host.new_session()
    bench.host.say_presence(bench.host.session - 1, online=False)
    evil = bench.publish(bench.variant())
    bench.tell(bench.signed_desired(bench.desired(evil.digest), key=bench.keys.stranger))
    bench.refuses_order(evil)
    bench.obeys()
    return "went on reporting and obeying"


def _redelivers(bench: Bench) -> str:
    """Lose every acknowledgement, over a restart; then send one."""
    bench.host.acknowledges = False
    bench.start()
    evil = bench.publish(bench.variant())
    bench.tell(bench.signed_desired(bench.desired(evil.digest), key=bench.keys.stranger))
    bench.refuses_order(evil)
    name = _refusal_ids(bench)[0]
    bench.host.new_session()
    bench.until(lambda: _times(bench, name) > 1, "the report comes again for a new session of the host")
    bench.obeys()
    bench.restart()
    bench.until(lambda: _times(bench, name) > 2, "the report comes again after a restart")
    bench.host.acknowledges = True
    bench.host.acknowledge(name)
    bench.obeys()
    before = _times(bench, name)
    bench.restart()
    bench.obeys()
    if _times(bench, name) > before:
        raise CaseFailedError("the report came again although it was acknowledged")
    return f"the same report came {before} times until it was acknowledged, and never again"


def _refusal_ids(bench: Bench) -> list[str]:
    reports = bench.host.heard(Report)
    return [r.id for r in reports if r.incident and r.incident.code is IncidentCode.DESIRED_REFUSED]


def _times(bench: Bench, name: str) -> int:
    return sum(report.id == name for report in bench.host.heard(Report))


def _survives_kill(bench: Bench) -> str:
    """Kill the agent while a bundle is half there."""
    bench.start()
    before = bench.installs()
    variant = bench.variant()
    bench.publish_chunks(variant, without=variant.padding[2:])
    bench.publish_manifest(variant)
    bench.follows(bench.want(variant))
    bench.agent.kill()
    bench.start()
    if bench.active() != before.digest:
        raise CaseFailedError("what ran before does not serve after a kill")
    bench.publish_chunks(variant)
    bench.confirms(variant)
    return "served what it had after SIGKILL, and completed the new one"


REPORTS = frozenset({Capability.REPORTS})

CASES = (
    Case(
        name="installs",
        attack="none: a good bundle and a good order",
        expected="installs it, confirms it, says so at the broker and by `status`",
        run=_installs,
    ),
    Case(
        name="publisher-gone",
        attack="the publisher is gone before the device comes",
        expected="installs from what the broker retains",
        run=_publisher_gone,
    ),
    Case(
        name="garbage-everywhere",
        attack="random bytes retained on every topic that the device uses",
        expected="ignores them and installs what comes next",
        run=_garbage_everywhere,
    ),
    Case(
        name="broker-forgot",
        attack="the broker loses everything that was retained",
        expected="what is installed serves, also after a restart",
        run=_cleared_everywhere,
    ),
    Case(
        name="killed-halfway",
        attack="SIGKILL while a bundle is half there",
        expected="serves what it had, and completes the new one",
        run=_survives_kill,
    ),
    Case(
        name="sessions",
        attack="SIGKILL, then a new start; the last will comes late",
        expected="every session has a higher number, and its will carries it",
        run=_sessions,
    ),
    Case(
        name="host-late-will",
        attack="the last will of an older session of the host comes late",
        expected="goes on reporting and obeying",
        run=_late_will_of_host,
    ),
    Case(
        name="report-until-acked",
        attack="acknowledgements are lost, over a restart",
        expected="sends a report again, under the same id, until it is acknowledged; then never",
        run=_redelivers,
        needs=REPORTS,
    ),
)
