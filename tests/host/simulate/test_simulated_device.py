"""The pure core of a simulated device: it keeps the protocol whatever comes in whatever order."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.core.experiment.quads import device_effects
from edgepick_host.simulate.device import step
from edgepick_host.simulate.scenario import Ailment, Behaviour, Failures, Identity, Kind, Noise, Scenario, identities
from edgepick_host.simulate.state import (
    Acknowledged,
    Booted,
    DeviceState,
    Due,
    HostSeen,
    Known,
    Obtain,
    Obtained,
    Send,
    Told,
    Vanish,
    Wake,
)
from edgepick_wire import codec
from edgepick_wire.errors import WireError
from edgepick_wire.ids import digest_of
from edgepick_wire.messages import (
    Assignment,
    Birth,
    Desired,
    IncidentCode,
    MeasureRequest,
    Outcome,
    Phase,
    Presence,
    Report,
    Reported,
    TargetKind,
)
from edgepick_wire.pairing import PairOrder
from edgepick_wire.topics import DeviceTopic

OLD, NEW = digest_of(b"old"), digest_of(b"new")
NAMES = {OLD: "float32", NEW: "int8"}
KNOWN = {digest: Known(variant=name, size=1000, chunks=3) for digest, name in NAMES.items()}
DECODERS = {
    DeviceTopic.BIRTH: Birth,
    DeviceTopic.PRESENCE: Presence,
    DeviceTopic.REPORTED: Reported,
    DeviceTopic.REPORT: Report,
}


def device(*, ailment: Ailment | None = None, **scenario) -> Identity:
    behaviours = scenario.pop("variants", {})
    made = Scenario(strata=(Kind(variants=behaviours),), **scenario)
    return replace(identities(made, 1)[0], ailment=ailment)


def desired(
    sequence: int, active: str | None = None, *measure: MeasureRequest, own: bool = False, rollout: str | None = None
) -> Desired:
    return Desired(
        fleet="sim",
        target_kind=TargetKind.DEVICE if own else TargetKind.PROFILE,
        target="sim-00000" if own else "generic-linux",
        sequence=sequence,
        issued_at=0.0,
        models=(Assignment(model="digits", active=active, measure=measure, rollout=rollout),),
    )


class Life:
    """A device with a shell that obtains every manifest and has a clock of its own."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.state = DeviceState()
        self.now = 0.0
        self.sent: list[Send] = []
        self.due: list[float] = []
        self.gone = False
        self.give(Booted(now=0.0))

    def give(self, event) -> None:
        self.state, actions = step(self.identity, self.state, event)
        for action in actions:
            match action:
                case Send():
                    self.sent.append(action)
                case Wake():
                    self.due.append(action.at)
                case Vanish():
                    self.gone = True
                case Obtain():
                    self.give(Obtained(now=self.now, manifest=action.manifest, known=KNOWN[action.manifest]))

    def tell(self, document: Desired) -> "Life":
        self.give(Told(now=self.now, desired=document))
        return self

    def wait(self, seconds: float = 60.0) -> "Life":
        until = self.now + seconds
        while self.due and min(self.due) <= until:
            self.now = min(self.due)
            self.due.remove(self.now)
            self.give(Due(now=self.now))
        self.now = until
        return self

    def said(self, kind: DeviceTopic) -> list:
        return [codec.decode(DECODERS[kind], s.payload) for s in self.sent if s.kind is kind]

    @property
    def phases(self) -> list[Phase]:
        return [r.models[0].phase for r in self.said(DeviceTopic.REPORTED) if r.models]

    @property
    def reports(self) -> list[Report]:
        return list({r.id: r for r in self.said(DeviceTopic.REPORT)}.values())


def order(name: str, manifest: str, pair: PairOrder | None = None) -> MeasureRequest:
    return MeasureRequest(id=name, manifest=manifest, pair=pair)


def test_it_announces_itself_as_a_stand_in():
    """A simulated device never passes for a board."""
    life = Life(device())

    (born,) = life.said(DeviceTopic.BIRTH)

    assert born.stand_in
    assert life.said(DeviceTopic.PRESENCE) == [Presence(session=1, online=True)]


def test_it_installs_step_by_step_and_confirms():
    """What it reports on the way is what the real agent reports."""
    life = Life(device()).tell(desired(1, OLD)).wait()

    assert life.phases == [Phase.FETCHING, Phase.TRIAL, Phase.CONFIRMING, Phase.CONFIRMED]
    assert [(r.install.outcome, r.install.manifest) for r in life.reports] == [(Outcome.CONFIRMED, OLD)]
    assert life.state.served == (OLD,)


def test_the_newest_desired_state_holds_and_an_older_one_changes_nothing():
    """Of its own and its profile's document the one with the higher sequence counts; a replay does not."""
    life = Life(device()).tell(desired(1, OLD)).wait()
    life.tell(desired(3, NEW, own=True)).wait().tell(desired(2, OLD, own=True)).tell(desired(1, OLD)).wait()

    assert life.state.models["digits"].active == NEW
    assert life.state.models["digits"].previous == OLD
    assert life.state.served == (OLD, NEW)


def test_what_is_no_longer_wanted_is_not_installed():
    """A download is given up when something newer asks for something else."""
    life = Life(device()).tell(desired(1, OLD)).wait()
    life.tell(desired(2, NEW)).tell(desired(3, OLD)).wait()

    assert life.state.served == (OLD,)
    assert life.phases[-1] is Phase.CONFIRMED


def test_a_variant_that_crashes_is_left_and_the_host_hears_of_it():
    """The device falls back to what ran before, says so, and does not try it again for the same rollout."""
    life = Life(device(variants={"int8": Behaviour(crash=1.0)})).tell(desired(1, OLD)).wait()
    life.tell(desired(2, NEW, rollout="r")).wait().tell(desired(3, NEW, rollout="r", own=True)).wait()

    assert life.state.served == (OLD, NEW, OLD)
    assert life.phases[-1] is Phase.REVERTED
    assert [r.incident.code for r in life.reports if r.incident] == [IncidentCode.FELL_BACK]


@pytest.mark.parametrize(
    ("behaviour", "outcome", "phase"),
    [
        (Behaviour(wrong=1.0), Outcome.REVERTED, Phase.REVERTED),
        (Behaviour(refused=1.0), Outcome.REFUSED, Phase.REFUSED),
    ],
)
def test_a_variant_that_fails_before_it_serves_never_serves(behaviour, outcome, phase):
    """The previous variant stays active, and the report carries the reason."""
    life = Life(device(variants={"int8": behaviour})).tell(desired(1, OLD)).wait().tell(desired(2, NEW)).wait()

    last = life.reports[-1].install

    assert (last.outcome, last.active) == (outcome, OLD)
    assert last.refusal is not None
    assert life.phases[-1] is phase
    assert life.state.served == (OLD,)


def test_a_silent_variant_takes_the_device_with_it():
    """It is gone without a word, and nothing wakes it."""
    life = Life(device(variants={"int8": Behaviour(silent=1.0)})).tell(desired(1, OLD)).wait()
    life.tell(desired(2, NEW)).wait()
    sent = len(life.sent)
    life.tell(desired(3, OLD)).wait()

    assert life.gone
    assert len(life.sent) == sent


def test_each_order_to_measure_is_carried_out_once():
    """An order that is repeated, in the same document or another, is measured once."""
    life = Life(device()).tell(desired(1, OLD, order("m-1", NEW))).wait()
    life.tell(desired(2, OLD, order("m-1", NEW), order("m-2", OLD))).wait()

    measured = [r.measurement for r in life.reports if r.measurement]

    assert sorted((m.request, m.manifest) for m in measured) == [("m-1", NEW), ("m-2", OLD)]
    assert all(m.measurement.conditions.stand_in for m in measured)


def test_quads_are_usable_and_show_the_scenarios_ratio():
    """The host can use every quad, and without noise the ratio is the one that was asked for."""
    quiet = Noise(effect=0.0, device=0.2, block=0.0)
    pair = PairOrder(against=OLD, key="r-1", quads=12)
    identity = device(variants={"int8": Behaviour(latency=0.9)}, noise=quiet)
    life = Life(identity).tell(desired(1, OLD)).wait().tell(desired(2, OLD, order("p-1", NEW, pair))).wait()

    run = life.reports[-1].measurement.measurement.paired
    effects = device_effects(run, identity.name, lambda quad: quad.latency_ns)

    assert effects.dropped == {}
    assert [round(v, 5) for v in effects.values] == [-0.10536] * 12


def test_beside_something_else_than_what_runs_it_measures_alone():
    """An order to compare with a variant that is not active is answered without quads."""
    pair = PairOrder(against=NEW, key="r-1")
    life = Life(device()).tell(desired(1, OLD, order("p-1", NEW, pair))).wait()

    (measured,) = [r.measurement for r in life.reports if r.measurement]

    assert measured.measurement.paired is None


def test_reports_wait_until_they_are_acknowledged():
    """They are sent again after a while, and to a host that was not there before; then they are dropped."""
    life = Life(device()).tell(desired(1, OLD)).wait(20)
    (name,) = life.state.outbox
    alone = len(life.said(DeviceTopic.REPORT))
    life.give(HostSeen(now=life.now, presence=Presence(session=7, online=True)))
    life.give(HostSeen(now=life.now, presence=Presence(session=7, online=True)))
    again = len(life.said(DeviceTopic.REPORT))
    life.wait(60)
    later = len(life.said(DeviceTopic.REPORT))
    life.give(Acknowledged(now=life.now, ids=(name, "somebody-elses")))
    life.wait(1000)

    assert (alone, again, later) == (1, 2, 3)
    assert life.state.outbox == {}
    assert len(life.said(DeviceTopic.REPORT)) == later


def test_a_manifest_that_nobody_may_sign_is_refused():
    """Without a right signature nothing is installed, and the report names the signature."""
    identity, state = device(), DeviceState(online=True)
    state, _ = step(identity, state, Told(now=0.0, desired=desired(1, OLD)))
    state, actions = step(identity, state, Obtained(now=0.0, manifest=OLD, known=None))

    report = next(codec.decode(Report, a.payload) for a in actions if isinstance(a, Send) and not a.retain)

    assert report.install.outcome is Outcome.REFUSED
    assert state.models["digits"].active is None


@pytest.mark.parametrize("ailment", [Ailment.NAN, Ailment.NEGATIVE, Ailment.IMPOSSIBLE])
def test_liars_lie_in_measurements_only(ailment):
    """Their figures are ones that no device can have; what they say about installations is true."""
    pair = PairOrder(against=OLD, key="r-1", quads=3)
    life = Life(device(ailment=ailment)).tell(desired(1, OLD)).wait(10)
    installed = life.said(DeviceTopic.REPORT)[-1]
    life.tell(desired(2, OLD, order("p-1", NEW, pair))).wait(10)
    payload = life.sent[-1].payload

    assert installed.install.outcome is Outcome.CONFIRMED
    if ailment is Ailment.NAN:
        with pytest.raises(WireError):
            codec.decode(Report, payload)
    else:
        figures = json.loads(payload)["measurement"]["measurement"]["latency"]
        assert figures["p50_ns"] <= 0


def test_a_flood_does_not_wait_for_anybody():
    """A flooding device sends so many reports a second, acknowledged or not, no two of one name."""
    life = Life(device(ailment=Ailment.FLOODING, failures=Failures(flood_per_second=5))).wait(10.5)

    flood = life.said(DeviceTopic.REPORT)

    assert len(flood) == 50
    assert len({r.id for r in flood}) == 50


def test_an_offline_device_is_known_and_off():
    """It has announced itself once, and hears nothing."""
    life = Life(device(ailment=Ailment.OFFLINE)).tell(desired(1, OLD)).wait()

    assert life.said(DeviceTopic.PRESENCE) == [Presence(session=1, online=False)]
    assert life.said(DeviceTopic.BIRTH) != []
    assert life.state.models == {}


def test_the_same_seed_is_the_same_fleet_and_another_is_not():
    """What a device measures follows from seed and device alone, not from when it is asked."""

    def figures(seed: int, wait: float) -> tuple:
        life = Life(device(seed=seed)).wait(wait).tell(desired(1, OLD, order("m-1", OLD))).wait()
        return next(r.measurement.measurement.latency for r in life.reports if r.measurement)

    assert figures(1, 0) == figures(1, 500)
    assert figures(1, 0) != figures(2, 0)


def test_strata_get_their_share_and_ailments_about_theirs():
    """A fleet is divided to the device; what is wrong with a device is drawn by lot."""
    strata = (Kind(profile="a", share=3), Kind(profile="b", share=1))
    fleet = identities(Scenario(strata=strata, failures=Failures(offline=0.1, twin=0.1)), 1000)

    profiles = [d.kind.profile for d in fleet]
    offline = sum(d.ailment is Ailment.OFFLINE for d in fleet)
    twins = sum(d.ailment is Ailment.TWIN for d in fleet)

    assert profiles.count("a") == 750
    assert 60 < offline < 140
    assert len({d.name for d in fleet}) == 1000 - twins


EVENTS = st.one_of(
    st.builds(
        desired,
        st.integers(1, 9),
        st.sampled_from([None, OLD, NEW]),
        st.builds(order, st.sampled_from(["m-1", "m-2"]), st.sampled_from([OLD, NEW])),
        own=st.booleans(),
        rollout=st.sampled_from([None, "r"]),
    ),
    st.floats(0.1, 50.0),
    st.sampled_from(["boot", "host", "acknowledge"]),
)


@given(
    st.lists(EVENTS, max_size=20),
    st.sampled_from([None, *Ailment]),
    st.builds(Behaviour, crash=st.sampled_from([0.0, 1.0]), wrong=st.sampled_from([0.0, 1.0])),
)
def test_whatever_comes_it_keeps_the_protocol(events, ailment, behaviour):
    """Sequences never go back, only what was wanted is served, and no report is dropped unacknowledged."""
    life = Life(device(ailment=ailment, variants={"int8": behaviour}))
    wanted, acknowledged = set(), set()
    for event in events:
        if isinstance(event, Desired):
            wanted |= {m.active for m in event.models}
            life.tell(event)
        elif isinstance(event, float):
            life.wait(event)
        elif event == "boot":
            life.give(Booted(now=life.now))
        elif event == "host":
            life.give(HostSeen(now=life.now, presence=Presence(session=int(life.now) + 1, online=True)))
        else:
            acknowledged |= set(life.state.outbox)
            life.give(Acknowledged(now=life.now, ids=tuple(life.state.outbox)))

    followed = [r.sequence for r in life.said(DeviceTopic.REPORTED)]
    filed = {json.loads(s.payload)["id"] for s in life.sent if s.kind is DeviceTopic.REPORT}
    floods = {name for name in filed if ailment is Ailment.FLOODING and "-incident-" in name}

    assert followed == sorted(followed)
    assert set(life.state.served) <= wanted
    assert filed - acknowledged - set(life.state.outbox) <= floods
